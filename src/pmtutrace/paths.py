"""Where pmtutrace lies, and where it keeps what it can make again.

One folder for images, symbol ranges and fetched kernels: ``$PMTUTRACE_CACHE``, else
``$XDG_CACHE_HOME/pmtutrace``, else ``~/.cache/pmtutrace`` (XDG Base Directory Specification).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from pmtutrace.errors import UsageError

PACKAGES = Path(__file__).resolve().parents[1]


def module(name: str, *words: str) -> tuple[list[str], dict[str, str]]:
    """Return words and environment that run a module of ours as a process of its own."""
    search = [str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    # -P: root must not import what lies in its current folder.
    command = [sys.executable, "-P", "-m", name, *words]
    return command, {**os.environ, "PYTHONPATH": os.pathsep.join(search)}


def cache(*parts: str) -> Path:
    """Return a folder below the cache, made with mode 0700 if it is not there.

    Kernel addresses are kept in it, so nobody but its owner may read it.

    Raises:
        UsageError: if it cannot be made or written.
    """
    named = os.environ.get("PMTUTRACE_CACHE")
    base = (
        Path(named)
        if named
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pmtutrace"
    )
    folder = base.joinpath(*parts)
    hint = "name another folder in $PMTUTRACE_CACHE"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the cache {folder} cannot be made: {error.strerror}", hint) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"the cache {folder} cannot be written", hint)
    return folder


def prune(folder: Path, keep: int = 32) -> None:
    """Remove all but the files of a cache folder that were written last."""
    with contextlib.suppress(OSError):  # somebody else may be tidying up, too
        files = sorted(
            (f for f in folder.iterdir() if f.is_file()), key=lambda f: f.stat().st_mtime
        )
        for file in files[:-keep]:
            file.unlink()


def read_private(path: Path) -> bytes:
    """Return a file's content, if nobody but us or root can have written it.

    Raises:
        OSError: if it cannot be read, or somebody else can have.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "others can write it", str(path))
        return file.read()


def write_private(path: Path, data: bytes) -> None:
    """Replace a file in one step, readable by its owner only: somebody may be reading the old one.

    Raises:
        OSError: if it cannot be written; then there is nothing new.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 -- a descriptor, not a path
            file.write(data)
        temporary.replace(path)
    except BaseException:  # also a signal
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
