"""Who was affected: whoever sent packets that were dropped, by the worst that befell them."""

from __future__ import annotations

from collections import Counter as Multiset
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmtutrace.diagnosis.senders import TOLD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pmtutrace.diagnosis.case import Sender
    from pmtutrace.events import Counter, CounterKey

WORST = ("ignored", "never_told", "followed")


@dataclass(frozen=True, slots=True)
class Host:
    """Somebody whose packets were dropped in one network namespace, inside a tunnel's or bare.

    ``kind`` is the worst of its kinds (:data:`WORST`); a tunnel's endpoint that is told of a packet
    tells nobody inside. ``destinations`` is to how many addresses it sent, ``packets`` were
    dropped, of ``told`` of them it was told. Times are nanoseconds since 1970.
    """

    netns: int
    saddr: str
    kind: str
    destinations: int
    packets: int
    told: int
    first: int
    last: int


def hosts(counters: Mapping[CounterKey, Counter], senders: Iterable[Sender]) -> list[Host]:
    """Return everybody whose packets were dropped: by kind, the worst first, then by packets.

    Args:
        counters: of drops.
        senders: what became of the news to whom it was for.
    """
    found: dict[tuple[int, str], list[tuple[CounterKey, Counter]]] = {}
    for key, counter in counters.items():
        if key.flow.saddr:
            found.setdefault((key.netns, key.flow.saddr), []).append((key, counter))
    known: dict[tuple[int, str], list[str]] = {}
    for one in senders:
        known.setdefault((one.netns, one.saddr), []).append(one.kind)
    out = [
        Host(
            *who,
            min(known.get(who, ["never_told"]), key=WORST.index),
            len({key.flow.daddr for key, _ in items}),
            sum(one.packets for _, one in items),
            sum(one.packets for key, one in items if key.outer is None and key.verdict in TOLD),
            min(one.first for _, one in items),
            max(one.last for _, one in items),
        )
        for who, items in found.items()
    ]
    return sorted(out, key=lambda one: (WORST.index(one.kind), -one.packets, one.saddr))


def kinds(found: Iterable[Host]) -> dict[str, int]:
    """Return how many there are of each kind."""
    counted = Multiset(one.kind for one in found)
    return {kind: counted[kind] for kind in WORST}
