"""Network namespaces: by inode, by name, and running something inside one.

A namespace is known by its inode number (``stat(2)`` of ``/proc/PID/ns/net``; the kernel's
``net->ns.inum``), and by its name where ``ip netns`` or a container engine gave it one, that is
where a file in ``/run/netns`` stands for it (ip-netns(8)). Inode numbers are used again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pmtutrace.errors import PrivilegeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUN = Path("/run/netns")
OWN = Path("/proc/thread-self/ns/net")
CLONE_NEWNET = 0x40000000
ENDS_WITHIN_S = 5.0  # whatever is run in a thread of its own

T = TypeVar("T")


class Namespace(NamedTuple):
    """One network namespace. ``path`` can be opened to enter it, while whatever holds it lives."""

    inum: int
    name: str | None
    path: str


def names() -> dict[int, str]:
    """Return the names in ``/run/netns`` by inode; of several names the first in order counts."""
    return {space.inum: space.name or "" for space in reversed(_named())}


def inum(name: str) -> int:
    """Return the inode of the namespace of that name, or of that inode in decimal.

    Raises:
        UsageError: there is none.
    """
    return find(name).inum


def current() -> int:
    """Return the inode of the calling thread's namespace."""
    return OWN.stat().st_ino


def all_namespaces() -> list[Namespace]:
    """Return every namespace that has a name or a process in it, each once, in order of inode."""
    found = {space.inum: space for space in reversed(_named())}
    for process in Path("/proc").glob("[0-9]*"):
        path = process / "ns" / "net"
        with contextlib.suppress(OSError):  # gone in the meantime, or not ours to see
            node = path.stat().st_ino
            found.setdefault(node, Namespace(node, None, str(path)))
    return [found[node] for node in sorted(found)]


def find(name: str) -> Namespace:
    """Return the namespace of that name, or of that inode in decimal.

    Raises:
        UsageError: there is none.
    """
    named = _named()
    for space in named:
        if space.name == name:
            return space
    if name.isdecimal():
        for space in all_namespaces():
            if space.inum == int(name):
                return space
    known = ", ".join(sorted(space.name or "" for space in named)[:12])
    raise UsageError(
        f"no network namespace is called {name!r}",
        f"named here: {known}" if known else "`lsns -t net` lists them; an inode is a name too",
    )


@contextlib.contextmanager
def entered(path_or_name: str | Path) -> Iterator[int]:
    """Put the calling thread into a namespace and bring it back; give the inode.

    Threads that run already stay where they are; threads, processes and sockets that this one
    makes meanwhile are born inside, and stay.

    Args:
        path_or_name: a path (anything with a slash), a name in ``/run/netns``, or an inode.

    Raises:
        UsageError: there is no such namespace, or the path is that of something else.
        PrivilegeError: setns(2) needs CAP_SYS_ADMIN.
    """
    with contextlib.ExitStack() as stack:
        home = _opened(str(OWN), stack)
        target = _opened(_path(path_or_name), stack)
        if os.path.samestat(os.fstat(home), os.fstat(target)):
            yield os.fstat(home).st_ino  # setns(2) would ask for privileges even so
            return
        _setns(target)
        try:
            yield os.fstat(target).st_ino
        finally:
            _setns(home)


def run_in(path_or_name: str | Path, function: Callable[[], T]) -> T:
    """Run a function in a fresh thread inside a namespace; return or raise what it did.

    Sockets opened there stay in that namespace, and processes started there are born in it.
    """

    def inside() -> T:
        with entered(path_or_name):
            return function()

    return _in_thread(inside, f"in {path_or_name}")


def run_in_new(function: Callable[[], T]) -> T:
    """Run a function in a fresh thread inside a fresh namespace; return or raise what it did.

    The namespace lives on if the function keeps a hold on ``/proc/thread-self/ns/net``.
    """

    def inside() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET):
            raise PrivilegeError("a network namespace cannot be made", "run it as root")
        return function()

    return _in_thread(inside, "in a new namespace")


def _in_thread(function: Callable[[], T], name: str) -> T:
    results: list[T] = []
    failures: list[BaseException] = []
    given_up: list[bool] = []

    def body() -> None:
        if given_up:
            return
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=body, name=name, daemon=True)
    try:
        thread.start()
        thread.join()
    except BaseException:
        # A signal: what the thread makes would come after its caller has cleaned up. It has its
        # identity before it looks, so it does nothing or is waited for.
        given_up.append(True)
        if thread.ident is not None:
            with contextlib.suppress(RuntimeError):  # it has only just begun, and does nothing
                thread.join(ENDS_WITHIN_S)
        raise
    if failures:
        raise failures[0]
    return results[0]


def _named() -> list[Namespace]:
    """Return the namespaces of ``/run/netns`` in order of name, without leftovers of a crash."""
    try:
        paths = sorted(RUN.iterdir())
    except (FileNotFoundError, PermissionError):
        return []
    device = OWN.stat().st_dev  # that of nsfs: any other file there is no namespace
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            if status.st_dev == device:
                found.append(Namespace(status.st_ino, path.name, str(path)))
    return found


def _path(path_or_name: str | Path) -> str:
    text = str(path_or_name)
    return text if "/" in text else find(text).path


def _opened(path: str, stack: contextlib.ExitStack) -> int:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise PrivilegeError(f"{path} may not be opened", "run it as root") from error
    except OSError as error:
        raise UsageError(
            f"the network namespace {path} cannot be opened: {error.strerror}"
        ) from error
    stack.callback(os.close, handle)
    return handle


def _setns(handle: int) -> None:
    """Move the calling thread (setns(2)); Python has os.setns from 3.12 on only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, CLONE_NEWNET) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EPERM:
        raise PrivilegeError("entering a network namespace is not permitted", "run it as root")
    if code == errno.EINVAL:
        raise UsageError("the file is not a network namespace")
    raise OSError(code, os.strerror(code), "setns")
