"""One clock for one host: what its clock was set to last is taken for right.

Every second of a session says how far CLOCK_BOOTTIME, which nobody can set, is from the time of
day. Where that distance changes, the clock was set, and what was recorded before is moved along: so
the sessions of a host since one boot, and those of several hosts whose clocks were set right some
time, lie on one axis.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from pmtutrace.session import schema
from pmtutrace.session.file import END
from pmtutrace.session.reader import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pmtutrace.events import Counter, Event
    from pmtutrace.session.reader import Reader

# Less is how a clock is kept right without being set, and lies within a second of counting anyway.
SET_NS = 100_000_000
MOST_SETS = 256
NEAR_NS = 1_000_000_000  # events wait for so long at most before they are read


@dataclass(frozen=True, slots=True)
class Epoch:
    """A time in which a clock was not set.

    ``seconds`` are the numbers of its first and its last second, ``first_event`` the number from
    which on events are its own, ``began`` what the clock showed at its beginning, or before it was
    set if that was less, ``opening`` what it showed at the beginning and the end of the first
    second, in which it was set, and ``opened`` the number of that second's last event. ``offset``
    leads from CLOCK_BOOTTIME to what the clock showed then, all in nanoseconds.
    """

    seconds: Span
    first_event: int
    began: int
    offset: int
    opening: tuple[int, int]
    opened: int


@dataclass(frozen=True, slots=True)
class Clock:
    """What a clock showed in one session, and what it should have shown.

    ``right`` leads from CLOCK_BOOTTIME to the time of day, nanoseconds. ``epochs`` are in order.
    """

    epochs: tuple[Epoch, ...]
    right: int

    @classmethod
    def of(cls, readers: Sequence[Reader]) -> list[Self]:
        """Return the clock of each session of one host since one boot, in order of time."""
        found = [epochs(reader) for reader in readers]
        offsets = [epoch.offset for group in found for epoch in group] or [0]
        return [cls(tuple(group), offsets[-1]) for group in found]

    def shift(self, epoch: Epoch) -> int:
        """Return what to add to times of an epoch, nanoseconds."""
        return self.right - epoch.offset

    def span(self, number: int, since: int, ts: int) -> tuple[int, int]:
        """Return when a second of a session began and ended.

        Args:
            number: of the second.
            since: what the clock showed at its beginning, 0 where that is not known.
            ts: what it showed at its end.
        """
        now, before = (
            self._of(bisect.bisect_right(self.epochs, at, key=lambda one: one.seconds.first))
            for at in (number, number - 1)
        )
        ended = ts + now
        # If the clock was set meanwhile, nobody knows if that was before or after this beginning.
        begins = [since + shift for shift in (now, before) if since and since + shift <= ended]
        return max(begins, default=ended), ended

    def _of(self, behind: int) -> int:
        return self.shift(self.epochs[max(0, behind - 1)]) if self.epochs else 0

    def events(self, numbered: Iterable[tuple[int, Event]]) -> Iterator[Event]:
        """Yield events, given with their numbers, at the times when they were."""
        if len(self.epochs) == 1 and not self.shift(self.epochs[0]):
            yield from (event for _, event in numbered)
            return
        for number, event in numbered:
            behind = bisect.bisect_right(self.epochs, number, key=lambda one: one.first_event)
            yield replace(event, ts=event.ts + self._of_event(max(0, behind - 1), number, event.ts))

    def _of_event(self, at: int, number: int, ts: int) -> int:
        """Return what to add to the time of an event of the epoch at a place.

        In the second in which the clock was set, events may have been seen before that.
        """
        epoch = self.epochs[at]
        now = self.shift(epoch)
        if not at or number > epoch.opened:
            return now
        before = self.shift(self.epochs[at - 1])
        began, ended = self.span(epoch.seconds.first, *epoch.opening)
        fits = [began - NEAR_NS <= ts + shift <= ended + NEAR_NS for shift in (now, before)]
        return before if fits == [False, True] else now

    def counter(self, epoch: Epoch, counter: Counter) -> Counter:
        """Return what was counted in an epoch, at the times when it was."""
        shift = self.shift(epoch)
        if not shift:
            return counter
        return replace(counter, first=counter.first + shift, last=counter.last + shift)

    def time(self, began: int, ended: int) -> tuple[int, int]:
        """Return when a session began and ended, given what the clock showed."""
        if not self.epochs:
            return began, ended
        first, last = (self.shift(epoch) for epoch in (self.epochs[0], self.epochs[-1]))
        return began + first, max(began + first, ended + last)

    def moment(self, ts: int) -> int:
        """Return a time of which only is known what the clock showed; if twice, the later one."""
        return ts + self._of(bisect.bisect_right(self.epochs, ts, key=lambda epoch: epoch.began))

    @property
    def sets(self) -> list[tuple[int, int]]:
        """Return when the clock had been set, to a second, and by how many nanoseconds."""
        pairs = zip(self.epochs, self.epochs[1:], strict=False)
        return [
            (self.span(now.seconds.first, *now.opening)[0], now.offset - before.offset)
            for before, now in pairs
        ]


def epochs(reader: Reader) -> list[Epoch]:
    """Return the epochs of a session's clock: one, unless it was set meanwhile."""
    found: list[Epoch] = []
    for number, since, ts, offset, first, opened in reader.file.integers(
        schema.SECONDS, "since", "ts", "offset", "first_event", "last_event"
    ):
        last = found[-1] if found else None
        if last is None or abs(offset - last.offset) >= SET_NS:
            found.append(
                Epoch(
                    Span(number, number), first, min(since or ts, ts), offset, (since, ts), opened
                )
            )
            continue
        seconds = Span(last.seconds.first, number)
        found[-1] = replace(last, seconds=seconds, first_event=last.first_event or first)
    if len(found) > MOST_SETS:  # no clock is: such a file is damaged
        return [replace(found[-1], seconds=Span(found[0].seconds.first, found[-1].seconds.last))]
    return _numbered(found)


def _numbered(found: list[Epoch]) -> list[Epoch]:
    """Give epochs without an event the number of the next one's first."""
    following = END
    for at in range(len(found) - 1, -1, -1):
        following = found[at].first_event or following
        found[at] = replace(found[at], first_event=following)
    return found
