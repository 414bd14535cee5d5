"""Which file comes next, and which old ones go: only those that the same recorder has written."""

from __future__ import annotations

import contextlib
import re
import socket
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace.errors import PmtutraceError
from pmtutrace.session.writer import ENDINGS, size

if TYPE_CHECKING:
    from collections.abc import Iterator

NSEC = 1_000_000_000
STAMP = re.compile(r"-\d{8}T\d{6}\.\d{3}Z")
SHARE = 4  # a session that may take all the room there is for a series leaves nothing to delete


@dataclass(frozen=True, slots=True)
class Rotation:
    """When to begin a new file, and for how long old ones are kept.

    Args:
        seconds: the longest that one session lasts.
        size: the most octets that it takes on disk.
        keep: seconds after its last write for which a session is kept.
        most: octets that all sessions of a series may take.
    """

    seconds: float | None = None
    size: int | None = None
    keep: float | None = None
    most: int | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is a series at all, and not just one file."""
        return self.seconds is not None or self.size is not None

    def due(self, age: float, size: int) -> bool:
        """Say if a session of that age in seconds and size in octets is to end."""
        return self.wanted and (
            (self.seconds is not None and age >= self.seconds)
            or (self.size is not None and size >= self.size)
            or (self.most is not None and size >= self.most // SHARE)
        )


def series(path: Path, ts: int) -> Path:
    """Return the name of the session of a series that begins at ``ts``, nanoseconds since 1970."""
    moment = datetime.fromtimestamp(ts // NSEC, UTC)
    stamp = f"{moment:%Y%m%dT%H%M%S}.{ts % NSEC // 1_000_000:03d}Z"
    return path.with_name(f"{path.stem}-{stamp}{path.suffix}")


def tidy(path: Path, rotation: Rotation, now: int, current: Path | None) -> list[Path]:
    """Delete the sessions of a series that are too old or too many; return them.

    Args:
        path: what the series is called after.
        rotation: what to keep.
        now: nanoseconds since 1970.
        current: the one that is being written.
    """
    if rotation.keep is None and rotation.most is None:
        return []
    sizes = {file: size(file) for file in _files(path) if file != current}
    total = sum(sizes.values()) + (size(current) if current else 0)
    gone = []
    for file in sorted(sizes):
        old = rotation.keep is not None and now - _written(file) > rotation.keep * NSEC
        if not old and (rotation.most is None or total <= rotation.most):
            continue
        if _is_ours(file, path):
            for end in ENDINGS:
                with contextlib.suppress(OSError):
                    Path(f"{file}{end}").unlink()
            total -= sizes[file]
            gone.append(file)
    return gone


def _files(path: Path) -> Iterator[Path]:
    """Yield what is called like a session of the series; nothing else is even looked at."""
    with contextlib.suppress(OSError):
        for file in path.parent.iterdir():
            middle = file.name.removeprefix(path.stem).removesuffix(path.suffix)
            if file.name == f"{path.stem}{middle}{path.suffix}" and STAMP.fullmatch(middle):
                yield file


def _is_ours(file: Path, path: Path) -> bool:
    """Say if a file says of itself that this host has written it, in this series."""
    from pmtutrace.session.reader import Reader

    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            return False
        with Reader(file) as reader:
            said = reader.manifest.get("series"), reader.manifest.get("host")
    except (OSError, PmtutraceError):
        return False
    return said == (path.name, socket.gethostname())


def _written(file: Path) -> int:
    """Return when a file was last written, nanoseconds since 1970; of one that is gone, now."""
    try:
        return file.lstat().st_mtime_ns
    except OSError:
        return 2**63 - 1
