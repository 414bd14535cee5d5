"""The path MTU exceptions of all network namespaces, looked at whenever asked."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

from pmtutrace.kernel.spaces import Spaces
from pmtutrace.pmtu.history import History
from pmtutrace.pmtu.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pmtutrace.events import PathMtuChange
    from pmtutrace.pmtu.changes import Dump, Known

LOOK_EVERY_S = 1.0  # the shortest life that `mtu_expires` can give
LOOK_SHARE = 0.05  # of one core: a walk through a million routes takes its time


class Watch:
    """What there is, and what has changed since the last look.

    Args:
        only: inodes of the namespaces that are wanted; None for all.
        families: what to read, of 4 and 6.
    """

    def __init__(
        self, only: Collection[int] | None = None, families: frozenset[int] = frozenset((4, 6))
    ) -> None:
        self.history = History()
        self._spaces = Spaces(lambda inum: Reader(inum, families), only)
        self._watched: set[int] | None = None
        self._last: dict[int, Dump] = {}
        self._due = 0.0

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all namespaces."""
        self._spaces.close()

    @property
    def unread(self) -> int:
        """Return how many namespaces could not be entered."""
        return self._spaces.missing

    def look(self) -> list[PathMtuChange]:
        """Read all exceptions; return what changed since the last time, in order of time.

        What is there at the first look has not changed.

        Raises:
            OSError: no namespace at all could be read.
        """
        began = time.monotonic()
        if began >= self._spaces.scan_at:
            self._spaces.scan()
        found: list[PathMtuChange] = []
        first, watched = self._watched is None, self._watched or set()
        for inum in watched - self._spaces.held.keys():
            found += self.history.forget(inum, time.time_ns())
        dumps = self._dumps()
        self._last = {dump.netns: dump for dump in dumps}
        for dump in dumps:
            if first:
                self.history.begin(dump)
            else:
                found += self.history.take(dump)
        self._watched = set(self._spaces.held)
        ended = time.monotonic()
        self._due = max(began + LOOK_EVERY_S, ended + (ended - began) * (1 / LOOK_SHARE - 1))
        return sorted(found, key=lambda change: change.ts)

    def now(self) -> Iterator[tuple[Dump, Known]]:
        """Yield what the last look found, each with the dump of its namespace."""
        for inum in sorted(self._last):
            for known in self.history.known(inum):
                yield self._last[inum], known

    def wait(self) -> None:
        """Wait until it is time to look again; open what namespaces come meanwhile."""
        poll = select.poll()
        poll.register(self._spaces.mounts, select.POLLPRI | select.POLLERR)
        while (left := self._due - time.monotonic()) > 0:
            if poll.poll(left * 1000):
                self._spaces.scan()

    def _dumps(self) -> list[Dump]:
        found, failure = [], None
        for reader in self._spaces.held.values():
            try:
                found.append(reader.read())
            except OSError as error:  # not this time; the next dump catches up
                failure = error
        if failure and not found:
            raise failure
        return found
