"""A report for people: findings first, then tables, then what the recording could not see."""

from __future__ import annotations

import textwrap
import time
from collections import Counter as Multiset
from typing import TYPE_CHECKING

from pmtutrace.diagnosis import rhythm
from pmtutrace.jsonl import protocol
from pmtutrace.printable import aligned, printable
from pmtutrace.report.hosts import kinds
from pmtutrace.report.moments import moments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pmtutrace.diagnosis import Finding
    from pmtutrace.diagnosis.timeline import Timeline
    from pmtutrace.events import Flow
    from pmtutrace.report.build import Report
    from pmtutrace.report.moments import Moment

NSEC = 1_000_000_000
WIDTH = 100
ALIKE = 5  # findings of one kind
MOST = 10  # rows of a table
NAMED = 20  # hosts of a kind
KINDS = {
    "ignored": "told, and went on all the same",
    "never_told": "never told",
    "followed": "told, and listened",
}
ON_ONE_AXIS = 200  # moments of all hosts
WORDS = {
    "recorded": "recorded",
    "blind": "nobody looked",
    "clock_set": "clock set by {seconds:+.1f} s",
    "tunnel_appeared": "tunnel {name} appeared",
    "tunnel_changed": "tunnel {name} changed",
    "tunnel_gone": "tunnel {name} went",
    "dropping": "oversize packets dropped",
    "path_low": "path MTU to {name} low: {mtu}",
}


def lines(report: Report) -> Iterator[str]:
    """Yield the lines of a report."""
    for block in (
        _head(report),
        _findings(report.findings),
        _hosts(report),
        _senders(report),
        _tunnels(report),
        _flows(report),
        _verdicts(report),
        _paths(report),
        _recording(report),
    ):
        for line in block:
            yield printable(line)


def together(reports: Sequence[Report]) -> Iterator[str]:
    """Yield what happened on several hosts, on one axis of time; nothing for a single one.

    Times are those of each host's own clock, as it was set last.
    """
    if len(reports) < 2:
        return
    found: list[tuple[Moment, Report]] = []
    left = 0
    for report in reports:
        kept, more = moments(report)
        found += [(one, report) for one in kept]
        left += more
    found.sort(key=lambda pair: pair[0].ts)
    rows: list[tuple[str, ...]] = [("FROM", "UNTIL", "HOST", "NETNS", "WHAT")]
    for one, report in found[:ON_ONE_AXIS]:
        until = "" if one.until is None else _moment(one.until)
        if one.what == "path_low" and one.until is None:
            until = "not seen to end"
        where = "" if one.netns is None else _name(report, one.netns)
        host = str(report.manifest.get("host"))
        what = WORDS[one.what].format_map(one._asdict())
        rows.append((_moment(one.ts), until, host, where, what))
    for line in _titled("ALL HOSTS", rows, (), left + max(0, len(found) - ON_ONE_AXIS)):
        yield printable(line)


