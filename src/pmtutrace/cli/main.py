"""The outermost frame of the command line: signals, streams, and errors as one line and a hint.

Nothing that takes long to import is imported at the top, so that a ^C finds us prepared.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from pmtutrace.cli import signals, streams
from pmtutrace.errors import PmtutraceError, UsageError
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click import ClickException

# To look for garbage each time that 700 objects have been made, as Python does, takes a tenth of
# the time until all is imported, and finds none.
OBJECTS = 20_000
TRACING = ("trace", "record")  # and where no verb is named
OTHERWISE = ("--help", "-h", "--version", "--image", "--extcap-")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code that the help names: 0, 1, 2, 3, 4 or 77."""
    gc.set_threshold(OBJECTS)
    code = 0  # also of ^C, which is a way to end, not a failure
    with contextlib.suppress(KeyboardInterrupt):
        signals.raise_at_end()
        streams.settle()
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        signals.ignore()
    signals.ignore()
    _end()
    streams.give_up()
    sys.exit(code)


def _begin(words: list[str]) -> None:
    """Begin with what takes longest if this will probably trace: all else is imported meanwhile."""
    first = next((word for word in words if word != "--debug"), "-")
    tracing = first in TRACING or first.startswith("-")
    if tracing and not any(word.startswith(OTHERWISE) for word in words) and not os.geteuid():
        from pmtutrace.tracing import usual

        usual.begin()


def _end() -> None:
    """End what :func:`_begin` has begun, if nobody has taken it: it must not outlive us."""
    usual = sys.modules.get("pmtutrace.tracing.usual")
    if usual is not None:
        usual.end()


def _run(words: list[str]) -> int:
    _begin(words)
    import click

    from pmtutrace.cli.verbs import cli

    debug = "--debug" in itertools.takewhile(lambda word: word.startswith("-"), words)
    try:
        code = cli.main(args=words, prog_name="pmtutrace", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        return 0
    except click.ClickException as error:
        return _misused(error)
    except BrokenPipeError:
        return 0
    except PmtutraceError as error:
        if debug:
            raise
        return complain(error)
    except OSError as error:
        if debug:
            raise
        named = f"{error.filename}: " if error.filename else ""
        hint = "`pmtutrace --debug VERB …` shows where"
        return complain(PmtutraceError(f"{named}{error.strerror or error}", hint))
    return code if isinstance(code, int) else 0


def complain(error: PmtutraceError) -> int:
    """Print an error as one line and one hint; return its exit code."""
    from pmtutrace.cli import systemd

    mark = systemd.mark(systemd.ERROR)
    print(f"{mark}pmtutrace: {printable(error.message)}", file=sys.stderr)
    hint = error.hint or "`pmtutrace doctor` says what works here"
    print(f"{mark}hint: {printable(hint)}", file=sys.stderr)
    return error.exit_code


def _misused(error: ClickException) -> int:
    """Print what click has to say about the arguments, as any other error."""
    said, context = error.format_message(), getattr(error, "ctx", None)
    if "\n" in said:
        error.show()  # the help itself, where nothing was said at all
        return error.exit_code
    path = context.command_path if context else "pmtutrace"
    return complain(UsageError(said.rstrip("."), f"see `{path} --help`"))


if __name__ == "__main__":
    main()
