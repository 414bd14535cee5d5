"""How path MTU exceptions change, told from dumps and, where there are any, from the kernel's news.

A dump shows what is there at one moment. That an exception expired or was flushed makes no news at
all, and shows only in its absence from the next dump; but an exception carries its own end, and so
its own beginning, to a hundredth of a second. What is found out late is told with the time at which
it happened.

Pure: time comes with the data. Times are nanoseconds since 1970 unless they say otherwise.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from pmtutrace.pmtu.changes import Changes, Dump, Known, deadline, untouched

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmtutrace.events import PathMtuChange
    from pmtutrace.pmtu.exceptions import Key, PathMtu

    Path = tuple[int, str]  # family and destination: the beginning of a key


class History:
    """The exceptions of all namespaces. Feed it in order of time, in each namespace.

    There may be tens of thousands, and as many words of the kernel in a second: none of these may
    cost more the more there are.
    """

    def __init__(self) -> None:
        self._spaces: dict[int, dict[Path, dict[Key, Known]]] = {}
        # When some end, as a heap; kept while the kernel tells, none where it has to be made anew.
        self._ends: dict[int, list[tuple[int, Path]]] = {}
        self._read: dict[int, int] = {}  # when the last dump of a namespace began
        self._offset: int | None = None  # time of day at CLOCK_MONOTONIC 0

    def known(self, netns: int) -> list[Known]:
        """Return what is known to be there in a namespace."""
        return [known for there in self._spaces.get(netns, {}).values() for known in there.values()]

    def unmet(self, netns: int) -> list[PathMtu]:
        """Return what no dump has to show: somebody should ask for the routes there."""
        return [known.item for known in self.known(netns) if not known.shown]

    def spaces(self) -> set[int]:
        """Return the namespaces of which something is known."""
        return set(self._spaces)

    def begin(self, dump: Dump) -> None:
        """Take what there is when watching begins: nothing has changed."""
        self._keep_time(dump)
        self._hold(dump, _known(dump))

    def take(self, dump: Dump) -> list[PathMtuChange]:
        """Take a new dump of a namespace; return what must have happened, in order of time."""
        self._keep_time(dump)
        before = {known.item.key: known for known in self.known(dump.netns)}
        now = {k: known for k, known in _known(dump).items() if k[:2] not in dump.unsure}
        after = Changes(dump, self._read.get(dump.netns, 0))
        kept = {
            k: known
            for k, known in before.items()
            if k[0] not in dump.families or k[:2] in dump.unsure
        }
        before = _adopted({k: v for k, v in before.items() if k not in kept}, now)
        for family in sorted(dump.families):
            gone = [v for k, v in before.items() if k[0] == family and k not in now]
            same = [(v, now[k]) for k, v in before.items() if k[0] == family and k in now]
            stayed = {new.item.key: new for old, new in same if untouched(old, new)}
            anew = [v for k, v in now.items() if k[0] == family and k not in stayed]
            ends = after.vanished(gone, list(stayed.values()), anew)
            kept |= {v.item.key: v for v in gone if v.item.key not in ends}
            for old, new in same:
                now[new.item.key] = after.met(old, new)
            for known in now.values():
                if known.item.family == family and known.item.key not in before:
                    after.created(known)
        self._hold(dump, kept | now)
        return after.in_order()

    def told(
        self, netns: int, ts: int, item: PathMtu, *, dev: str, via: str
    ) -> list[PathMtuChange]:
        """Take the kernel's word that it has set an exception; return what that changed.

        What expired in that namespace before is told first. The kernel's word has no table: where
        it would fit several exceptions, the next dump says which one it was.

        Args:
            netns: inode of the namespace.
            ts: when it was set.
            item: what was set; ``expires`` counts from ``ts``.
            dev: name of the device.
            via: what the kernel learned it from.
        """
        after = Changes.at(netns, ts, via)
        for known in self._expired(netns, ts):
            after.ended("expired", known, known.deadline)
        there = self._spaces.setdefault(netns, {}).setdefault(item.key[:2], {})
        fitting = [known for known in there.values() if _fits(known, item)]
        if len(fitting) > 1:
            return after.in_order()
        # It may be another one than before, made when the route was: none that a packet has met.
        known = Known(item, deadline(item, ts), dev, shown=False)
        if fitting:
            (old,) = fitting
            del there[old.item.key]
            known = after.met(old, known._replace(item=_by(item, old.item)))
        else:
            after.created(known)
        self._set(netns, known)
        return after.in_order()

    def redirected(self, netns: int, ts: int, item: PathMtu, *, dev: str) -> list[PathMtuChange]:
        """Take the kernel's word that a redirect leads to another gateway.

        By itself that is no path MTU; but one that was learned before goes along, and its time is
        another (net/ipv4/route.c: update_or_create_fnhe()).

        Args:
            netns: inode of the namespace.
            ts: when it was set.
            item: the new gateway; its ``mtu`` is 0, ``expires`` counts from ``ts``.
            dev: name of the device.
        """
        there = self._spaces.get(netns, {}).get(item.key[:2], {})
        fitting = [known for known in there.values() if known.item.key[:4] == item.key[:4]]
        if len(fitting) != 1 or fitting[0].over(ts):
            return []  # the next dump says which one it was
        (old,) = fitting
        moved = old.item._replace(gateway=item.gateway, expires=item.expires, redirected=True)
        known = Known(moved, deadline(moved, ts), dev, shown=False)
        after = Changes.at(netns, ts, "redirect")
        del there[old.item.key]
        if moved.key == old.item.key:
            known = after.met(old, known)
        else:
            after.ended("gone", old, ts)
            after.created(known)
        self._set(netns, known)
        return after.in_order()

    def forget(self, netns: int, ts: int) -> list[PathMtuChange]:
        """Take that a namespace is gone, and all that was in it."""
        self._read.pop(netns, None)
        after = Changes.at(netns, ts)
        there = self.known(netns)
        self._spaces.pop(netns, None)
        self._ends.pop(netns, None)
        for known in there:
            if known.over(ts):
                after.ended("expired", known, known.deadline)
            else:
                after.ended("removed", known, ts)
        return after.in_order()

    def _hold(self, dump: Dump, known: dict[Key, Known]) -> None:
        """Take what is known to be there now that a namespace was read."""
        there: dict[Path, dict[Key, Known]] = {}
        for key, one in known.items():
            there.setdefault(key[:2], {})[key] = one
        self._spaces[dump.netns] = there
        self._ends.pop(dump.netns, None)
        self._read[dump.netns] = dump.ts

    def _set(self, netns: int, known: Known) -> None:
        """Take one that is there, and note when it ends."""
        key = known.item.key
        self._spaces[netns].setdefault(key[:2], {})[key] = known
        if known.deadline is not None and netns in self._ends:
            heapq.heappush(self._ends[netns], (known.deadline, key[:2]))

    def _expired(self, netns: int, ts: int) -> list[Known]:
        """Return what has expired in a namespace by then, and let go of it."""
        if netns not in self._ends:
            ends = [(k.deadline, k.item.key[:2]) for k in self.known(netns) if k.deadline]
            heapq.heapify(ends)
            self._ends[netns] = ends
        ends, found = self._ends[netns], []
        while ends and ends[0][0] <= ts:
            _, path = heapq.heappop(ends)
            there = self._spaces[netns].get(path, {})
            over = [known for known in there.values() if known.over(ts)]
            for known in over:
                del there[known.item.key]
            found += over
        return found

    def _keep_time(self, dump: Dump) -> None:
        """Move all deadlines along with a time of day that was set, or that passed asleep."""
        offset = dump.ts - dump.monotonic
        step = offset - (offset if self._offset is None else self._offset)
        self._offset = offset
        if not step:
            return
        self._ends.clear()
        for paths in self._spaces.values():
            for there in paths.values():
                for key, known in there.items():
                    if known.deadline is not None:
                        there[key] = known._replace(deadline=known.deadline + step)


def _fits(known: Known, item: PathMtu) -> bool:
    """Say if the kernel's word may be about an exception: it names the gateway of the route."""
    length = 4 if known.item.redirected else 5
    return known.item.key[:length] == item.key[:length]


def _by(item: PathMtu, old: PathMtu) -> PathMtu:
    """Return what the kernel told of by the gateway and in the table that are known to be right."""
    return item._replace(gateway=old.gateway, table=old.table, redirected=old.redirected)


def _known(dump: Dump) -> dict[Key, Known]:
    found = [(item, False) for item in dump.answers] + [(item, True) for item in dump.exceptions]
    return {
        item.key: Known(item, deadline(item, dump.ts), dump.devices.get(item.ifindex, ""), shown)
        for item, shown in found
        if item.family in dump.families
    }


def _adopted(before: dict[Key, Known], now: Iterable[Key]) -> dict[Key, Known]:
    """Give exceptions of an unknown table the one that a dump shows them in."""
    tables = {key[:5]: key for key in now if key not in before}
    out = {}
    for key, known in before.items():
        new = tables.get(key[:5], key) if not known.item.table else key
        out[new] = known._replace(item=known.item._replace(table=new[5]))
    return out
