"""What a page says in words and tables: findings, senders, path MTUs, tunnels, verdicts."""

from __future__ import annotations

from collections import Counter as Multiset
from typing import TYPE_CHECKING, Any

from pmtutrace.diagnosis.case import KINDS
from pmtutrace.jsonl import timestamp
from pmtutrace.printable import printable
from pmtutrace.report import text
from pmtutrace.report.html.words import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmtutrace.diagnosis import Finding
    from pmtutrace.diagnosis.case import Sender
    from pmtutrace.diagnosis.timeline import Timeline
    from pmtutrace.report.build import Report

NSEC = 1_000_000_000
COMMAND = 1000  # characters; one that is cut would do something else
ALIKE = 5  # findings of one kind that are told in full
BRIEF = 200  # more of them, a line each
ROWS = 50  # of a table
SENDERS = 100  # of one kind
VERDICTS = ("told", "suppressed", "lost", "never_attempted", "local")
# In order of what somebody has to look after.
ORDER = ("ignored", "never_told", "followed")


def host(report: Report, lanes: Sequence[Timeline]) -> dict[str, Any]:
    """Return what is said of one host.

    Args:
        report: of the host.
        lanes: path MTUs that are drawn, in their order.
    """
    case, totals = report.case, report.totals
    known = [totals["verdicts"].get(name, 0) for name in VERDICTS]
    return {
        "name": shown(report.manifest.get("host")),
        "kernel": shown(report.manifest.get("kernel")),
        "boot": shown(report.manifest.get("boot_id")),
        "began": case.began,
        "ended": case.ended,
        "length": text.span((case.ended - case.began) / NSEC),
        "drops": totals["drops"],
        "verdicts": list(zip(VERDICTS, known, strict=True)),
        "other": totals["drops"] - sum(known),
        "fragmented": totals["fragmented"],
        "received": totals["icmp_received"],
        "changes": totals["pmtu_changes"],
        "lost": sum(totals["losses"].values()),
        "kinds": findings(report, lanes),
        "senders": _senders(report),
        "paths": _paths(report),
        "tunnels": _tunnels(report),
        "causes": _causes(report),
        "files": [shown(name, COMMAND) for name in report.files],
        "unseen": [shown(line, COMMAND) for line in text.unseen(report, when)],
    }


def when(ts: int) -> str:
    """Return a time in UTC, to a second."""
    return timestamp(ts)[:19].replace("T", " ")


def name(report: Report, netns: int) -> str:
    """Return what a network namespace is called."""
    return shown(report.case.names.get(netns, netns))


def findings(report: Report, lanes: Sequence[Timeline]) -> list[dict[str, Any]]:
    """Return findings by kind, in order of each kind's first: some in full, more in brief."""
    kinds: dict[str, list[Finding]] = {}
    for finding in report.findings:
        kinds.setdefault(finding.id, []).append(finding)
    return [
        {
            "id": kind,
            "full": [_finding(one, report, lanes) for one in found[:ALIKE]],
            "brief": [_brief(one) for one in found[ALIKE : ALIKE + BRIEF]],
            "more": len(found) - ALIKE,
            "unsaid": len(found) - ALIKE - BRIEF,
        }
        for kind, found in kinds.items()
    ]


def _brief(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity,
        "title": shown(finding.title),
        "where": shown(finding.subject["name"] or finding.subject["netns"]),
        "since": finding.since,
        "until": finding.until,
    }


def _finding(finding: Finding, report: Report, lanes: Sequence[Timeline]) -> dict[str, Any]:
    known = [(what, value) for what, value in finding.evidence.items() if value is not None]
    commands = [
        *(("do", command) for command in finding.remedy),
        *(("check", command) for command in finding.check),
    ]
    return _brief(finding) | {
        "id": finding.id,
        "netns": shown(finding.subject["netns"]),
        "kind": finding.subject["kind"],
        "cause": shown(finding.cause, COMMAND),
        "evidence": [(shown(what), shown(text.worded(value))) for what, value in known],
        "commands": [
            (what, shown(command) if len(command) <= COMMAND else None)
            for what, command in commands
        ],
        "from": finding.since if finding.since is not None else report.case.began,
        "to": finding.until if finding.until is not None else report.case.ended,
        "lane": _lane(finding, report, lanes),
    }


def _lane(finding: Finding, report: Report, lanes: Sequence[Timeline]) -> int | None:
    """Return which path MTU a finding is about, as a number among those that are drawn."""
    what = str(finding.subject["name"])
    ends = {
        tunnel.remote
        for tunnel in report.case.tunnels
        if tunnel.name == what and str(finding.subject["netns"]) in _spellings(report, tunnel.netns)
    }
    for number, line in enumerate(lanes):
        if str(finding.subject["netns"]) in _spellings(report, line.netns) and (
            line.daddr == what or line.daddr in ends
        ):
            return number
    return None


def _spellings(report: Report, netns: int) -> set[str]:
    return {str(netns), shown(report.case.names.get(netns, ""))}


def _senders(report: Report) -> dict[str, dict[str, Any]]:
    """Return senders by kind: how many there are, and the largest of them."""
    found: dict[str, list[Sender]] = {kind: [] for kind in KINDS}
    for sender in report.case.senders:
        found[sender.kind].append(sender)
    return {
        kind: {
            "words": text.KINDS[kind],
            "number": len(found[kind]),
            "packets": sum(one.packets for one in found[kind]),
            "rows": [
                (
                    name(report, one.netns),
                    shown(one.saddr),
                    shown(one.daddr),
                    one.packets,
                    one.told,
                    one.mtu or None,
                    one.longest or None,
                    one.first,
                    one.last,
                )
                for one in found[kind][:SENDERS]
            ],
        }
        for kind in ORDER
    }


def _paths(report: Report) -> dict[str, Any]:
    lines = [line for line in report.case.timelines if line.floor is not None]
    rows = []
    for line in sorted(lines, key=lambda line: line.floor or 0)[:ROWS]:
        episodes = line.episodes
        rows.append(
            (
                name(report, line.netns),
                shown(line.daddr),
                line.base,
                line.floor,
                None if line.now is None else line.now.mtu,
                bool(line.now and line.now.locked),
                len(episodes),
                text.span(sum(one.until - one.seen for one in episodes) / NSEC),
                text.rhythm_of(line),
            )
        )
    return {"rows": rows, "more": len(lines) - len(rows)}


def _tunnels(report: Report) -> dict[str, Any]:
    drops = text.drops_by_tunnel(report)
    inner = {(one.netns, one.ifindex): line for one, line in report.case.tunnel_timelines}
    order = sorted(report.case.tunnels, key=lambda one: -drops[one.netns, printable(one.name)])
    rows = []
    for one in order[:ROWS]:
        line = inner.get((one.netns, one.ifindex))
        rows.append(
            (
                name(report, one.netns),
                shown(one.name),
                shown(one.type),
                shown(one.local or "any"),
                shown(one.remote or "any"),
                one.mtu,
                line.floor if line else None,
                drops[one.netns, printable(one.name)],
            )
        )
    return {"rows": rows, "more": len(order) - len(rows)}


def _causes(report: Report) -> dict[str, Any]:
    sums: Multiset[tuple[str, str, str]] = Multiset()
    for key, counter in report.case.counters.items():
        sums[key.verdict, key.cause or "", key.site] += counter.packets
    rows = [(*map(shown, what), number) for what, number in sums.most_common(ROWS)]
    return {"rows": rows, "more": len(sums) - len(rows)}
