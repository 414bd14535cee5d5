"""The closing line: totals taken from the counters, so exact."""

from __future__ import annotations

import time
from collections import Counter as Tally
from typing import TYPE_CHECKING, Any

from pmtutrace.jsonl import SCHEMA, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmtutrace.events import Counter, CounterKey
    from pmtutrace.tracing.filters import Filter


def summarize(
    counters: Mapping[CounterKey, Counter],
    fragments: Mapping[CounterKey, Counter],
    losses: Mapping[str, int],
    *,
    wanted: Filter,
    seconds: float,
    streamed: int,
) -> dict[str, Any]:
    """Return the summary as the object of its JSON line.

    Args:
        counters: all counters of the run.
        fragments: those of outer packets that left as fragments.
        losses: by kind.
        wanted: what is shown; the overflow entry, whose flows are unknown, is always counted.
        seconds: how long the run took.
        streamed: events shown.
    """
    verdicts: Tally[str] = Tally()
    causes: Tally[str] = Tally()
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
        # Nobody looks at these yet, and 0 would say that somebody did.
        "icmp_received": None,
        "pmtu_changes": None,
        "events_streamed": streamed,
        "events_lost": losses["ring_full"],
        "losses": dict(losses),
    }
