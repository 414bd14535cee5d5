"""Who was told, and whether it listened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.diagnosis.case import Sender

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmtutrace.events import Counter, CounterKey, Drop

NSEC = 1_000_000_000
LIFETIME_S = 600.0  # of what a host is told (RFC 1191); then it tries again, and is told again
FORGET = 0.5  # share of its lifetime: whoever is silent for so long may have to be told anew
GRACE_S = 1.0  # what is in flight, or in a queue, when the sender is told comes within that …
GRACE = 0.1  # … or this share of the lifetime, if that is less
APART = 0.5  # share of the grace: a burst is one moment
LATE_LEAST = 2
SENDERS_KEPT = 65536
TOLD = frozenset(("told", "local"))
HEADERS = {4: 40, 6: 60}  # of IP and TCP, which each segment of a super-packet gets


class Pair(NamedTuple):
    """Who sends, and where to: of an encapsulated packet, the endpoints of the tunnel."""

    netns: int
    family: int
    saddr: str
    daddr: str


@dataclass(slots=True)
class _Memory:
    """What one pair was told."""

    since: int
    mtu: int
    seen: int
    counted: int = 0
    late: int = 0


class Listening:
    """Follows who goes on with packets longer than it was told.

    Args:
        lifetime: seconds that senders keep in mind what they are told.
    """

    def __init__(self, lifetime: float = LIFETIME_S) -> None:
        self._pairs: dict[Pair, _Memory] = {}
        self._forget = round(lifetime * FORGET * NSEC)
        self._grace = round(min(GRACE_S, lifetime * GRACE) * NSEC)

    def take(self, drop: Drop) -> None:
        """Take a drop; only what its sender was told of says anything about it."""
        if drop.verdict != "told" or drop.length is None or not drop.mtu:
            return
        pair = _pair(drop)
        known = self._pairs.get(pair)
        if known is None or drop.ts - known.seen > self._forget:
            if known is None and len(self._pairs) >= SENDERS_KEPT:
                return
            late = known.late if known else 0
            self._pairs[pair] = _Memory(drop.ts, drop.mtu, drop.ts, late=late)
            return
        known.seen = drop.ts
        length = drop.gso + HEADERS[drop.family] if drop.gso else drop.length
        if length <= known.mtu:
            # It had kept to what it was told, and less is said now.
            known.since, known.mtu = drop.ts, min(known.mtu, drop.mtu)
            return
        apart = round(self._grace * APART)
        if drop.ts - known.since >= self._grace and drop.ts - known.counted >= apart:
            known.late += 1
            known.counted = drop.ts

    def late(self, pair: Pair) -> int:
        """Return at how many moments a pair went on though it had been told."""
        known = self._pairs.get(pair)
        return known.late if known else 0


def senders(counters: Mapping[CounterKey, Counter], listening: Listening) -> tuple[Sender, ...]:
    """Return everybody whose packets were dropped, in order of how many."""
    by_pair: dict[Pair, list[tuple[CounterKey, Counter]]] = {}
    for key, counter in counters.items():
        if key.flow.saddr:
            by_pair.setdefault(_pair(key), []).append((key, counter))
    found = [_sender(pair, items, listening.late(pair)) for pair, items in by_pair.items()]
    return tuple(sorted(found, key=lambda one: -one.packets))


def _sender(pair: Pair, items: list[tuple[CounterKey, Counter]], late: int) -> Sender:
    told = sum(c.packets for key, c in items if key.verdict in TOLD)
    kind = "never_told" if not told else "ignored" if late >= LATE_LEAST else "followed"
    mtus = [c.mtu for key, c in items if key.verdict in TOLD and c.mtu]
    most = max(items, key=lambda item: item[1].packets)
    return Sender(
        pair.netns,
        most[0].ifindex,
        pair.family,
        pair.saddr,
        pair.daddr,
        kind,
        sum(c.packets for _, c in items),
        told,
        late,
        min(mtus, default=0),
        max(c.max_length for _, c in items),
        min(c.first for _, c in items),
        max(c.last for _, c in items),
    )


def _pair(item: Drop | CounterKey) -> Pair:
    if item.outer is None:
        return Pair(item.netns, item.family, item.flow.saddr, item.flow.daddr)
    family = 6 if ":" in item.outer.saddr else 4
    return Pair(item.netns, family, item.outer.saddr, item.outer.daddr)
