"""By how much counters have moved since somebody last looked: each second's share, exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmtutrace.events import CounterKey
    from pmtutrace.tracing.clock import Ticks
    from pmtutrace.tracing.decode import Decoder


class Move(NamedTuple):
    """By how much a counter moved; the last three are what it says of its whole life.

    Packets and octets may be negative: a drop that was counted as ``told`` is counted as ``lost``
    once the message about it has died.
    """

    key: CounterKey
    packets: int
    bytes: int
    max_length: int
    mtu: int
    last: int


class Moves:
    """Remembers every counter as the kernel gave it, and decodes only those that differ.

    Args:
        decoder: of the image that counts.
        clock: turns jiffies into nanoseconds since the Unix epoch.
    """

    def __init__(self, decoder: Decoder, clock: Ticks) -> None:
        self._decoder = decoder
        self._clock = clock
        self._before: dict[bytes | int, bytes] = {}

    def of(
        self, items: Iterable[tuple[bytes, bytes]], overflow: Iterable[bytes] = ()
    ) -> list[Move]:
        """Return what has moved. Keys that differ only in their tunnel id come one by one.

        Args:
            items: key and per-CPU value of each counter.
            overflow: per-CPU values of the overflow entries, in the order of their index.
        """
        moved = []
        for octets, value in items:
            if self._before.get(octets) != value:
                moved += self._moved(octets, self._decoder.key(octets)[0], value)
        for index, value in enumerate(overflow):
            if self._before.get(index) != value:
                moved += self._moved(index, self._decoder.overflow_key(index), value)
        return moved

    def _moved(self, name: bytes | int, key: CounterKey, value: bytes) -> list[Move]:
        """Return the move of one counter; none where only its sampling did."""
        before, now = self._before.get(name), self._decoder.sums(value)
        self._before[name] = value
        old = self._decoder.sums(before) if before else None
        packets = now.packets - (old.packets if old else 0)
        octets = now.bytes - (old.bytes if old else 0)
        if not packets and not octets:
            return []
        last = self._clock.epoch_ns(now.last)
        return [Move(key, packets, octets, now.max_length, now.mtu, last)]
