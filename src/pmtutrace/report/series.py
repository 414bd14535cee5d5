"""Packets dropped over time, by verdict, as exact as they were counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pmtutrace.session.rates import rates
from pmtutrace.session.selection import NOT_DROPPED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmtutrace.report.build import Report
    from pmtutrace.session.reader import Reader

NSEC = 1_000_000_000
MOST = 40_000  # spans: half a day, second by second


@dataclass(slots=True)
class Moved:
    """What was dropped between two looks at the counters, or between several.

    ``peak`` is the greatest number of packets per second among the looks that it stands for.
    """

    began: int
    ended: int
    packets: dict[str, int]
    peak: float

    def join(self, other: Moved) -> None:
        """Take in what came next."""
        self.ended = max(self.ended, other.ended)
        self.peak = max(self.peak, other.peak)
        for verdict, number in other.packets.items():
            self.packets[verdict] = self.packets.get(verdict, 0) + number


@dataclass(slots=True)
class Series:
    """Spans of time in which packets were dropped, in order; in between none were.

    ``width`` is None where each span is what was counted between two looks, about a second, else
    spans that began within so many seconds are one. Times are nanoseconds since 1970.
    """

    spans: list[Moved] = field(default_factory=list)
    width: int | None = None

    @property
    def verdicts(self) -> list[str]:
        """Return the verdicts that there were."""
        return list(dict.fromkeys(verdict for span in self.spans for verdict in span.packets))


def series(readers: Sequence[Reader], report: Report) -> Series:
    """Return what sessions of one host counted.

    Args:
        readers: of the sessions, in order of time.
        report: that was built from them.

    Raises:
        SessionError: one of them is damaged.
    """
    found = Series()
    for reader, clock in zip(readers, report.clocks, strict=True):
        for rate in rates(reader.file, report.only):
            began, ended = clock.span(rate.number, rate.since, rate.ts)
            packets = {v: n for v, n in rate.packets.items() if v != NOT_DROPPED}
            if packets:
                seconds = max(ended - began, 1) / NSEC
                peak = sum(packets.values()) / max(seconds, 1)
                found.spans.append(Moved(began, ended, packets, peak))
    found.spans.sort(key=lambda span: span.began)
    _carry_back(found.spans)
    while len(found.spans) > MOST:
        width = 2 * (found.width or 1)
        found = Series(_joined(found.spans, width * NSEC), width)
    return found


def _carry_back(spans: list[Moved]) -> None:
    """Take what is below zero from spans before it.

    A drop that was counted as ``told`` turns out ``lost`` within moments: then it was never told.
    """
    owed: dict[str, int] = {}
    for span in reversed(spans):
        for verdict in span.packets.keys() | owed.keys():
            number = span.packets.get(verdict, 0) + owed.pop(verdict, 0)
            if number < 0:
                owed[verdict] = number
            span.packets[verdict] = max(0, number)
        span.packets = {verdict: number for verdict, number in span.packets.items() if number}
    spans[:] = [span for span in spans if span.packets]


def _joined(spans: list[Moved], width: int) -> list[Moved]:
    """Return spans that began within the same so many nanoseconds as one."""
    out: list[Moved] = []
    for span in spans:
        if out and out[-1].began // width == span.began // width:
            out[-1].join(span)
        else:
            out.append(span)
    return out
