"""From the sessions of one host, since one boot, to a report."""

from __future__ import annotations

import json
from collections import Counter as Multiset
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pmtutrace.diagnosis import Collector, Finding, diagnose
from pmtutrace.diagnosis.senders import LIFETIME_S
from pmtutrace.errors import UsageError
from pmtutrace.events import Drop, TunnelChange
from pmtutrace.pmtu import surroundings
from pmtutrace.report.clocks import Clock, epochs
from pmtutrace.report.hosts import hosts
from pmtutrace.session import schema
from pmtutrace.session.file import END
from pmtutrace.session.reader import Span
from pmtutrace.session.selection import NOT_DROPPED, Names
from pmtutrace.tracing.filters import Filter
from pmtutrace.tracing.summary import Tally, summarize

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from pmtutrace.diagnosis import Case
    from pmtutrace.events import Counter, CounterKey, Event, TunnelRef
    from pmtutrace.pmtu.surroundings import Surroundings
    from pmtutrace.report.hosts import Host
    from pmtutrace.session.reader import Reader
    from pmtutrace.session.schema import Counted
    from pmtutrace.tunnels.tunnel import Tunnel

NSEC = 1_000_000_000
# Events of drops that are looked at; counters are exact, however many there are.
DROPS_READ = 250_000
UNHEARD_NS = 120 * NSEC  # the recorder gives a sign of life every minute

CHANGES_KEPT = 1000  # of tunnels
# Inodes of namespaces, each with from when until when it is wanted, as the clock showed.
When = dict[int, list[tuple[int, int]]]
NEAR_NS = 2 * NSEC  # a survey follows what it is about


@dataclass(slots=True)
class Report:
    """What is known of one host, from all sessions of one boot.

    ``totals`` is the summary as ``trace`` has it. ``refs`` are the names of the tunnel and the
    device of each counter. ``share`` of the events of drops were looked at. ``clocks`` are those of
    the sessions. ``only`` are inodes of the namespaces that it is about, None for all.
    """

    files: tuple[str, ...]
    sessions: tuple[str, ...]
    manifest: dict[str, Any]
    case: Case
    findings: list[Finding]
    totals: dict[str, Any]
    refs: dict[CounterKey, tuple[str, TunnelRef | None]]
    share: float
    damaged: int
    killed: int
    hooks: list[tuple[str, str]] = field(default_factory=list)
    clocks: list[Clock] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    tunnel_changes: list[TunnelChange] = field(default_factory=list)
    only: Collection[int] | None = None


def groups(readers: Iterable[Reader]) -> list[list[Reader]]:
    """Return sessions by host and boot, each group in order of time."""
    found: dict[tuple[str, str], list[Reader]] = {}
    for reader in readers:
        said = reader.manifest
        name = str(said.get("host")), str(said.get("boot_id"))
        found.setdefault(name, []).append(reader)
    return [sorted(group, key=_since_boot) for group in found.values()]


def _since_boot(reader: Reader) -> tuple[int, int]:
    """Return when a session began and ended by a clock that nobody can set."""
    clocks = epochs(reader)
    began, ended = reader.time()
    return (began - clocks[0].offset, ended - clocks[-1].offset) if clocks else (began, ended)


def build(readers: Sequence[Reader], named: Collection[str] = ()) -> Report:
    """Return the report of the sessions of one group.

    Args:
        readers: of the sessions, in order of time.
        named: network namespaces that are wanted, by name or inode; none for all.

    Raises:
        SessionError: one of them is damaged beyond reading.
        UsageError: the same session was given twice.
    """
    names = [str(reader.manifest.get("session")) for reader in readers]
    if len(set(names)) < len(names):
        raise UsageError("a session was named twice", "name each file once")
    return _Builder(readers, [_when(reader, named) for reader in readers]).report()


def _when(reader: Reader, named: Collection[str]) -> When | None:
    """Return when which namespaces are wanted of a session; None for always all of them."""
    if not named:
        return None
    names = Names(reader)
    out: When = {}
    for name in named:
        for inode, times in names.times(name).items():
            out.setdefault(inode, []).extend(times)
    return out


