"""The path MTU to one destination over time, and when it had collapsed.

Pure: time comes with the data, in nanoseconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

# No link is narrower: RFC 791 has every host take 576 octets, RFC 8200 every IPv6 link carry 1280.
NARROWEST = {4: 576, 6: 1280}
# A hop is met once. What falls again and again by the same amount feeds on itself.
EQUAL_FALLS = 3


class Gap(NamedTuple):
    """A time of which nothing is known: the recorder did not run, or lost events."""

    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class Step:
    """From ``ts`` on the path MTU is ``mtu``; None where there is no exception."""

    ts: int
    mtu: int | None
    locked: bool = False


@dataclass(frozen=True, slots=True)
class Episode:
    """A time in which the path MTU was below that of the route.

    ``began`` is None where it was so already when watching began, or after a gap; ``ended`` where
    it was still so at the end, or before a gap. ``seen`` is when it was first seen, ``until`` when
    last. ``floor`` is the lowest MTU, ``falls`` is by how much it fell, each time, in order.
    """

    began: int | None
    ended: int | None
    seen: int
    until: int
    first: int
    floor: int
    falls: tuple[int, ...]
    locked: bool
    family: int = 4

    @property
    def length(self) -> int | None:
        """Return how long it was; None where not both ends were seen."""
        return None if self.began is None or self.ended is None else self.ended - self.began

    @property
    def equal_falls(self) -> int:
        """Return how often at most it fell by the same amount, one time after another."""
        best = run = 0
        for number, fall in enumerate(self.falls):
            run = run + 1 if number and fall == self.falls[number - 1] else 1
            best = max(best, run)
        return best

    @property
    def collapse(self) -> bool:
        """Say if no smaller hop explains it: it is narrower than any link, or a staircase."""
        narrow = self.locked or self.floor < NARROWEST[self.family]
        return narrow or self.equal_falls >= EQUAL_FALLS


@dataclass(frozen=True, slots=True)
class Timeline:
    """The path MTU to one destination, or of one nexthop on the way to it.

    ``base`` is the MTU without any exception, that of route or device; None where not known.
    ``steps`` are in order of time. ``standing`` says that the first step was there when watching
    began, so that nobody knows since when.
    """

    netns: int
    family: int
    daddr: str
    began: int
    ended: int
    base: int | None = None
    steps: tuple[Step, ...] = ()
    gaps: tuple[Gap, ...] = ()
    standing: bool = False

    def at(self, ts: int) -> int | None:
        """Return the path MTU at a time, ``base`` where there is no exception.

        None where it is not known: within a gap, and outside of the time that was watched.
        """
        if not self.began <= ts <= self.ended or any(g.began <= ts < g.ended for g in self.gaps):
            return None
        last = None
        for step in self.steps:
            if step.ts > ts:
                break
            last = step.mtu
        return self.base if last is None else last

    @property
    def now(self) -> Step | None:
        """Return the exception that is there at the end; None where there is none."""
        return self.steps[-1] if self.steps and self.steps[-1].mtu is not None else None

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """Return every time with an exception, in order; one that a gap cuts counts as two."""
        found: list[Episode] = []
        for began, ended, steps in self._runs():
            low: list[Step] = []
            since: int | None = None
            for step in steps:
                if step.mtu is None:
                    if low:
                        found.append(self._episode(low, since, step.ts))
                    low = []
                    continue
                if not low:
                    unseen = step.ts == began and (began != self.began or self.standing)
                    since = None if unseen else step.ts
                low.append(step)
            if low:
                found.append(self._episode(low, since, None, until=ended))
        return tuple(found)

    @property
    def floor(self) -> int | None:
        """Return the lowest path MTU; None where there was no exception at all."""
        return min((step.mtu for step in self.steps if step.mtu is not None), default=None)

    def depth(self, episode: Episode) -> int | None:
        """Return how far an episode is below the route's MTU; None where that is not known."""
        return None if self.base is None else self.base - episode.floor

    def inside(self, overhead: int, mtu: int) -> Timeline:
        """Return what this path leaves inside a tunnel.

        Args:
            overhead: octets that the tunnel adds.
            mtu: of its device.
        """
        below = mtu if self.base is None else min(mtu, self.base - overhead)
        steps = (
            replace(step, mtu=None if step.mtu is None else min(mtu, step.mtu - overhead))
            for step in self.steps
        )
        return replace(self, base=below, steps=tuple(steps))

    def _runs(self) -> list[tuple[int, int, list[Step]]]:
        """Return what was watched without a gap: beginning, end, steps; state carried along."""
        out = []
        edges = [self.began]
        for gap in sorted(self.gaps):
            edges += [gap.began, gap.ended]
        edges.append(self.ended)
        for began, ended in zip(edges[::2], edges[1::2], strict=True):
            before = [step for step in self.steps if step.ts < began]
            inside = [step for step in self.steps if began <= step.ts <= ended]
            if before and not (inside and inside[0].ts == began):
                last = before[-1]
                inside.insert(0, Step(began, last.mtu, last.locked))
            out.append((began, ended, inside))
        return out

    def _episode(
        self, low: list[Step], since: int | None, ended: int | None, until: int | None = None
    ) -> Episode:
        values = [step.mtu for step in low if step.mtu is not None]
        ways = values if since is None or self.base is None else [self.base, *values]
        return Episode(
            began=since,
            ended=ended,
            seen=low[0].ts,
            until=ended if until is None and ended is not None else until or low[-1].ts,
            first=values[0],
            floor=min(values),
            falls=tuple(old - new for old, new in pairwise(ways) if new < old),
            locked=any(step.locked for step in low),
            family=self.family,
        )
