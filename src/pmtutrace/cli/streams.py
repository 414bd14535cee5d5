"""The standard streams, whatever state we were given them in."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def settle() -> None:
    """Make sure that all three exist, and that no character can fail to be written.

    A closed descriptor would otherwise be the number of the next file opened, and what is printed
    would go into that.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, that is this one
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 -- stays open
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def give_up() -> None:
    """Let go of what cannot be written: Python would complain once more when it flushes at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def end_line() -> None:
    """End the line of a terminal on which ^C was typed, so that the prompt does not follow it."""
    if sys.stderr.isatty():
        with contextlib.suppress(OSError):  # it may have hung up
            sys.stderr.write("\n")
            sys.stderr.flush()
