"""Files that a verb writes: new ones, that only we may read."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT = Path("-")


@contextlib.contextmanager
def output(path: Path | None) -> Iterator[BinaryIO]:
    """Open a file that was not there before, with mode 0600; stdout for None and ``-``.

    Raises:
        UsageError: it is there, or cannot be made.
    """
    from pmtutrace.errors import UsageError

    if path is None or path == STDOUT:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be made: {error.strerror}", "name a new file in a folder of yours"
        ) from error
    with os.fdopen(descriptor, "wb") as out:
        yield out
