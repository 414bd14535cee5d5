"""What is drawn over time: drops by verdict, and path MTUs, for each host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmtutrace.report.html.words import shown
from pmtutrace.report.text import rhythm_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pmtutrace.diagnosis.timeline import Episode, Step, Timeline
    from pmtutrace.report.build import Report
    from pmtutrace.report.html.words import Words
    from pmtutrace.report.series import Series
    from pmtutrace.tunnels.tunnel import Tunnel

MSEC = 1_000_000
PATHS = 200  # of one host; the worst ones
STEPS = 60_000  # of all paths of one host
LEAST = 50  # parts of the time, of one path


def order(report: Report) -> list[Timeline]:
    """Return the path MTUs that fell, the worst first: collapsed ones, then the lowest."""
    found = [line for line in report.case.timelines if line.floor is not None]
    ends = {(tunnel.netns, tunnel.remote) for tunnel in report.case.tunnels if tunnel.remote}
    found.sort(key=lambda line: (line.floor, (line.netns, line.daddr) not in ends, line.daddr))
    chosen = found[:PATHS]
    return sorted(chosen, key=lambda line: not any(one.collapse for one in line.episodes))


def host(report: Report, series: Series, t0: int, words: Words) -> dict[str, Any]:
    """Return what is drawn of one host.

    Args:
        report: of the host.
        series: of its drops.
        t0: nanoseconds since 1970 that all times are counted from, in milliseconds.
        words: numbers names.
    """
    case = report.case
    lines = order(report)
    share = max(LEAST * 4, STEPS // max(1, len(lines)))
    return {
        "name": words(report.manifest.get("host")),
        "began": _ms(case.began, t0),
        "ended": _ms(case.ended, t0),
        "gaps": [[_ms(gap.began, t0), _ms(gap.ended, t0)] for gap in case.gaps],
        "drops": _drops(series, t0),
        "paths": [_path(report, line, share, t0, words) for line in lines],
        "more": sum(line.floor is not None for line in case.timelines) - len(lines),
    }


def _ms(ts: int, t0: int) -> int:
    return (ts - t0) // MSEC


def _drops(series: Series, t0: int) -> dict[str, Any]:
    """Return spans as columns; each begins so long after the one before, and is so long."""
    begins = [_ms(span.began, t0) for span in series.spans]
    verdicts = series.verdicts
    return {
        "width": series.width,
        "verdicts": [shown(name) for name in verdicts],
        "after": [now - before for before, now in zip([0, *begins], begins, strict=False)],
        "long": [max(1, (span.ended - span.began) // MSEC) for span in series.spans],
        "packets": [[span.packets.get(name, 0) for span in series.spans] for name in verdicts],
        "peak": [round(span.peak) for span in series.spans] if series.width else None,
    }


def _path(report: Report, line: Timeline, most: int, t0: int, words: Words) -> dict[str, Any]:
    steps = thinned(line, most)
    return {
        "netns": words(report.case.names.get(line.netns, line.netns)),
        "daddr": words(line.daddr),
        "tunnels": [
            [words(tunnel.name), words(tunnel.type), tunnel.overhead, tunnel.mtu]
            for tunnel in _through(report, line)
        ],
        "base": line.base,
        "floor": line.floor,
        "standing": line.standing,
        "began": _ms(line.began, t0),
        "at": [_ms(step.ts, t0) for step in steps],
        "mtu": [step.mtu for step in steps],
        "locked": [int(step.locked) for step in steps],
        "steps": len(line.steps),
        "bands": [_band(one, t0) for one in line.episodes if one.collapse],
        "rhythm": rhythm_of(line),
    }


def _through(report: Report, line: Timeline) -> Iterator[Tunnel]:
    """Yield the tunnels whose outer packets take this path."""
    for tunnel in report.case.tunnels:
        if (tunnel.netns, tunnel.remote) == (line.netns, line.daddr) and not tunnel.elsewhere:
            yield tunnel


def _band(episode: Episode, t0: int) -> list[int]:
    return [
        _ms(episode.seen, t0),
        _ms(episode.until, t0),
        episode.floor,
        int(episode.locked),
        int(episode.began is not None),
        int(episode.ended is not None),
    ]


def thinned(line: Timeline, most: int) -> Sequence[Step]:
    """Return steps, so many at most: of each part of the time the first, lowest, highest and last.

    What is drawn of them at the width of a screen is what all of them would give.
    """
    if len(line.steps) <= most:
        return line.steps
    parts = max(1, most // 4)
    first, last = line.steps[0].ts, line.steps[-1].ts
    groups: dict[int, list[Step]] = {}
    for step in line.steps:
        groups.setdefault((step.ts - first) * parts // (last - first + 1), []).append(step)
    out: list[Step] = []
    for group in groups.values():
        height = {id(step): step.mtu or line.base or 1 << 20 for step in group}
        kept = {
            id(step)
            for step in (
                group[0],
                min(group, key=lambda step: height[id(step)]),
                max(group, key=lambda step: height[id(step)]),
                group[-1],
            )
        }
        out += [step for step in group if id(step) in kept]
    return out
