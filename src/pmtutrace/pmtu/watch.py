"""The path MTU exceptions of all network namespaces, looked at whenever asked."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

from pmtutrace.kernel.spaces import Spaces
from pmtutrace.pmtu.history import History
from pmtutrace.pmtu.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pmtutrace.events import PathMtuChange
    from pmtutrace.pmtu.changes import Dump, Known
    from pmtutrace.pmtu.ears import Ears
    from pmtutrace.pmtu.exceptions import PathMtu
    from pmtutrace.pmtu.news import InForce, News

LOOK_EVERY_S = 1.0  # the shortest life that `mtu_expires` can give
LOOK_SHARE = 0.05  # of one core: a walk through a million routes takes its time
ASKED_AT_MOST = 1000  # routes at a look, some 10 ms
HEAR_EVERY_S = 0.05  # in a storm there is always something to hear


class Watch:
    """What there is, and what has changed since the last look.

    Args:
        only: inodes of the namespaces that are wanted; None for all.
        families: what to read, of 4 and 6.
        listen: whether to hear, by a socket, of messages that arrive.
        every_s: seconds from one look to the next, or more where they take long.
    """

    def __init__(
        self,
        only: Collection[int] | None = None,
        families: frozenset[int] = frozenset((4, 6)),
        *,
        listen: bool = False,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._every_s = every_s
        self.history = History()
        self._ears = _ears() if listen else None
        self._spaces = Spaces(lambda inum: Reader(inum, families, self._ears), only)
        self._watched: set[int] | None = None
        self._last: dict[int, Dump] = {}
        self._due = 0.0
        self._rested_at = 0.0
        self._heard_at = 0.0

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all namespaces."""
        if self._ears is not None:
            self._ears.close()
        self._spaces.close()

    @property
    def unread(self) -> int:
        """Return how many namespaces could not be entered."""
        return self._spaces.missing

    @property
    def listens(self) -> bool:
        """Say whether messages that arrive are heard here."""
        return self._ears is not None

    def look(self) -> list[PathMtuChange]:
        """Read all exceptions; return what changed since the last time, in order of time.

        What is there at the first look has not changed.

        Raises:
            OSError: no namespace at all could be read.
        """
        return self.take(self.read())

    def read(self, only: Collection[int] | None = None) -> list[Dump]:
        """Read the exceptions of these namespaces, or of all, without saying what has changed.

        Raises:
            OSError: none of them could be read.
        """
        # What counts is what it takes of a core: on a busy machine it takes longer, not more.
        began, worked = time.monotonic(), time.thread_time()
        if began >= self._spaces.scan_at:
            self._spaces.scan()
        dumps = self._dumps(only)
        pause = (time.thread_time() - worked) * (1 / LOOK_SHARE - 1)
        self._rested_at = time.monotonic() + pause
        if only is None:
            self._due = max(began + self._every_s, self._rested_at)
        return dumps

    def take(self, dumps: Iterable[Dump]) -> list[PathMtuChange]:
        """Return what has changed until these were read, in order of time.

        What the kernel said of the time before has to be told first: :meth:`.History.told`.
        """
        found: list[PathMtuChange] = []
        first, watched = self._watched is None, self._watched or set()
        held = self._spaces.held.keys()
        for inum in (watched | self.history.spaces()) - held:
            found += self.history.forget(inum, time.time_ns())
            self._last.pop(inum, None)
        for dump in dumps:
            self._last[dump.netns] = dump
            if first:
                self.history.begin(dump)
            else:
                found += self.history.take(dump)
        self._watched = set(held)
        return sorted(found, key=lambda change: change.ts)

    def now(self) -> Iterator[tuple[Dump, Known]]:
        """Yield what the last look found, each with the dump of its namespace."""
        for inum in sorted(self._last):
            for known in self.history.known(inum):
                if known.shown:
                    yield self._last[inum], known

    def heard(self, *, last: bool = False) -> list[News]:
        """Return messages that have arrived since last asked, if it listens.

        Of very many, some wait until it is asked again; ``last`` says that nobody will.
        """
        self._heard_at = time.monotonic()
        return self._ears.heard(last=last) if self._ears is not None else []

    @property
    def unheard(self) -> int:
        """Return how many messages have arrived that will never be heard: there were too many."""
        return self._ears.lost() if self._ears is not None else 0

    def in_force(self, netns: int, daddr: str) -> InForce | None:
        """Return the MTU in force from a namespace to an address now; None without a way."""
        reader = self._spaces.held.get(netns)
        return reader.in_force(daddr) if reader else None

    def no_pmtu_disc(self, netns: int) -> int:
        """Return ``net.ipv4.ip_no_pmtu_disc`` of a namespace."""
        reader = self._spaces.held.get(netns)
        return reader.no_pmtu_disc() if reader else 0

    @property
    def due(self) -> bool:
        """Say whether it is time to look; open what namespaces have come meanwhile."""
        if self._stirred(0, hear=False):
            self._spaces.scan()
        return time.monotonic() >= self._due

    @property
    def rested(self) -> bool:
        """Say whether reading something before a look is due stays within its share of a core."""
        return time.monotonic() >= self._rested_at

    def wait(self, at_most: float = LOOK_EVERY_S) -> None:
        """Wait until it is time to look again, or something is heard; open new namespaces."""
        end = min(self._due, time.monotonic() + at_most)
        deaf = min(end, self._heard_at + HEAR_EVERY_S)
        for until, hear in ((deaf, False), (end, True)):
            while (left := until - time.monotonic()) > 0 and self._stirred(left, hear=hear):
                self._spaces.scan()

    def _stirred(self, within_s: float, *, hear: bool) -> bool:
        """Say if namespaces may have come or gone; end at once if something is heard."""
        poll = select.poll()
        poll.register(self._spaces.mounts, select.POLLPRI | select.POLLERR)
        if hear and self._ears is not None:
            poll.register(self._ears, select.POLLIN)
        return any(number == self._spaces.mounts for number, _ in poll.poll(within_s * 1000))

    def _unmet(self, inum: int) -> list[PathMtu]:
        unmet = self.history.unmet(inum)
        if len(unmet) <= ASKED_AT_MOST:
            return unmet
        import random

        # Some may never be found: none may keep the others from being asked for.
        return random.sample(unmet, ASKED_AT_MOST)

    def _dumps(self, only: Collection[int] | None) -> list[Dump]:
        found, failure = [], None
        for inum, reader in self._spaces.held.items():
            if only is not None and inum not in only:
                continue
            try:
                found.append(reader.read(self._unmet(inum)))
            except OSError as error:  # not this time; the next dump catches up
                failure = error
        if failure and not found:
            raise failure
        return found


def _ears() -> Ears:
    from pmtutrace.pmtu.ears import Ears

    return Ears()
