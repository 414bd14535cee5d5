"""Who was affected: senders, whatever they sent to, by the worst that befell them."""

from __future__ import annotations

from collections import Counter as Multiset
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmtutrace.diagnosis.case import Sender

WORST = ("ignored", "never_told", "followed")


@dataclass(frozen=True, slots=True)
class Host:
    """A sender whose packets were dropped in one network namespace.

    ``kind`` is the worst of its kinds (:data:`WORST`) over ``destinations`` addresses, ``packets``
    were dropped, of ``told`` of them it was told. Times are nanoseconds since 1970.
    """

    netns: int
    saddr: str
    kind: str
    destinations: int
    packets: int
    told: int
    first: int
    last: int


def hosts(senders: Iterable[Sender]) -> list[Host]:
    """Return everybody whose packets were dropped: by kind, the worst first, then by packets."""
    found: dict[tuple[int, str], list[Sender]] = {}
    for one in senders:
        found.setdefault((one.netns, one.saddr), []).append(one)
    out = [
        Host(
            netns,
            saddr,
            min((one.kind for one in pairs), key=WORST.index),
            len(pairs),
            sum(one.packets for one in pairs),
            sum(one.told for one in pairs),
            min(one.first for one in pairs),
            max(one.last for one in pairs),
        )
        for (netns, saddr), pairs in found.items()
    ]
    return sorted(out, key=lambda one: (WORST.index(one.kind), -one.packets, one.saddr))


def kinds(found: Iterable[Host]) -> dict[str, int]:
    """Return how many there are of each kind."""
    counted = Multiset(one.kind for one in found)
    return {kind: counted[kind] for kind in WORST}
