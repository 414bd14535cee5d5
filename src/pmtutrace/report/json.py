"""A report as one object; docs/events.md describes it."""

from __future__ import annotations

from collections import Counter as Multiset
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pmtutrace.diagnosis import rhythm
from pmtutrace.diagnosis.case import KINDS
from pmtutrace.jsonl import SCHEMA, timestamp
from pmtutrace.printable import printable
from pmtutrace.report import hosts
from pmtutrace.report.moments import moments
from pmtutrace.report.text import drops_by_tunnel

if TYPE_CHECKING:
    from pmtutrace.diagnosis.timeline import Timeline
    from pmtutrace.report.build import Report
    from pmtutrace.report.hosts import Host
    from pmtutrace.report.moments import Moment

NSEC = 1_000_000_000
SENDERS = 1000  # the largest ones; how many there are is told beside
REFUSALS = TUNNELS = 1000


def report(item: Report) -> dict[str, Any]:
    """Return a report as an object."""
    case = item.case
    when, left = moments(item)
    return {
        "type": "report",
        "ts": timestamp(case.ended),
        "schema": SCHEMA,
        "netns": None,
        "host": item.manifest.get("host"),
        "boot_id": item.manifest.get("boot_id"),
        "kernel": item.manifest.get("kernel"),
        "since": timestamp(case.began),
        "until": timestamp(case.ended),
        "findings": [finding.json() for finding in item.findings],
        "totals": item.totals,
        "timelines": [
            _timeline(line, case.names.get(line.netns, line.netns)) for line in case.timelines
        ],
        "moments": [_moment(one, item) for one in when],
        "moments_left": left,
        "hosts": {
            "kinds": hosts.kinds(item.hosts),
            "total": len(item.hosts),
            "named": [_host(one, item) for one in item.hosts[:SENDERS]],
        },
        "refusals": _refusals(item),
        "tunnels": _tunnels(item),
        "senders": _senders(item),
        "recording": _recording(item),
    }


def _moment(one: Moment, item: Report) -> dict[str, Any]:
    return {
        "ts": timestamp(one.ts),
        "what": one.what,
        "until": None if one.until is None else timestamp(one.until),
        "netns": None if one.netns is None else item.case.names.get(one.netns, one.netns),
        "name": one.name,
        "mtu": one.mtu,
        "seconds": one.seconds,
    }


def _senders(item: Report) -> dict[str, Any]:
    case = item.case
    kinds = Multiset(sender.kind for sender in case.senders)
    return {
        "kinds": {kind: kinds[kind] for kind in KINDS},
        "named": [
            {
                "netns": case.names.get(one.netns, one.netns),
                "saddr": one.saddr,
                "daddr": one.daddr,
                "kind": one.kind,
                "packets": one.packets,
                "told": one.told,
                "mtu": one.mtu or None,
                "longest": one.longest or None,
                "first": timestamp(one.first),
                "last": timestamp(one.last),
            }
            for one in case.senders[:SENDERS]
        ],
    }


def _recording(item: Report) -> dict[str, Any]:
    case = item.case
    return {
        "files": list(item.files),
        "losses": item.totals["losses"],
        "blind": [{"hook": hook, "unknown": what} for hook, what in item.hooks],
        "gaps": [
            {"since": timestamp(gap.began), "until": timestamp(gap.ended)} for gap in case.gaps
        ],
        "unfinished": item.killed,
        "events_read": round(item.share, 4),
        "damaged": item.damaged,
        "sessions": [*item.sessions],
        "pmtutrace": item.manifest.get("pmtutrace"),
        "command": item.manifest.get("command"),
    }


def _host(one: Host, item: Report) -> dict[str, Any]:
    return {
        "netns": item.case.names.get(one.netns, one.netns),
        "saddr": one.saddr,
        "kind": one.kind,
        "destinations": one.destinations,
        "packets": one.packets,
        "told": one.told,
        "first": timestamp(one.first),
        "last": timestamp(one.last),
    }


def _refusals(item: Report) -> list[dict[str, Any]]:
    """Return where packets were refused, and what became of the news, the most packets first."""
    found: Multiset[tuple[str, str, str | None]] = Multiset()
    for key, counter in item.case.counters.items():
        found[key.site, key.verdict, key.cause] += counter.packets
    return [
        {"site": site, "verdict": verdict, "cause": cause, "packets": packets}
        for (site, verdict, cause), packets in found.most_common(REFUSALS)
    ]


def _tunnels(item: Report) -> list[dict[str, Any]]:
    """Return the tunnels in which packets were dropped, or that had less room than they should."""
    inner = {(one.netns, one.ifindex): line for one, line in item.case.tunnel_timelines}
    drops = drops_by_tunnel(item)
    out: list[dict[str, Any]] = []
    for one in item.case.tunnels:
        line = inner.get((one.netns, one.ifindex))
        dropped = drops[one.netns, printable(one.name)]
        if dropped or (line and line.floor):
            out.append(
                {
                    "netns": item.case.names.get(one.netns, one.netns),
                    "name": one.name,
                    "type": one.type,
                    "local": one.local,
                    "remote": one.remote,
                    "mtu": one.mtu,
                    "lowest": line.floor if line else None,
                    "drops": dropped,
                }
            )
    return sorted(out, key=lambda one: -int(one["drops"]))[:TUNNELS]


def _timeline(line: Timeline, netns: str | int) -> dict[str, Any]:
    episodes = line.episodes
    found = rhythm.find(episodes, line.gaps)
    low = sum(one.until - one.seen for one in episodes)
    watched = line.ended - line.began - sum(gap.ended - gap.began for gap in line.gaps)
    return {
        "netns": netns,
        "family": line.family,
        "daddr": line.daddr,
        "base": line.base,
        "standing": line.standing,
        "steps": [
            {"ts": timestamp(step.ts), "mtu": step.mtu, "locked": step.locked}
            for step in line.steps
        ],
        "episodes": len(episodes),
        "floor": line.floor,
        "first": timestamp(episodes[0].seen) if episodes else None,
        "last": timestamp(episodes[-1].until) if episodes else None,
        "low_s": round(low / NSEC, 3),
        "share": round(low / watched, 4) if watched > 0 else None,
        "rhythm": None if found is None else asdict(found),
    }
