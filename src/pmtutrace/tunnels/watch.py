"""Ring when links change in any network namespace, or when namespaces come and go.

A NETLINK_ROUTE socket per namespace is the bell: that it has something to read is all that counts.
Namespaces that get or lose their name are seen in the mount table (proc(5): poll on
``/proc/self/mountinfo``), those without one by looking at ``/proc`` now and then.

A socket keeps its namespace alive, so a bell goes as soon as nothing else holds the namespace.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from typing import TYPE_CHECKING

from pmtutrace.errors import PmtutraceError
from pmtutrace.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Iterator

RTMGRP_LINK = 1
SETTLE_S = 0.05  # a tunnel is made in several steps: act after the last one …
SETTLE_AT_MOST_S = 0.5  # … but not never, on a host whose links change all the time
SCAN_EVERY_S = 2.0
SCAN_SHARE = 0.01  # of one core, on hosts with very many processes


class Watch:
    """The bells of all namespaces and the owner's wish to end, in one epoll.

    Args:
        wake: an eventfd; once it is readable, every wait ends.
    """

    def __init__(self, wake: int) -> None:
        self._wake = wake
        self._epoll = select.epoll()
        self._mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._bells: dict[int, socket.socket] = {}
        self._known: frozenset[int] = frozenset()
        self._scan_at = 0.0
        self._first_ring = self._last_ring = 0.0

    def __enter__(self) -> Watch:
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(self._mounts, select.EPOLLPRI | select.EPOLLERR)
        self._scan()
        self._first_ring = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        for bell in self._bells.values():
            bell.close()
        os.close(self._mounts)
        self._epoll.close()

    def wait_for_ring(self, not_before: float) -> bool:
        """Wait until something rang and settled, and for a monotonic time; False when to end."""
        while True:
            now = time.monotonic()
            due = self._scan_at
            if self._first_ring:
                settled = min(self._last_ring + SETTLE_S, self._first_ring + SETTLE_AT_MOST_S)
                due = max(settled, not_before)
                if now >= due:
                    self._first_ring = 0.0
                    return True
            if not self._poll(max(0.0, due - now)):
                return False

    def read_all(self, descriptor: int) -> bytes | None:
        """Read a pipe to its end, hearing the bells meanwhile; None when to end."""
        parts: list[bytes] = []
        with self._watched(descriptor):
            while True:
                ready = self._poll(max(0.0, self._scan_at - time.monotonic()))
                if not ready:
                    return None
                if descriptor in ready:
                    part = os.read(descriptor, 65536)
                    if not part:
                        return b"".join(parts)
                    parts.append(part)

    def _poll(self, timeout: float) -> set[int]:
        """Wait once, note what rang; return the ready descriptors and -1, nothing when to end."""
        ready = {descriptor for descriptor, _ in self._epoll.poll(timeout)}
        if self._wake in ready:
            return set()
        rang = [bell for bell in self._bells.values() if bell.fileno() in ready]
        for bell in rang:
            _silence(bell)
        changed = False
        if self._mounts in ready or time.monotonic() >= self._scan_at:
            changed = self._scan()
        if rang or changed:
            self._last_ring = time.monotonic()
            self._first_ring = self._first_ring or self._last_ring
        return ready | {-1}

    @contextlib.contextmanager
    def _watched(self, descriptor: int) -> Iterator[None]:
        self._epoll.register(descriptor, select.EPOLLIN)
        try:
            yield
        finally:
            self._epoll.unregister(descriptor)

    def _scan(self) -> bool:
        """Hang a bell in each new namespace, take down those of gone ones; say if any changed."""
        started = time.monotonic()
        spaces = {space.inum: space.path for space in netns.all_namespaces()}
        for inum in self._bells.keys() - spaces.keys():
            self._bells.pop(inum).close()
        for inum in spaces.keys() - self._bells.keys():
            # Gone again, or no descriptor left: whatever rings elsewhere still has it read.
            with contextlib.suppress(OSError, PmtutraceError), netns.entered(spaces[inum]) as found:
                self._hang(found)
        ended = time.monotonic()
        self._scan_at = ended + max(SCAN_EVERY_S, (ended - started) / SCAN_SHARE)
        known, self._known = self._known, frozenset(spaces)
        return known != self._known

    def _hang(self, inum: int) -> None:
        bell = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        try:
            bell.bind((0, RTMGRP_LINK))
            self._epoll.register(bell, select.EPOLLIN)
        except OSError:
            bell.close()
            raise
        old = self._bells.pop(inum, None)
        if old:
            old.close()
        self._bells[inum] = bell


def _silence(bell: socket.socket) -> None:
    """Throw away what a bell has to say."""
    while True:
        try:
            bell.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # that one says that it rang more than it could hold
                raise
