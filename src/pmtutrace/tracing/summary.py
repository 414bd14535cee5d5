"""The closing line: totals taken from the counters, so exact."""

from __future__ import annotations

import time
from collections import Counter as Multiset
from typing import TYPE_CHECKING, Any

from pmtutrace.events import IcmpReceived, PathMtuChange
from pmtutrace.jsonl import SCHEMA, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmtutrace.events import Counter, CounterKey, Event
    from pmtutrace.tracing.filters import Filter


class Tally:
    """Numbers of events that have no counters."""

    def __init__(self) -> None:
        self.received = 0
        self.changes = 0

    def take(self, event: Event) -> None:
        """Count an event that is wanted."""
        self.received += isinstance(event, IcmpReceived)
        self.changes += isinstance(event, PathMtuChange)


def summarize(
    counters: Mapping[CounterKey, Counter],
    fragments: Mapping[CounterKey, Counter],
    losses: Mapping[str, int],
    *,
    wanted: Filter,
    seconds: float,
    streamed: int,
    tally: Tally | None = None,
) -> dict[str, Any]:
    """Return the summary as the object of its JSON line.

    Args:
        counters: all counters of the run.
        fragments: those of outer packets that left as fragments.
        losses: by kind.
        wanted: what is shown; the overflow entry, whose flows are unknown, is always counted.
        seconds: how long the run took.
        streamed: events shown.
        tally: of wanted events; messages that had none, for want of room, are always counted. None
            where nobody followed path MTUs.
    """
    verdicts: Multiset[str] = Multiset()
    causes: Multiset[str] = Multiset()
    for key, counter in counters.items():
        if key.site == "overflow" or wanted.counts(key):
            verdicts[key.verdict] += counter.packets
            if key.cause:
                causes[key.cause] += counter.packets
    left = (
        counter.packets
        for key, counter in fragments.items()
        if key.site == "overflow" or wanted.counts(key)
    )
    return {
        "type": "summary",
        "ts": timestamp(time.time_ns()),
        "schema": SCHEMA,
        "netns": None,
        "seconds": round(seconds, 3),
        "drops": verdicts.total(),
        "verdicts": dict(sorted(verdicts.items())),
        "causes": dict(sorted(causes.items())),
        "fragmented": sum(left),
        # 0 would say that somebody looked.
        "icmp_received": tally.received + losses["received"] if tally else None,
        "pmtu_changes": tally.changes if tally else None,
        "events_streamed": streamed,
        "events_lost": losses["ring_full"],
        "losses": dict(losses),
    }
