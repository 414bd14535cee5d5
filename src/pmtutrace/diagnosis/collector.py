"""Gathers what a recording sees, as it sees it, into a case.

It holds sums, not events: its memory does not grow with the time that is recorded.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from pmtutrace.diagnosis.case import Arrived, Case, Leg, Lost, Path, Tally
from pmtutrace.diagnosis.senders import LIFETIME_S, Listening, senders
from pmtutrace.diagnosis.timeline import Gap, Step, Timeline
from pmtutrace.events import Counter, Drop, IcmpLost, IcmpReceived, PathMtuChange
from pmtutrace.pmtu.surroundings import Question

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pmtutrace.events import CounterKey, Event
    from pmtutrace.pmtu.exceptions import PathMtu
    from pmtutrace.pmtu.surroundings import Surroundings
    from pmtutrace.probing import Result
    from pmtutrace.tunnels.tunnel import Tunnel

    Counters = Mapping[CounterKey, Counter]

PATHS_KEPT = 16384
STEPS_KEPT = 4096
ARRIVED_KEPT = 4096
GAPS_KEPT = 4096

Place = tuple[int, int, str]
Hop = tuple[int, str | None, int, str | None]


class _Way:
    """What is gathered of one destination."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.legs: dict[Hop, Leg] = {}
        self.standing = False
        self.trimmed: int | None = None

    def take(self, change: PathMtuChange) -> None:
        hop = (change.ifindex, change.gateway, change.table, change.saddr)
        # The kernel's own news has no table; a dump that follows has.
        old = self.legs.pop((*hop[:2], 0, hop[3]), None) or self.legs.get(hop)
        self.legs[hop] = Leg(
            change.ifindex,
            change.dev or (old.dev if old else ""),
            change.gateway,
            change.new,
            change.locked,
            (old.via if old else frozenset()) | {change.via},
            change.expires,
        )
        there = [leg for leg in self.legs.values() if leg.mtu is not None]
        least = min((leg.mtu for leg in there if leg.mtu is not None), default=None)
        locked = any(leg.locked for leg in there)
        last = self.steps[-1] if self.steps else Step(0, None)
        if (last.mtu, last.locked) != (least, locked):
            ts = max(change.ts, last.ts)
            if self.steps and ts == last.ts:
                self.steps.pop()
            self.steps.append(Step(ts, least, locked))
        if len(self.steps) > STEPS_KEPT:
            del self.steps[0]
            self.trimmed = self.steps[0].ts