def _moment(ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns // NSEC))


def span(seconds: float) -> str:
    """Return how long something is, as precise as that matters."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _head(report: Report) -> Iterator[str]:
    said, case = report.manifest, report.case
    yield f"{said.get('host')}, kernel {said.get('kernel')}"
    length = span((case.ended - case.began) / NSEC)
    yield f"{_moment(case.began)} to {_moment(case.ended)}, {length}"
    drops, fragmented = report.totals["drops"], report.totals["fragmented"]
    tail = f", {fragmented} outer packets left as fragments" if fragmented else ""
    yield f"{drops} oversize packets dropped{tail}"


def _findings(findings: list[Finding]) -> Iterator[str]:
    yield ""
    if not findings:
        yield "No findings."
        return
    yield "FINDINGS"
    seen: Multiset[str] = Multiset()
    for number, finding in enumerate(findings, 1):
        seen[finding.id] += 1
        if seen[finding.id] > ALIKE:
            continue
        where = finding.subject["name"] or finding.subject["netns"]
        yield f"{number} {finding.severity}: {finding.title}: {where} ({finding.id})"
        since = "not seen when it began" if finding.since is None else _moment(finding.since)
        until = "goes on" if finding.until is None else _moment(finding.until)
        yield f"  {since} to {until}" if finding.until else f"  {since}, {until}"
        yield from textwrap.wrap(finding.cause, WIDTH, initial_indent="  ", subsequent_indent="  ")
        known = [(name, value) for name, value in finding.evidence.items() if value is not None]
        evidence = ", ".join(f"{name} {worded(value)}" for name, value in known)
        yield from textwrap.wrap(
            f"evidence: {evidence}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )
        yield from (f"  do:    {command}" for command in finding.remedy)
        yield from (f"  check: {command}" for command in finding.check)
    for name, number in seen.items():
        if number > ALIKE:
            yield f"and {number - ALIKE} more {name}, which `report -j` lists"


def worded(value: object) -> str:
    """Return a piece of evidence as it is written."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _titled(
    title: str, rows: list[tuple[str, ...]], right: Iterable[str], more: int
) -> Iterator[str]:
    """Yield a table under its title, and how many rows were left out; nothing if it is empty."""
    if len(rows) < 2:
        return
    yield ""
    yield title
    yield from (f"  {line}" for line in aligned(rows, frozenset(right)))
    if more > 0:
        yield f"  and {more} more"


def _name(report: Report, netns: int) -> str:
    return report.case.names.get(netns, str(netns))


def _hosts(report: Report) -> Iterator[str]:
    """Yield who was affected, by name: each kind on its own."""
    if not report.hosts:
        return
    counted = kinds(report.hosts)
    said = ", ".join(f"{counted[kind]} {words}" for kind, words in KINDS.items() if counted[kind])
    yield ""
    yield f"AFFECTED HOSTS: {len(report.hosts)}: {said}"
    for kind, words in KINDS.items():
        names = [one.saddr for one in report.hosts if one.kind == kind]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        if names:
            named = f"{words}: {', '.join(names[:NAMED])}{more}"
            yield from textwrap.wrap(
                named, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
            )


def _senders(report: Report) -> Iterator[str]:
    senders = report.case.senders
    rows: list[tuple[str, ...]] = [
        ("KIND", "NETNS", "FROM", "TO", "PACKETS", "TOLD", "MTU", "LONGEST")
    ]
    for kind in KINDS:
        rows += [
            (
                kind,
                _name(report, one.netns),
                one.saddr,
                one.daddr,
                str(one.packets),
                str(one.told),
                str(one.mtu or ""),
                str(one.longest or ""),
            )
            for one in [one for one in senders if one.kind == kind][:NAMED]
        ]
    right = ("PACKETS", "TOLD", "MTU", "LONGEST")
    yield from _titled("SENDERS", rows, right, len(senders) - len(rows) + 1)


def _paths(report: Report) -> Iterator[str]:
    lines = [line for line in report.case.timelines if line.floor is not None]
    rows: list[tuple[str, ...]] = [
        ("DESTINATION", "NETNS", "ROUTE", "LOWEST", "AT THE END", "TIMES", "LOW FOR", "RHYTHM")
    ]
    rows += [
        (
            line.daddr,
            _name(report, line.netns),
            str(line.base or ""),
            str(line.floor),
            "-" if line.now is None else f"{line.now.mtu}{' lock' if line.now.locked else ''}",
            str(len(line.episodes)),
            span(sum(one.until - one.seen for one in line.episodes) / NSEC),
            rhythm_of(line),
        )
        for line in sorted(lines, key=lambda line: line.floor or 0)[:MOST]
    ]
    right = ("ROUTE", "LOWEST", "AT THE END", "TIMES", "LOW FOR")
    yield from _titled("PATH MTUS", rows, right, len(lines) - MOST)


def rhythm_of(line: Timeline) -> str:
    """Return in which rhythm a path MTU falls, in words; nothing where there is none."""
    found = rhythm.find(line.episodes, line.gaps)
    if found is None:
        return ""
    return f"every {span(found.period_s)} for {span(found.episode_s)}, {found.duty:.0%}"


