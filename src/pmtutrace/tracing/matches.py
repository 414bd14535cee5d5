"""Which message, which change of a path MTU and which dump are about the same thing.

There may be thousands of each at once, so none is held against all others. Pure.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pmtutrace.tracing import clock
from pmtutrace.tracing.told import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pmtutrace.events import IcmpReceived, PathMtuChange
    from pmtutrace.pmtu.changes import Dump
    from pmtutrace.pmtu.news import News
    from pmtutrace.tracing.told import Setting

# Where both belong to one look. What a dump says of when an exception was set may be late by as
# long as its reader was kept from running.
SAME_TIME_NS = 1_000_000_000


def numbers(changes: Iterable[PathMtuChange]) -> dict[Place, list[int]]:
    """Return, by path, where in their list the changes are that say what it is now."""
    found: dict[Place, list[int]] = {}
    for number, change in enumerate(changes):
        if change.new is not None:
            found.setdefault(Place(change.netns, change.daddr), []).append(number)
    return found


def came_of(change: PathMtuChange, news: News) -> bool:
    """Say if a change that a dump shows fits a message about the same path in time and size."""
    new = change.new or 0
    fits = new == news.mtu or (change.locked and new > news.mtu)
    return fits and abs(change.ts - news.ts) <= SAME_TIME_NS


def with_origins(
    changes: Iterable[PathMtuChange], received: Iterable[IcmpReceived]
) -> Iterator[PathMtuChange]:
    """Add whom the messages came from because of which path MTUs changed, and what these quote."""
    taken: dict[tuple[int, str, int | None], list[IcmpReceived]] = {}
    for one in received:
        if one.outcome in ("applied", "clamped"):
            daddr = (one.outer or one.flow).daddr
            taken.setdefault((one.netns, daddr, one.effective), []).append(one)
    for change in changes:
        fits = () if change.via != "icmp" else taken.get((change.netns, change.daddr, change.new))
        near = [one for one in fits or () if abs(one.ts - change.ts) <= SAME_TIME_NS]
        if near:
            message = min(near, key=lambda one: abs(one.ts - change.ts))
            yield dataclasses.replace(change, router=message.router, quoted=message.flow)
        else:
            yield change


def doubted(dumps: Iterable[Dump], told: Iterable[Setting]) -> dict[int, Dump]:
    """Return dumps by namespace, and note what was set while one was read, or asked for.

    Nobody knows if the dump has it.
    """
    settings: dict[int, list[Setting]] = {}
    for item in told:
        settings.setdefault(item.netns, []).append(item)
    found = {}
    for dump in dumps:
        began = dump.ts if dump.asked is None else dump.asked
        begin, end = began - clock.TICK_NS, dump.done + clock.TICK_NS
        unsure = {
            (item.item.family, item.item.daddr)
            for item in settings.get(dump.netns, ())
            if begin <= item.ts <= end
        }
        found[dump.netns] = dump._replace(unsure=frozenset(unsure))
    return found
