"""All that is known when a diagnosis is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmtutrace.diagnosis.timeline import Gap, Timeline
    from pmtutrace.events import Counter, CounterKey
    from pmtutrace.pmtu.surroundings import Surroundings
    from pmtutrace.probing import Result
    from pmtutrace.tunnels.tunnel import Tunnel

KINDS = ("followed", "ignored", "never_told")


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something was seen, and when first and last, in nanoseconds since 1970."""

    count: int
    first: int
    last: int

    def more(self, count: int, ts: int) -> Tally:
        """Return this with more of it."""
        return Tally(self.count + count, min(self.first, ts), max(self.last, ts))


@dataclass(frozen=True, slots=True)
class Sender:
    """Somebody whose packets to one destination were too big, and what became of the news.

    ``kind`` is one of :data:`KINDS`. ``packets`` were dropped, of ``told`` of them the sender was
    told; ``late`` is at how many moments, well after it was told, packets came that were longer
    than ``mtu``, which is the least that it was told. ``ifindex`` is the device that dropped them.
    """

    netns: int
    ifindex: int
    family: int
    saddr: str
    daddr: str
    kind: str
    packets: int
    told: int
    late: int
    mtu: int
    longest: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Messages that were freed on this host by one function before they left."""

    netns: int
    family: int
    site: str
    hook: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """Messages that arrived: from whom, about packets from where to where, with what outcome.

    ``daddr`` is the outermost destination that they quote, ``mtu`` the least that they report,
    ``most`` the most; ``effective`` is what was in force after the last of them.
    """

    netns: int
    family: int
    router: str
    saddr: str
    daddr: str
    outcome: str
    mtu: int
    most: int
    effective: int | None
    tally: Tally

    @property
    def ours(self) -> bool:
        """Say if they are about a packet that can be read, and was sent from here."""
        return bool(self.daddr) and self.outcome not in ("not_sent_here", "unknown")


@dataclass(frozen=True, slots=True)
class Leg:
    """What was learned of one nexthop on the way; ``mtu`` is None if it is no more."""

    ifindex: int
    dev: str
    gateway: str | None
    mtu: int | None
    locked: bool
    via: frozenset[str]
    expires: float | None


@dataclass(frozen=True, slots=True)
class Path:
    """The way to one destination: its path MTU over time, and by nexthop."""

    timeline: Timeline
    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """What is known. Everything that is not known is missing, and no rule takes it for false.

    ``counters`` and ``fragments`` are exact, all else of events is as complete as these were.
    ``names`` are of namespaces, by inode, as are ``surroundings``.
    """

    began: int
    ended: int
    paths: tuple[Path, ...] = ()
    tunnels: tuple[Tunnel, ...] = ()
    surroundings: Mapping[int, Surroundings] = field(default_factory=dict)
    counters: Mapping[CounterKey, Counter] = field(default_factory=dict)
    fragments: Mapping[CounterKey, Counter] = field(default_factory=dict)
    senders: tuple[Sender, ...] = ()
    lost: Mapping[Lost, Tally] = field(default_factory=dict)
    arrived: tuple[Arrived, ...] = ()
    probes: tuple[tuple[int, Result], ...] = ()
    gaps: tuple[Gap, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def timelines(self) -> tuple[Timeline, ...]:
        """Return the path MTU of each destination over time."""
        return tuple(path.timeline for path in self.paths)

    @property
    def tunnel_timelines(self) -> tuple[tuple[Tunnel, Timeline], ...]:
        """Return the tunnels to whose far ends a path MTU was learned, and what fitted inside."""
        by_place = {
            (path.timeline.netns, path.timeline.daddr): path.timeline for path in self.paths
        }
        return tuple(
            (tunnel, line.inside(tunnel.overhead, tunnel.mtu))
            for tunnel in self.tunnels
            if tunnel.overhead is not None and tunnel.remote and not tunnel.elsewhere
            if (line := by_place.get((tunnel.netns, tunnel.remote)))
        )
