"""Path MTUs beside the drops: messages that arrive, what came of them, and how exceptions change.

The kernel tells of each exception that is set, and then of the message because of which it was set,
from one CPU in this order. Where it does not, raw sockets hear of messages, and dumps, taken then
and once a second, show what came of them. That an exception is no more, dumps alone can tell.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.events import IcmpReceived
from pmtutrace.pmtu import news as pmtu_news
from pmtutrace.pmtu.news import News, Outcome
from pmtutrace.tracing import matches, quoted
from pmtutrace.tracing.told import Place, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pmtutrace.events import InnerMtu, PathMtuChange, TunnelRef
    from pmtutrace.pmtu.changes import Dump
    from pmtutrace.pmtu.news import InForce
    from pmtutrace.pmtu.watch import Watch
    from pmtutrace.tracing.quoted import Quoted

# TCP sets a path MTU a moment later if somebody is just using its socket.
SETTLED_NS = 20_000_000
# Of what a CPU has set lately, a message's own is the last; the kernel may tell of no message more.
SET_AT_MOST = 64


class Open(NamedTuple):
    """A message of which it is not known yet what came of it."""

    news: News
    quoted: Quoted

    @property
    def place(self) -> Place:
        """Return which path it is about; without an address if it quotes nothing readable."""
        return Place(self.news.netns, self.quoted.outermost.daddr)


class Paths:
    """Puts together what is told, heard and read; gives events.

    Args:
        watch: reads exceptions; it is closed with this. It has looked once.
        tunnel: names the tunnel whose packet is quoted, if it is one's.
        inside: gives the tunnels to a far end, by namespace, address, the device on the way, and
            the MTU of that; and what fits inside.
        device: gives a device's name by namespace and index.
    """

    def __init__(
        self,
        watch: Watch,
        *,
        tunnel: Callable[[int, Quoted], TunnelRef | None],
        inside: Callable[[int, str, int, int | None], tuple[InnerMtu, ...]],
        device: Callable[[int, int], str],
    ) -> None:
        self.watch = watch
        self._tunnel = tunnel
        self._inside = inside
        self._device = device
        self._told: list[News | Setting] = []
        self._settings: dict[int, deque[Setting]] = {}  # since the last message of each CPU
        self._heard: list[Open] = []
        self._read_at = 0  # when reading was last begun, nanoseconds since 1970
        self._read = False  # or tried to, since events were last asked for
        self._open: dict[Place, deque[Open]] = {}

    def close(self) -> None:
        """Let go of all namespaces."""
        self.watch.close()

    @property
    def undecided(self) -> bool:
        """Say if there are messages of which it is not known yet what came of them."""
        return bool(self._heard or self._open)

    def tell(self, item: News | Setting) -> None:
        """Take the kernel's word, in the order in which it comes."""
        self._told.append(item)

    def read(self) -> list[Dump]:
        """Read what is due, before the ring is emptied: what led to it has then been told."""
        self._read = False
        due = self.watch.due
        if not due and not (self._heard and self.watch.rested):
            return []
        self._read, self._read_at = True, time.time_ns()
        for place in dict.fromkeys(one.place for one in self._heard):
            # An exception is left out of dumps until somebody has looked for its route.
            self._in_force(place)
        try:
            return self.watch.read(None if due else {one.news.netns for one in self._heard})
        except OSError:
            return []  # namespaces on their way out; the next time, perhaps

    def events(
        self, dumps: Iterable[Dump], now: int, *, last: bool = False
    ) -> list[IcmpReceived | PathMtuChange]:
        """Return what has come to pass, in order of time.

        Args:
            dumps: what was read before the kernel's word was taken.
            now: nanoseconds since 1970.
            last: no more will be asked for, so nothing is kept for later.
        """
        told, self._told = sorted(self._told, key=lambda item: item.ts), []
        read = matches.doubted(dumps, (item for item in told if isinstance(item, Setting)))
        changes: list[PathMtuChange] = []
        found: list[IcmpReceived] = []
        for item in told:
            if item.netns in read and read[item.netns].ts < item.ts:
                changes += self.watch.take([read.pop(item.netns)])
            if isinstance(item, News):
                found += self._decided(item)
            else:
                changes += self._set(item)
                found += self._late(item)
        changes += self.watch.take(read.values())
        # Whatever a dump shows has been heard of by now: sockets get their copy first.
        found += self._seen(self.watch.heard(last=last), changes, last=last)
        found += self._settled(now, last=last)
        named = [
            dataclasses.replace(change, tunnels=self._around(change))
            for change in matches.with_origins(changes, found)
        ]
        return sorted([*found, *named], key=lambda event: event.ts)

    def _around(self, change: PathMtuChange) -> tuple[InnerMtu, ...]:
        return self._inside(change.netns, change.daddr, change.ifindex, change.new)

    def _set(self, item: Setting) -> list[PathMtuChange]:
        if not item.item.mtu:
            return self.watch.history.redirected(item.netns, item.ts, item.item, dev=item.dev)
        if item.inside:
            latest = self._settings.setdefault(item.cpu, deque(maxlen=SET_AT_MOST))
            latest.append(item)
        return self.watch.history.told(item.netns, item.ts, item.item, dev=item.dev, via=item.via)

    def _decided(self, news: News) -> Iterator[IcmpReceived]:
        """Yield the event of a message for which exceptions were set; keep any other."""
        one = Open(news, quoted.read(news.quoted))
        for item in self._settings.pop(news.cpu, ()):
            if item.place == one.place:
                outcome = pmtu_news.applied(item.item.mtu, locked=item.item.locked)
                # The kernel tells of a message last, when it is done with it.
                began = news._replace(ts=min(news.ts, item.ts))
                yield self._event(began, one.quoted, outcome)
                return
        self._wait(one)

    def _wait(self, one: Open) -> None:
        self._open.setdefault(one.place, deque()).append(one)

    def _late(self, item: Setting) -> Iterator[IcmpReceived]:
        """Yield the event of an earlier message because of which TCP has set an exception now."""
        if item.via != "icmp" or item.inside:
            return
        waiting = self._open.get(item.place)
        if not waiting:
            return
        one = waiting.popleft()
        if not waiting:
            del self._open[one.place]
        outcome = pmtu_news.applied(item.item.mtu, locked=item.item.locked)
        yield self._event(one.news, one.quoted, outcome)

    def _seen(
        self, heard: list[News], changes: list[PathMtuChange], *, last: bool
    ) -> Iterator[IcmpReceived]:
        """Yield the events of messages that a dump shows to have been taken.

        Any other waits for a dump that was made when all was settled.
        """
        fresh = [(Open(news, quoted.read(news.quoted)), True) for news in heard]
        late, self._heard = [(one, False) for one in self._heard], []
        about = matches.numbers(changes)
        for one, new in (*late, *fresh):
            fits = (n for n in about.get(one.place, ()) if matches.came_of(changes[n], one.news))
            taken = next(fits, None)
            # Nobody had looked for the route of a fresh one when the last dump was made, and none
            # may have been made since it was fresh.
            early = new or not self._read or self._read_at - one.news.ts < SETTLED_NS
            if taken is not None:
                change = changes[taken]
                changes[taken] = dataclasses.replace(change, via="icmp", ts=one.news.ts)
                outcome = pmtu_news.applied(change.new or 0, locked=change.locked)
                yield self._event(one.news, one.quoted, outcome)
            elif early and not last:
                self._heard.append(one)
            else:
                self._wait(one)

    def _settled(self, now: int, *, last: bool) -> Iterator[IcmpReceived]:
        """Yield the events of messages for which nothing will be set any more."""
        still: dict[Place, deque[Open]] = {}
        for place, waiting in self._open.items():
            early = deque(o for o in waiting if not last and now - o.news.ts < SETTLED_NS)
            if early:
                still[place] = early
            if len(early) == len(waiting):
                continue
            now_there, mode = self._in_force(place), self.watch.no_pmtu_disc(place.netns)
            for one in waiting:
                if last or now - one.news.ts >= SETTLED_NS:
                    outcome = pmtu_news.ignored(one.news, one.quoted.outermost, now_there, mode)
                    yield self._event(one.news, one.quoted, outcome)
        self._open = still

    def _in_force(self, place: Place) -> InForce | None:
        """Return the MTU in force now on the way to where a quoted packet went."""
        return self.watch.in_force(*place) if place.daddr else None

    def _event(self, news: News, about: Quoted, outcome: Outcome) -> IcmpReceived:
        return IcmpReceived(
            ts=news.ts,
            netns=news.netns,
            cpu=news.cpu,
            family=news.family,
            router=news.router,
            to=news.to,
            mtu=news.mtu,
            flow=about.flow,
            outer=about.outer,
            dev=news.dev or self._device(news.netns, news.ifindex),
            ifindex=news.ifindex,
            tunnel=self._tunnel(news.netns, about),
            outcome=outcome.word,
            effective=outcome.effective,
        )