def drops_by_tunnel(report: Report) -> Multiset[tuple[int, str]]:
    """Return packets dropped, by the namespace and the name of the tunnel."""
    drops: Multiset[tuple[int, str]] = Multiset()
    for key, counter in report.case.counters.items():
        tunnel = report.refs[key][1] if key in report.refs else None
        if tunnel is not None:
            drops[key.netns, tunnel.name] += counter.packets
    return drops


def _tunnels(report: Report) -> Iterator[str]:
    drops = drops_by_tunnel(report)
    inner = {(one.netns, one.ifindex): line for one, line in report.case.tunnel_timelines}
    rows: list[tuple[str, ...]] = [
        ("TUNNEL", "NETNS", "TYPE", "LOCAL", "REMOTE", "MTU", "LOWEST", "DROPS")
    ]
    order = sorted(report.case.tunnels, key=lambda one: -drops[one.netns, printable(one.name)])
    for one in order[:MOST]:
        line = inner.get((one.netns, one.ifindex))
        rows.append(
            (
                one.name,
                _name(report, one.netns),
                one.type,
                one.local or "any",
                one.remote or "any",
                str(one.mtu),
                str(line.floor) if line and line.floor else "",
                str(drops[one.netns, printable(one.name)]),
            )
        )
    yield from _titled("TUNNELS", rows, ("MTU", "LOWEST", "DROPS"), len(order) - MOST)


def _verdicts(report: Report) -> Iterator[str]:
    rows: Multiset[tuple[str, str, str]] = Multiset()
    for key, counter in report.case.counters.items():
        rows[key.verdict, key.cause or "", key.site] += counter.packets
    table: list[tuple[str, ...]] = [("VERDICT", "CAUSE", "SITE", "PACKETS")]
    table += [(*what, str(number)) for what, number in rows.most_common(MOST)]
    yield from _titled("VERDICTS", table, ("PACKETS",), len(rows) - MOST)


def _flows(report: Report) -> Iterator[str]:
    flows: Multiset[tuple[int, Flow]] = Multiset()
    for key, counter in report.case.counters.items():
        flows[key.netns, key.flow] += counter.packets
    rows: list[tuple[str, ...]] = [("PROTOCOL", "NETNS", "FROM", "TO", "PACKETS")]
    for (netns, flow), number in flows.most_common(MOST):
        ends = [
            address if port is None else f"{address} port {port}"
            for address, port in ((flow.saddr, flow.sport), (flow.daddr, flow.dport))
        ]
        rows.append((str(protocol(flow.proto)), _name(report, netns), *ends, str(number)))
    yield from _titled("FLOWS", rows, ("PACKETS",), len(flows) - MOST)


def unseen(report: Report, moment: Callable[[int], str] = _moment) -> list[str]:
    """Return what the recording could not see, a sentence each.

    Args:
        report: of one host.
        moment: writes a time, given as nanoseconds since 1970.
    """
    said = []
    lost = {kind: number for kind, number in report.totals["losses"].items() if number}
    said += [f"{number} lost: {kind}" for kind, number in lost.items()]
    said += [f"hook {hook}: not known: {blind}" for hook, blind in report.hooks]
    if report.killed:
        said.append("the recorder runs still, or was killed; then the last second is missing")
    if report.share < 1:
        share = f"{report.share:.0%} of the events of drops"
        said.append(f"who goes on all the same was looked for in {share}; counts are exact")
    said += [
        f"nobody looked for {span((gap.ended - gap.began) / NSEC)} from {moment(gap.began)}"
        for gap in report.case.gaps[:MOST]
    ]
    said += [
        f"the clock was set by {by / NSEC:+.1f} s when it showed {moment(shown - by)}; what was "
        "before is moved along"
        for clock in report.clocks
        for shown, by in clock.sets[:MOST]
    ]
    if report.damaged:
        said.append(f"{report.damaged} rows are damaged and were left out")
    return said or ["nothing was lost"]


def _recording(report: Report) -> Iterator[str]:
    yield ""
    yield f"RECORDING: {', '.join(report.files)}"
    yield from (f"  {line}" for line in unseen(report))
