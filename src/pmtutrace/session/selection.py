"""What somebody wants to see of a session: events that a filter lets through, and their totals."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from pmtutrace.session import schema
from pmtutrace.session.file import END
from pmtutrace.tracing.decode import OVERFLOW
from pmtutrace.tracing.filters import Filter
from pmtutrace.tracing.summary import Tally, summarize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pmtutrace.events import Counter, CounterKey, Event
    from pmtutrace.session.reader import Reader
    from pmtutrace.session.writer import Delta

NSEC = 1_000_000_000
NOT_DROPPED = "none"  # the verdict of what left as fragments


class Names:
    """What network namespaces were called, as time went on."""

    def __init__(self, reader: Reader) -> None:
        self._spaces = sorted(reader.states(schema.Space), key=lambda space: space.ts)
        self._now: dict[int, str] = {}
        self.rewind()

    def rewind(self) -> None:
        """Begin anew, so that earlier times can be asked for."""
        self._at = 0
        for space in reversed(self._spaces):  # the first name holds from the start
            self._now[space.netns] = space.name

    def inodes(self, name: str) -> set[int]:
        """Return the namespaces that were ever called so, or have that inode in decimal."""
        found = {space.netns for space in self._spaces if space.name == name}
        return found or ({int(name)} if name.isdecimal() else set())

    def times(self, name: str) -> dict[int, list[tuple[int, int]]]:
        """Return the namespaces of :meth:`inodes`, and from when until when each was called so.

        Inodes are used again. Of one that never had a name, or is asked for itself, it is always.
        """
        out: dict[int, list[tuple[int, int]]] = {}
        for inode in self.inodes(name):
            called = [(space.ts, space.name) for space in self._spaces if space.netns == inode]
            begins = [0, *(ts for ts, _ in called[1:]), END]
            spans = itertools.pairwise(begins)
            own = [span for span, (_, one) in zip(spans, called, strict=False) if one == name]
            out[inode] = own or [(0, END)]
        return out

    def at(self, ts: int) -> Mapping[int, str]:
        """Return the names by inode at a time that is no earlier than any asked for before."""
        while self._at < len(self._spaces) and self._spaces[self._at].ts <= ts:
            self._now[self._spaces[self._at].netns] = self._spaces[self._at].name
            self._at += 1
        return self._now


class Selection:
    """The events of a session that somebody wants to see.

    Args:
        reader: of the session.
        wanted: the filter.
        since: nanoseconds since 1970, None for the start.
        until: likewise; what happened then is no longer wanted.
    """

    def __init__(
        self, reader: Reader, wanted: Filter, since: int | None = None, until: int | None = None
    ) -> None:
        self._reader = reader
        self.wanted = wanted
        self._since = since
        self._until = until
        self._second = 0
        options = reader.manifest.get("options")
        followed = isinstance(options, dict) and options.get("paths") is True
        self._tally = Tally() if followed else None

    def events(self, *, packets: bool = False) -> Iterator[Event]:
        """Yield what is wanted; called again, what has come since."""
        for brought in self._reader.spans(self._since, self._until, self._second):
            for _, event in self._reader.events(brought.events, packets=packets):
                if self._matches(event):
                    if self._tally is not None:
                        self._tally.take(event)
                    yield event
            self._second = brought.second

    def _matches(self, event: Event) -> bool:
        if self._since is not None and event.ts < self._since:
            return False
        if self._until is not None and event.ts >= self._until:
            return False
        try:
            return self.wanted.matches(event)
        except ValueError:  # an address that is none
            self._reader.file.damaged += 1
            return False

    def counters(self) -> Iterator[tuple[schema.Counted, Counter]]:
        """Yield what was counted meanwhile, to a second, where the filter lets it through."""
        seconds = self._reader.seconds(self._since, self._until)
        if seconds is None:
            return
        for counted, counter in self._reader.counters(seconds):
            if counted.key.site == OVERFLOW or self._counts(counted):
                yield counted, counter

    def _counts(self, counted: schema.Counted) -> bool:
        self.wanted.know(counted.key, counted.dev, counted.tunnel)
        try:
            return self.wanted.counts(counted.key)
        except ValueError:
            self._reader.file.damaged += 1
            return False

    def deltas(self) -> Iterator[tuple[int, int, Delta]]:
        """Yield by how much counters moved, with the beginning and the end of that second."""
        for since, until, delta in self._reader.deltas(self._since, self._until):
            if delta.counted.key.site == OVERFLOW or self._counts(delta.counted):
                yield since, until, delta

    def summary(self, streamed: int) -> dict[str, Any]:
        """Return the closing line as ``trace`` would have given it.

        Args:
            streamed: how many events were shown.
        """
        drops: dict[CounterKey, Counter] = {}
        fragments: dict[CounterKey, Counter] = {}
        for counted, counter in self.counters():
            into = fragments if counted.key.verdict == NOT_DROPPED else drops
            before = into.get(counted.key)
            into[counted.key] = before.joined(counter) if before else counter
        seconds = self._reader.seconds(self._since, self._until)
        losses = dict.fromkeys(self._kinds(), 0)
        if seconds is not None:
            losses |= self._reader.losses(seconds)
        return summarize(
            {key: counter for key, counter in drops.items() if counter.packets},
            fragments,
            losses,
            wanted=Filter(),
            seconds=self.length(),
            streamed=streamed,
            tally=self._tally,
        )

    def length(self) -> float:
        """Return for how many seconds was recorded, of the time that is wanted."""
        began, ended = self._reader.time()
        began = max(began, self._since or 0)
        ended = min(ended, ended if self._until is None else self._until)
        return max(0, ended - began) / NSEC

    def _kinds(self) -> list[str]:
        said = self._reader.manifest.get("losses")
        kinds = said if isinstance(said, list) else []
        return ["ring_full", "received", *(kind for kind in kinds if isinstance(kind, str))]