class Collector:
    """Takes events of any kind, in order of time; makes a :class:`.Case` when asked.

    Args:
        only: inodes of the network namespaces that count; None for all.
        began: when recording began, nanoseconds since 1970; None for now.
        lifetime: seconds that senders keep in mind what they are told.
    """

    def __init__(
        self,
        only: Collection[int] | None = None,
        began: int | None = None,
        lifetime: float = LIFETIME_S,
    ) -> None:
        self.began = time.time_ns() if began is None else began
        self._only = only
        self._ways: dict[Place, _Way] = {}
        self._listening = Listening(lifetime)
        self._lost: dict[Lost, Tally] = {}
        self._arrived: dict[tuple[object, ...], Arrived] = {}
        self._gaps: list[Gap] = []
        self._before: tuple[Counters, Counters] = ({}, {})

    def begin(self, counters: Counters, fragments: Counters) -> None:
        """Take what was counted before: it is none of this case."""
        self._before = counters, fragments

    def take(self, event: Event) -> None:
        """Take an event."""
        if self._only is not None and event.netns not in self._only:
            return
        match event:
            case PathMtuChange():
                self._changed(event)
            case Drop():
                self._listening.take(event)
                if event.verdict == "lost":
                    self._lose(event)
            case IcmpLost():
                self._lose(event)
            case IcmpReceived():
                self._arrive(event)

    def standing(self, netns: int, ts: int, item: PathMtu, dev: str) -> None:
        """Take an exception that was there when recording began: since when is not known.

        Args:
            netns: inode of its namespace.
            ts: when it was read, nanoseconds since 1970.
            item: the exception.
            dev: name of its device.
        """
        change = PathMtuChange(
            ts=min(ts, self.began),
            netns=netns,
            change="created",
            family=item.family,
            daddr=item.daddr,
            saddr=item.saddr,
            dev=dev,
            ifindex=item.ifindex,
            gateway=item.gateway,
            table=item.table,
            old=None,
            new=item.mtu,
            locked=item.locked,
            expires=item.expires,
        )
        if self._only is None or netns in self._only:
            way = self._changed(change)
            if way and len(way.steps) == 1:
                way.standing = True

    def blind(self, began: int, ended: int) -> None:
        """Take that nothing is known of a time: the recorder did not run, or lost events."""
        if ended > began:
            self._gaps.append(Gap(began, ended))
            del self._gaps[:-GAPS_KEPT]

    def destinations(self) -> list[tuple[int, str]]:
        """Return namespaces and destinations of which path MTUs were learned, or were told.

        Of an IPv6 route with several nexthops, the kernel's dump leaves out what was learned of any
        but the first (rt6_dump_route(), fib6_dump_node()).
        """
        learned = [(netns, daddr) for netns, _, daddr in self._ways]
        told = [(one.netns, one.daddr) for one in self._arrived.values() if one.ours]
        return list(dict.fromkeys((*learned, *told)))

    def case(
        self,
        *,
        counters: Counters,
        fragments: Counters,
        tunnels: Iterable[Tunnel] = (),
        surroundings: Mapping[int, Surroundings] | None = None,
        probes: Iterable[tuple[int, Result]] = (),
        names: Mapping[int, str] | None = None,
        ended: int | None = None,
    ) -> Case:
        """Return what is known now.

        Args:
            counters: exact counters of drops.
            fragments: those of outer packets that left as fragments.
            tunnels: the inventory.
            surroundings: by inode, read while the fault is there.
            probes: results of active checks, each with the inode where it was made.
            names: of network namespaces, by inode.
            ended: when it ends, nanoseconds since 1970; None for now.
        """
        end = time.time_ns() if ended is None else ended
        drops = self._since(counters, self._before[0])
        around = surroundings or {}
        there = tuple(t for t in tunnels if self._only is None or t.netns in self._only)
        return Case(
            began=self.began,
            ended=end,
            paths=tuple(
                self._path(place, way, _base(place, around, there), end)
                for place, way in self._ways.items()
            ),
            tunnels=there,
            surroundings=around,
            counters=drops,
            fragments=self._since(fragments, self._before[1]),
            senders=senders(drops, self._listening),
            lost=dict(self._lost),
            arrived=tuple(self._arrived.values()),
            probes=tuple(probes),
            gaps=tuple(self._gaps),
            names=names or {},
        )

    def _since(self, now: Counters, before: Counters) -> dict[CounterKey, Counter]:
        out = {}
        for key, counter in now.items():
            if self._only is not None and key.netns not in self._only:
                continue
            old = before.get(key)
            packets = counter.packets - (old.packets if old else 0)
            if packets > 0:
                octets = counter.bytes - (old.bytes if old else 0)
                first = max(counter.first, self.began) if old else counter.first
                out[key] = dataclasses.replace(counter, packets=packets, bytes=octets, first=first)
        return out

    def _path(self, place: Place, way: _Way, base: int | None, ended: int) -> Path:
        netns, family, daddr = place
        began = self.began if way.trimmed is None else way.trimmed
        timeline = Timeline(
            netns,
            family,
            daddr,
            began,
            max(ended, began),
            base,
            tuple(way.steps),
            tuple(Gap(max(g.began, began), g.ended) for g in self._gaps if g.ended > began),
            way.standing or way.trimmed is not None,
        )
        return Path(timeline, tuple(way.legs.values()))

    def _changed(self, change: PathMtuChange) -> _Way | None:
        place = change.netns, change.family, change.daddr
        if place not in self._ways and len(self._ways) >= PATHS_KEPT:
            return None
        way = self._ways.setdefault(place, _Way())
        way.take(change)
        return way

    def _lose(self, event: Drop | IcmpLost) -> None:
        if isinstance(event, Drop):
            # REASON SITE HOOK, as far as they are known: see events.md.
            words = (event.cause or "").split()
            hook = words[-1] if words and words[-1].isupper() and len(words) > 1 else None
            rest = words[:-1] if hook else words
            reason = rest[0] if len(rest) > 1 else None
            key = Lost(event.netns, event.family, rest[-1] if rest else "", hook, reason)
            count = event.count
        else:
            key = Lost(event.netns, event.family, event.site, event.hook, event.reason)
            count = 1
        old = self._lost.get(key, Tally(0, event.ts, event.ts))
        self._lost[key] = old.more(count, event.ts)

    def _arrive(self, event: IcmpReceived) -> None:
        ends = event.outer or event.flow
        key = (event.netns, event.router, ends.saddr, ends.daddr, event.outcome)
        old = self._arrived.get(key)
        if old is None and len(self._arrived) >= ARRIVED_KEPT:
            return
        tally = old.tally if old else Tally(0, event.ts, event.ts)
        self._arrived[key] = Arrived(
            event.netns,
            event.family,
            event.router,
            ends.saddr,
            ends.daddr,
            event.outcome,
            min(event.mtu, old.mtu if old else event.mtu),
            max(event.mtu, old.most if old else event.mtu),
            event.effective,
            tally.more(1, event.ts),
        )


def _base(
    place: Place, surroundings: Mapping[int, Surroundings], tunnels: Iterable[Tunnel]
) -> int | None:
    """Return the MTU without anything learned; a way to a tunnel through itself is none."""
    netns, _, daddr = place
    around = surroundings.get(netns)
    way = around.ways.get(Question(daddr)) if around else None
    own = {t.ifindex for t in tunnels if (t.netns, t.remote) == (netns, daddr)}
    return way.limit(own) if way else None
