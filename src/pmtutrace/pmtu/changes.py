"""What must have happened between one dump of path MTU exceptions and the next.

Pure: time comes with the data. Times are nanoseconds since 1970 unless they say otherwise.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.events import PathMtuChange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmtutrace.pmtu.exceptions import Key, PathMtu, Way

NSEC = 1_000_000_000
# A dump tells what is left in hundredths of a second, of an expiry that is a whole tick; reading
# the clock and the dump are not one moment.
TOLERANCE = 50_000_000
# Whoever is kept from running meanwhile reads a deadline late, but hardly by as much.
LATE_AT_MOST = 5 * NSEC


class Dump(NamedTuple):
    """All exceptions of one namespace at one moment.

    ``ts`` is when its reading began, ``done`` when it ended; ``expires`` of the exceptions counts
    from ``ts``. ``monotonic`` is CLOCK_MONOTONIC at ``ts``: the time of day may be set, and a
    machine may sleep, but an exception lives by ticks. ``families`` are those that were read.
    ``lifetimes`` are the seconds that the kernel gives a new exception, by family, where known.
    ``devices`` are names by index. ``rerouted`` are the families whose routes, nexthops, addresses
    or links may have changed since the dump before. ``met`` are the ways that somebody asked for
    just before, from ``asked`` on: an exception there that this does not show is none. ``answers``
    are exceptions that were found so, and that the dump itself may leave out. ``unsure`` are
    destinations, by family and address, for which something was set while somebody asked or this
    was read. ``mtus`` are the devices' own.
    """

    netns: int
    ts: int
    done: int
    monotonic: int
    exceptions: tuple[PathMtu, ...]
    families: frozenset[int] = frozenset((4, 6))
    lifetimes: Mapping[int, float] = MappingProxyType({})
    devices: Mapping[int, str] = MappingProxyType({})
    rerouted: frozenset[int] = frozenset()
    met: frozenset[Way] = frozenset()
    answers: tuple[PathMtu, ...] = ()
    unsure: frozenset[tuple[int, str]] = frozenset()
    asked: int | None = None
    mtus: Mapping[int, int] = MappingProxyType({})


class Known(NamedTuple):
    """An exception as last heard of. ``deadline`` is when it expires; None for never.

    ``shown`` says that a dump must have it while it is there. It may leave out one of which only
    the kernel's news told: IPv4 until somebody asks for its route, IPv6 for good.
    """

    item: PathMtu
    deadline: int | None
    dev: str
    shown: bool = True

    @property
    def leg(self) -> tuple[int, int, str | None]:
        """Return what says by which nexthop of which table."""
        return self.item.table, self.item.ifindex, self.item.gateway

    def over(self, ts: int) -> bool:
        """Say if it has expired by then."""
        return self.deadline is not None and self.deadline <= ts


class Changes:
    """Collects the changes that lead to one dump, or to the kernel's word at one moment."""

    def __init__(self, dump: Dump, since: int, via: str = "unknown") -> None:
        self._dump = dump
        self._since = since
        self._via = via
        # A way is met in whatever table, where that is not known.
        self._met = {*dump.met, *((*where, 0) for *where, _ in dump.met)}
        self._found: list[PathMtuChange] = []
        self._redirected: set[Key] = set()

    @classmethod
    def at(cls, netns: int, ts: int, via: str = "unknown") -> Changes:
        """Return what collects the changes of one moment in one namespace."""
        return cls(Dump(netns, ts, ts, 0, ()), ts, via)

    def in_order(self) -> list[PathMtuChange]:
        """Return all, by time."""
        return sorted(self._found, key=lambda change: change.ts)

    def created(self, known: Known) -> None:
        """Note an exception that was not there."""
        if known.item.key in self._redirected:  # which gives a life of its own
            self._add("created", known, self._dump.ts, old=None, via="redirect")
        else:
            self._add("created", known, self._set(known), old=None)

    def met(self, old: Known, new: Known) -> Known:
        """Note what became of an exception that was there; return it as it is known now."""
        anew = not untouched(old, new)
        ts = self._set(new) if anew else self._dump.ts
        if anew and old.over(ts):
            self.ended("expired", old, old.deadline)
            self.created(new)
        elif old.item.mtu != new.item.mtu:
            word = "lowered" if new.item.mtu < old.item.mtu else "raised"
            # fib_nhc_update_mtu(), rt6_mtu_change(): the device's own, and no time anew.
            of_device = not anew and new.item.mtu == self._dump.mtus.get(new.item.ifindex)
            via = "administrator" if of_device else self._via
            self._add(word, new, ts, old=old.item.mtu, via=via)
        elif old.item.locked != new.item.locked:
            word = "locked" if new.item.locked else "unlocked"
            self._add(word, new, ts, old=old.item.mtu)
        elif anew:
            self._add("refreshed", new, ts, old=old.item.mtu)
        # A deadline can hardly be read too early: the earliest reading is the best.
        read = [one.deadline for one in (old, new) if one.deadline is not None]
        return new if anew else new._replace(deadline=min(read, default=None))

    def vanished(self, gone: list[Known], stayed: list[Known], anew: list[Known]) -> set[Key]:
        """Note why exceptions of one family are no more; return the keys of those.

        What no dump has to show and is not due is still there, for all that can be known, unless
        somebody has asked for its route in vain, or all that the dump before may have had is
        flushed.

        Args:
            gone: those that were there and are not.
            stayed: those that are there and were not set again.
            anew: those that are there and were set since the dump before.
        """
        redirected: dict[object, list[PathMtu]] = {}
        for known in anew:
            if known.item.redirected:
                redirected.setdefault(known.item.key[:4], []).append(known.item)
        due, moved, rest = [], [], []
        for known in gone:
            if known.over(self._dump.done + TOLERANCE):
                due.append(known)
            elif self._moved(known.item, redirected.get(known.item.key[:4], [])):
                moved.append(known)
            else:
                rest.append(known)
        flush = not stayed and any(self._missed(known) for known in rest)
        # What was told of since the dump before may be younger than the flush.
        rest = [
            known
            for known in rest
            if self._missed(known) or (flush and self._set(known) <= self._since)
        ]
        legs = {known.leg for known in stayed}
        # After a flush, all that is there is younger than that.
        ts = min([self._dump.ts, *(self._set(known) for known in anew if flush)])
        for known in due:
            self.ended("expired", known, known.deadline)
        for known in moved:
            self.ended("gone", known, self._dump.ts)
        for known in rest:
            self.ended(self._why(known, legs, flush=flush), known, ts)
        return {known.item.key for known in (*due, *rest, *moved)}

    def _moved(self, old: PathMtu, redirected: list[PathMtu]) -> bool:
        """Say if a redirect leads elsewhere now, and note whereto.

        What sets an IPv4 one knows the gateway of the route, so one that was told of and no dump
        has shown yet may have moved before.
        """
        to = [
            new.key
            for new in redirected
            if new.gateway != old.gateway and old.table in (0, new.table)
        ]
        self._redirected.update(to)
        return bool(to)

    def _missed(self, known: Known) -> bool:
        """Say if an exception would be in the dump if it were there."""
        return known.shown or known.item.way in self._met

    def _why(self, known: Known, legs: set[tuple[int, int, str | None]], *, flush: bool) -> str:
        """Return why an exception went before its time, as far as a dump can tell.

        Args:
            known: the exception.
            legs: nexthops that still have exceptions as old as this one.
            flush: there are no exceptions left that are as old as this one.
        """
        if known.item.family not in self._dump.rerouted:
            if flush:
                return "flushed"
            # One by one, IPv4 only throws out the oldest of a full bucket; of IPv6, anybody may.
            return "evicted" if known.item.family == 4 else "gone"
        return "removed" if not flush and known.leg not in legs else "gone"

    def ended(self, word: str, known: Known, ts: int | None) -> None:
        """Note that an exception is no more."""
        when = self._dump.ts if ts is None else min(ts, self._dump.done)
        left = None if known.deadline is None else max(0, known.deadline - when) / NSEC
        if word == "expired":
            left = 0.0  # its deadline is as exact as the dump that told of it
        self._append(word, known, when, old=known.item.mtu, new=None, expires=left)

    def _set(self, known: Known) -> int:
        """Return when an exception was set last: its end tells, where its lifetime is known."""
        lifetime = self._dump.lifetimes.get(known.item.family)
        if known.deadline is None or lifetime is None:
            return self._dump.ts
        set_at = known.deadline - round(lifetime * NSEC)
        return max(self._since, min(set_at, self._dump.done))

    def _add(
        self, word: str, known: Known, ts: int, old: int | None, via: str | None = None
    ) -> None:
        left = None if known.deadline is None else max(0, known.deadline - ts) / NSEC
        via = via or self._via
        self._append(word, known, ts, old=old, new=known.item.mtu, expires=left, via=via)

    def _append(
        self,
        word: str,
        known: Known,
        ts: int,
        *,
        old: int | None,
        new: int | None,
        expires: float | None,
        via: str = "unknown",
    ) -> None:
        item = known.item
        self._found.append(
            PathMtuChange(
                ts=ts,
                netns=self._dump.netns,
                change=word,
                family=item.family,
                daddr=item.daddr,
                saddr=item.saddr,
                dev=known.dev,
                ifindex=item.ifindex,
                gateway=item.gateway,
                table=item.table,
                old=old,
                new=new,
                locked=item.locked,
                expires=expires,
                via=via,
            )
        )


def deadline(item: PathMtu, ts: int) -> int | None:
    """Return when an exception expires that was read or set then; None for never."""
    return None if item.expires is None else ts + round(item.expires * NSEC)


def untouched(old: Known, new: Known) -> bool:
    """Say if the kernel has not set an exception again, as far as its deadline tells."""
    if old.deadline is None or new.deadline is None:
        return True
    return old.deadline - LATE_AT_MOST <= new.deadline <= old.deadline + TOLERANCE