class _Builder:
    """Gathers what several sessions hold."""

    def __init__(self, readers: Sequence[Reader], when: Sequence[When | None]) -> None:
        self._readers = readers
        self._when = dict(zip(readers, when, strict=True))
        self._only = None if None in when else {inode for one in when for inode in one or ()}
        self._changes: list[TunnelChange] = []
        self._clocks = Clock.of(readers)
        self._drops: dict[CounterKey, Counter] = {}
        self._fragments: dict[CounterKey, Counter] = {}
        self._refs: dict[CounterKey, tuple[str, TunnelRef | None]] = {}
        self._tunnels: dict[tuple[int, int], Tunnel] = {}
        self._around: dict[int, list[tuple[int, Surroundings]]] = {}
        self._names: dict[int, str] = {}
        self._losses: Multiset[str] = Multiset()
        self._tally = Tally()
        self._events = self._read = 0
        for reader, clock in zip(readers, self._clocks, strict=True):
            self._count(reader, clock)
            self._states(reader, clock)

    def report(self) -> Report:
        times = [clock.time(*reader.time()) for reader, clock in self._each()]
        collector = Collector(self._only, times[0][0], self._lifetime())
        for number, (reader, clock) in enumerate(self._each()):
            if number:
                collector.blind(times[number - 1][1], times[number][0])
            else:
                self._standing(reader, clock, collector)
            self._blind(reader, clock, collector)
            self._feed(reader, clock, collector)
        case = self._case(collector, times[-1][1])
        readers = self._readers
        return Report(
            files=tuple(str(reader.file.path) for reader in readers),
            sessions=tuple(str(reader.manifest.get("session")) for reader in readers),
            manifest=readers[-1].manifest,
            case=case,
            findings=diagnose(case),
            totals=self._totals(times),
            refs=self._refs,
            share=self._read / self._events if self._events else 1.0,
            damaged=sum(reader.damaged for reader in readers),
            killed=sum(not reader.ended for reader in readers),
            hooks=_blind_hooks(readers[-1].manifest),
            clocks=self._clocks,
            hosts=hosts(case.counters, case.senders),
            tunnel_changes=self._changes,
            only=self._only,
        )

    def _case(self, collector: Collector, ended: int) -> Case:
        """Return the case, with surroundings as they were while something was wrong, if it was."""
        common: dict[str, Any] = {
            "counters": self._drops,
            "fragments": self._fragments,
            "tunnels": list(self._tunnels.values()),
            "names": self._names,
            "ended": ended,
        }
        last = {netns: looks[-1][1] for netns, looks in self._around.items()}
        case = collector.case(surroundings=last, **common)
        bad: dict[int, list[tuple[int, int]]] = {}
        for line in case.timelines:
            for episode in line.episodes:
                if episode.collapse:
                    bad.setdefault(line.netns, []).append((episode.seen, episode.until + NEAR_NS))
        chosen = dict(last)
        for netns, times in bad.items():
            for ts, look in self._around.get(netns, ()):
                if any(began <= ts <= end for began, end in times):
                    chosen[netns] = look
        return collector.case(surroundings=chosen, **common) if chosen != last else case

    def _each(self) -> list[tuple[Reader, Clock]]:
        return list(zip(self._readers, self._clocks, strict=True))

    def _count(self, reader: Reader, clock: Clock) -> None:
        for epoch in clock.epochs:
            for counted, counter in self._counters(reader, epoch.seconds):
                into = self._fragments if counted.key.verdict == NOT_DROPPED else self._drops
                before = into.get(counted.key)
                moved = clock.counter(epoch, counter)
                into[counted.key] = before.joined(moved) if before else moved
                if counted.tunnel is not None or counted.key not in self._refs:
                    self._refs[counted.key] = counted.dev, counted.tunnel
            self._losses.update(reader.losses(epoch.seconds))

    def _counters(self, reader: Reader, seconds: Span) -> Iterator[tuple[Counted, Counter]]:
        """Yield what was counted in some seconds, where and while it is wanted."""
        when = self._when[reader]
        if when is None:
            yield from reader.counters(seconds)
            return
        wanted: dict[tuple[int, int], set[int]] = {(0, END): {0}}  # what found no room is nobody's
        for inode, times in when.items():
            for time in times:
                wanted.setdefault(time, set()).add(inode)
        for time, inodes in wanted.items():
            within, after = reader.seconds(*time), reader.seconds(time[1])
            if within is None:
                continue
            # A second in which one ends and another begins is the other's.
            last = after.first - 1 if after else within.last
            span = Span(max(within.first, seconds.first), min(last, seconds.last))
            for counted, counter in reader.counters(span):
                if counted.key.netns in inodes:
                    yield counted, counter

    def _seen(self, reader: Reader, span: Span, thin: int) -> Iterator[tuple[int, Event]]:
        """Yield the events of a span, with their numbers, where and while they are wanted."""
        when = self._when[reader]
        for number, event in reader.events(span, thin=thin):
            self._read += isinstance(event, Drop)
            if when is None or any(
                since <= event.ts < until for since, until in when.get(event.netns, ())
            ):
                yield number, event

    def _states(self, reader: Reader, clock: Clock) -> None:
        for space in reader.states(schema.Space):
            self._names[space.netns] = space.name
        for there in reader.states(schema.TunnelThere):
            self._tunnels[there.tunnel.netns, there.tunnel.ifindex] = there.tunnel
        for around in reader.states(schema.Around):
            try:
                found = surroundings.loaded(json.loads(around.text))
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
                reader.file.damaged += 1
                continue
            looks = self._around.setdefault(around.netns, [])
            looks.append((clock.moment(around.ts), found))

    def _standing(self, reader: Reader, clock: Clock, collector: Collector) -> None:
        for there in reader.states(schema.ExceptionThere):
            collector.standing(there.netns, clock.moment(there.ts), there.exception, there.dev)

    def _blind(self, reader: Reader, clock: Clock, collector: Collector) -> None:
        """Say when nobody looked: the machine slept, or the recorder could not run."""
        before = 0
        for number, since, ts in reader.file.integers(schema.SECONDS, "since", "ts"):
            began, ended = clock.span(number, since, ts)
            if before and began - before > UNHEARD_NS:
                collector.blind(before, began)
            if since and ended - began > UNHEARD_NS:
                collector.blind(began, ended)
            before = ended

    def _feed(self, reader: Reader, clock: Clock, collector: Collector) -> None:
        """Give events to a collector: of drops a share, in blocks, of all else every one."""
        spans = [brought.events for brought in reader.spans(None, None)]
        total = reader.length(Drop)
        thin = max(1, -(-total // DROPS_READ))
        self._events += total
        for span in spans:
            for event in clock.events(self._seen(reader, span, thin)):
                self._tally.take(event)
                collector.take(event)
                if isinstance(event, TunnelChange) and len(self._changes) < CHANGES_KEPT:
                    self._changes.append(event)

    def _lifetime(self) -> float:
        """Return for how long senders keep in mind what they are told, where it is known."""
        known = [
            seconds
            for looks in self._around.values()
            if (seconds := looks[-1][1].sysctls.get("mtu_expires"))
            and any(key.netns == looks[-1][1].netns for key in self._drops)
        ]
        return float(min(known, default=LIFETIME_S))

    def _totals(self, times: list[tuple[int, int]]) -> dict[str, Any]:
        """Return the summary of all sessions together."""
        losses = Multiset(dict.fromkeys(("ring_full", "received"), 0))
        losses.update(self._losses)
        return summarize(
            self._drops,
            self._fragments,
            losses,
            wanted=Filter(),
            seconds=sum(ended - began for began, ended in times) / NSEC,
            streamed=self._events,
            tally=self._tally,
        )


def _blind_hooks(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Return hooks that were not attached at their best, and what is not known because of that."""
    hooks = manifest.get("hooks")
    said = [one for one in hooks if isinstance(one, dict)] if isinstance(hooks, list) else []
    return [
        (str(one.get("hook")), blind)
        for one in said
        if isinstance(blind := one.get("blind"), str) and blind
    ]
