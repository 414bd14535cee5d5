"""What happened when, on one host: what is told on one axis of time for several of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmtutrace.report.build import Report

NSEC = 1_000_000_000
MOST = 1000
# what -> in words; docs/events.md has the same.
WHATS = {
    "recorded": "recording began; `until` is when it ended or was last heard of",
    "blind": "nobody looked, until `until`",
    "clock_set": "the clock was set by `seconds`; all times are told as it was afterwards",
    "tunnel_appeared": "the tunnel `name` appeared",
    "tunnel_changed": "the tunnel `name` changed, or its MTU, which is now `mtu`",
    "tunnel_gone": "the tunnel `name` went",
    "dropping": "the first oversize packet of all was dropped; `until` is when the last was",
    "path_low": "the path MTU to `name` fell, to `mtu` at the least; `until` is when it was over",
}


class Moment(NamedTuple):
    """Something that happened at ``ts``, nanoseconds since 1970, or began then.

    ``what`` is one of :data:`WHATS`, ``until`` when it ended, None where it goes on or has no end.
    """

    ts: int
    what: str
    until: int | None = None
    netns: int | None = None
    name: str | None = None
    mtu: int | None = None
    seconds: float | None = None


def moments(report: Report) -> tuple[list[Moment], int]:
    """Return what happened on a host, in order of time, and how many moments were left out.

    Where there are too many, path MTUs that fell least are left out.
    """
    falls = sorted(_falls(report), key=lambda one: (one.mtu or 0, one.ts))
    rest = sorted(_rest(report), key=lambda one: one.ts)[:MOST]
    kept = falls[: MOST - len(rest)]
    return sorted([*rest, *kept], key=lambda one: one.ts), len(falls) - len(kept)


def _rest(report: Report) -> Iterator[Moment]:
    case = report.case
    yield Moment(case.began, "recorded", case.ended)
    for gap in case.gaps:
        yield Moment(gap.began, "blind", gap.ended)
    for clock in report.clocks:
        for ts, by in clock.sets:
            yield Moment(ts, "clock_set", seconds=round(by / NSEC, 3))
    for change in report.tunnel_changes:
        what = f"tunnel_{change.what}"
        if what in WHATS:
            yield Moment(change.ts, what, None, change.netns, change.name, change.mtu)
    if case.counters:
        first = min(counter.first for counter in case.counters.values())
        last = max(counter.last for counter in case.counters.values())
        yield Moment(first, "dropping", last)


def _falls(report: Report) -> Iterator[Moment]:
    for line in report.case.timelines:
        for one in line.episodes:
            yield Moment(one.seen, "path_low", one.ended, line.netns, line.daddr, one.floor)
