"""The table of flows, as columns: a row is one flow at one site with one verdict."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from pmtutrace.jsonl import protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmtutrace.events import Counter, CounterKey
    from pmtutrace.report.build import Report
    from pmtutrace.report.html.words import Words

MSEC = 1_000_000
MOST = 100_000  # rows; those with the most packets

Item = tuple["CounterKey", "Counter"]


def flows(reports: Sequence[Report], t0: int, words: Words) -> dict[str, Any]:
    """Return the rows of all hosts as columns, and how many rows and packets are left out.

    Args:
        reports: of all hosts.
        t0: nanoseconds since 1970 that times are counted from, in milliseconds.
        words: numbers names.
    """
    rows = [
        (number, item) for number, one in enumerate(reports) for item in one.case.counters.items()
    ]
    kept = heapq.nlargest(MOST, rows, key=lambda row: row[1][1].packets)
    columns: dict[str, list[Any]] = {}
    for number, item in kept:
        for name, cell in _cells(reports[number], item, t0, words).items():
            columns.setdefault(name, []).append(cell)
        columns.setdefault("host", []).append(number)
    packets = sum(item[1].packets for _, item in rows) - sum(columns.get("packets", ()))
    return {"columns": columns, "left": len(rows) - len(kept), "left_packets": packets}


def _cells(report: Report, item: Item, t0: int, words: Words) -> dict[str, int | None]:
    key, counter = item
    dev, tunnel = report.refs.get(key, ("", None))
    return {
        "netns": words(report.case.names.get(key.netns, key.netns)),
        "proto": words(protocol(key.flow.proto)),
        "saddr": words(key.flow.saddr),
        "sport": key.flow.sport,
        "daddr": words(key.flow.daddr),
        "dport": key.flow.dport,
        "through": words(tunnel.name if tunnel else dev),
        "site": words(key.site),
        "verdict": words(key.verdict),
        "cause": words(key.cause or ""),
        "packets": counter.packets,
        "bytes": counter.bytes,
        "longest": counter.max_length,
        "mtu": counter.mtu,
        "first": (counter.first - t0) // MSEC,
        "last": (counter.last - t0) // MSEC,
    }
