"""A report as one object; docs/events.md describes it."""

from __future__ import annotations

from collections import Counter as Multiset
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pmtutrace.diagnosis import rhythm
from pmtutrace.diagnosis.case import KINDS
from pmtutrace.jsonl import SCHEMA, timestamp

if TYPE_CHECKING:
    from pmtutrace.diagnosis.timeline import Timeline
    from pmtutrace.report.build import Report

SENDERS = 1000  # the largest ones; how many there are is told beside


def report(item: Report) -> dict[str, Any]:
    """Return a report as an object."""
    case = item.case
    kinds = Multiset(sender.kind for sender in case.senders)
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
        "senders": {
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
        },
        "recording": {
            "files": list(item.files),
            "losses": item.totals["losses"],
            "blind": [{"hook": hook, "unknown": what} for hook, what in item.hooks],
            "gaps": [
                {"since": timestamp(gap.began), "until": timestamp(gap.ended)} for gap in case.gaps
            ],
            "unfinished": item.killed,
            "events_read": round(item.share, 4),
            "damaged": item.damaged,
        },
    }


def _timeline(line: Timeline, netns: str | int) -> dict[str, Any]:
    found = rhythm.find(line.episodes, line.gaps)
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
        "episodes": len(line.episodes),
        "floor": line.floor,
        "rhythm": None if found is None else asdict(found),
    }
