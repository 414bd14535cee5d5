"""Ring when links change in any network namespace, or when namespaces come and go.

A netlink socket per namespace is the bell: that it has something to read is all that counts.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING

from pmtutrace.kernel import netlink
from pmtutrace.kernel.spaces import Spaces

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

SETTLE_S = 0.05  # a tunnel is made in several steps: act after the last one …
SETTLE_AT_MOST_S = 0.5  # … but not never, on a host whose links change all the time


class Watch:
    """The bells of all namespaces and the owner's wish to end, in one epoll.

    Args:
        wake: an eventfd; once it is readable, every wait ends.
    """

    def __init__(self, wake: int) -> None:
        self._wake = wake
        self._epoll = select.epoll()
        self._spaces = Spaces(self._hang)
        self._first_ring = self._last_ring = 0.0

    def __enter__(self) -> Watch:
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(self._spaces.mounts, select.EPOLLPRI | select.EPOLLERR)
        self._spaces.scan()
        self._first_ring = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self._spaces.close()
        self._epoll.close()

    def ring(self) -> None:
        """Have the next wait end, as if links had changed."""
        self._last_ring = time.monotonic()
        self._first_ring = self._first_ring or self._last_ring

    def wait_for_ring(self, not_before: float) -> bool:
        """Wait until something rang and settled, and for a monotonic time; False when to end."""
        while True:
            now = time.monotonic()
            due = self._spaces.scan_at
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
                ready = self._poll(max(0.0, self._spaces.scan_at - time.monotonic()))
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
        rang = [bell for bell in self._spaces.held.values() if bell.fileno() in ready]
        for bell in rang:
            for _ in netlink.heard(bell):
                pass  # that it rang is all it has to say
        changed = False
        if self._spaces.mounts in ready or time.monotonic() >= self._spaces.scan_at:
            changed = self._spaces.scan()
        if rang or changed:
            self.ring()
        return ready | {-1}

    @contextlib.contextmanager
    def _watched(self, descriptor: int) -> Iterator[None]:
        self._epoll.register(descriptor, select.EPOLLIN)
        try:
            yield
        finally:
            self._epoll.unregister(descriptor)

    def _hang(self, _inum: int) -> socket.socket:
        bell = netlink.opened((netlink.LINK,))
        try:
            self._epoll.register(bell, select.EPOLLIN)
        except OSError:
            bell.close()
            raise
        return bell
