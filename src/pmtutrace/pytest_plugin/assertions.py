"""Assertions about what is dropped in the labs of one test."""

from __future__ import annotations

import threading
import time
from collections import Counter as Tally
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, Unpack

from pmtutrace.pytest_plugin import report
from pmtutrace.pytest_plugin.drops import describe, normal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pmtutrace.events import Counter, CounterKey, Event
    from pmtutrace.lab import Net
    from pmtutrace.pytest_plugin.drops import Dropped, Words
    from pmtutrace.tracing import Tracer

    Counters = dict[CounterKey, Counter]

T = TypeVar("T")

TIMEOUT_S = 5.0
LOOK_EVERY_S = 0.02
# The namespace of what found no room in the table of counters. It may be ours, so it counts.
NOBODY_KNOWS = 0


class Trace:
    """What is dropped in some labs, each from the moment at which it is followed.

    Inodes of namespaces are used again and counters are kept for ever, so all numbers are
    differences to what was there at that moment.

    Args:
        tracer: one that looks at no namespaces but those that it is told of.
        nets: labs that are there already.
    """

    def __init__(self, tracer: Tracer, nets: Iterable[Net] = ()) -> None:
        self._tracer = tracer
        self._since = time.time_ns()
        self._nets: dict[int, Net] = {}
        self._kernel: Tally[str] = Tally()
        self._events: list[Event] = []
        self._start = _of(tracer.counters(), {NOBODY_KNOWS})
        self._expected = dict(self._start)
        for net in nets:
            self.follow(net)

    def follow(self, net: Net) -> None:
        """Count the drops of a lab from now on; ``pmtu_lab`` does so for each that it builds."""
        self.events()  # takes away what others have left under the inodes of this one
        nodes = {node.inum: net for node in net}
        self._tracer.refresh()  # building may have loaded the tunnel's module
        for inum in nodes:
            self._tracer.watch(inum)
        now = _of(self._tracer.counters(), nodes)
        self._start |= now
        self._expected |= now
        self._nets |= nodes
        self._kernel.update(_kernel([net]))

    def expect(
        self,
        drops: int,
        *,
        others: bool = False,
        timeout: float = TIMEOUT_S,
        **words: Unpack[Words],
    ) -> Counters:
        """Wait until so many packets were dropped as said, and assert that it was just those.

        Each drop is expected once: what an expectation has matched, later ones do not see.

        Args:
            drops: packets; 0 where nothing of the kind may have been dropped.
            others: whether other packets may have been dropped, too.
            timeout: seconds until what is missing is missed. Longer than anything that the test
                makes packets wait for.
            **words: what is expected of each; see :class:`~pmtutrace.pytest_plugin.drops.Words`.

        Returns:
            The counters that matched.

        Raises:
            AssertionError: more, less or others were counted; the text shows what.
            TypeError: drops have no such property.
            ValueError: an address is none.
        """
        __tracebackhide__ = True
        wanted = normal(words)

        def look() -> tuple[list[Dropped], list[Dropped]]:
            rows = self._unexpected()
            matched = [row for row in rows if row.matches(wanted)]
            return matched, [row for row in rows if not row.matches(wanted)]

        matched, rest = self._arrived(look, lambda seen: report.packets(seen[0]) >= drops, timeout)
        if report.packets(matched) != drops or (rest and not others):
            moved = self._moved()
            raise AssertionError(
                report.failure(drops, wanted, matched, rest, moved, allowed=others)
            )
        now = self._tracer.counters()
        self._expected |= {row.key: now[row.key] for row in matched}
        return {row.key: row.counter for row in matched}

    def expect_none(self, *, timeout: float = TIMEOUT_S) -> None:
        """Assert that nothing was dropped that was not expected before, once the labs are quiet.

        Raises:
            AssertionError: something was; the text shows what.
        """
        __tracebackhide__ = True
        self.expect(0, timeout=timeout)

    def counters(self) -> Counters:
        """Return all that was dropped so far, expected or not, by key."""
        return self._differences(self._start)

    def events(self) -> list[Event]:
        """Return the events seen so far: a sample, of at most ten a second and key."""
        self._events += [event for event in self._tracer.poll() if event.netns in self._nets]
        return list(self._events)

    def _unexpected(self) -> list[Dropped]:
        return [
            describe(self._nets.get(key.netns), key, counter)
            for key, counter in self._differences(self._expected).items()
        ]

    def _differences(self, base: Mapping[CounterKey, Counter]) -> Counters:
        """Return what was counted in our labs beyond a base."""
        found = {}
        for key, now in _of(self._tracer.counters(), {NOBODY_KNOWS, *self._nets}).items():
            old = base.get(key)
            if old is None:
                found[key] = now
            elif now.packets > old.packets:
                found[key] = replace(
                    now,
                    packets=now.packets - old.packets,
                    bytes=now.bytes - old.bytes,
                    first=max(now.first, self._since),
                )
        return found

    def _moved(self) -> dict[str, int]:
        """Return by how much the kernel's own counters moved, by ``NODE COUNTER``."""
        now = _kernel(self._nets.values())
        return {name: value - self._kernel[name] for name, value in now.items()}

    def _arrived(self, look: Callable[[], T], enough: Callable[[T], bool], timeout: float) -> T:
        """Look until it is enough and no packet moves any more, or until it is too late."""
        end = time.monotonic() + timeout
        pause = threading.Event()
        before: dict[str, int] | None = None
        while True:
            kernel = self._moved()
            seen = look()
            if (kernel == before and enough(seen)) or time.monotonic() > end:
                return seen
            before = kernel
            pause.wait(LOOK_EVERY_S)


def _of(counters: Counters, inums: Iterable[int]) -> Counters:
    """Return the counters of some namespaces."""
    inums = set(inums)
    return {key: counter for key, counter in counters.items() if key.netns in inums}


def _kernel(nets: Iterable[Net]) -> Tally[str]:
    """Return the kernel's own counters by ``NODE COUNTER``; nodes of one label are added up."""
    found: Tally[str] = Tally()
    for node in {node.inum: node for net in nets for node in net}.values():
        found.update({f"{node.label} {name}": value for name, value in node.counters().items()})
    return found
