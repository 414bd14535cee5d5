"""The search for the largest packet that arrives: pure logic, to which any path can be played.

It goes by flights. A flight is a few lengths sent at once, longest first. What is answered arrived,
and so would everything shorter; what the path refuses with a message did not. Silence means little
by itself: the packet may be lost by accident, or its answer held back by a rate limit. It counts
only where something shorter, sent later in the same flight, was answered, and it ends the search
only when it has been repeated.

Longest first has a second use. Hosts limit how many port unreachables they send (icmp(7):
``icmp_ratelimit``): those that they do send are then about the longest packets that arrived, and
those are the ones that tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SMALLEST = {4: 68, 6: 88}  # RFC 791: no IPv4 link may be narrower. IPv6: an echo of 40 octets
TRIES, MOST_TRIES = 3, 12
WRONG_AT_MOST = 1e-4  # chance that accidents alone look like the end of the path
FLIGHT = 24
OCTETS = 48_000  # of one flight: what the queue of a modest router holds
# Links and tunnels that are often met; each is no more than a good place to cut the range.
COMMON = (9000, 8950, 4352, 1500, 1492, 1480, 1476, 1450, 1420, 1400, 1380, 1300, 1280, 576, 552)


@dataclass(slots=True)
class _Length:
    """What is known of one length."""

    refused: bool = False
    silent: int = 0


@dataclass(slots=True)
class _Packet:
    """One packet of the flight that is under way."""

    length: int
    arrived: bool = False
    refused: bool = False


class Search:
    """The search on one path.

    Args:
        smallest: octets of the shortest packet that can be sent.
        top: octets of the longest one: the MTU of the device that it leaves by.
        guesses: lengths that may be the answer: what the kernel believes.

    ``low`` is the longest length that arrived, 0 where none did yet.
    """

    def __init__(self, smallest: int, top: int, guesses: tuple[int, ...] = ()) -> None:
        self.low = 0
        self.smallest, self.top = min(smallest, top), top
        self._guesses = list(guesses)
        self._known: dict[int, _Length] = {}
        self._packets: list[_Packet] = []
        self._passed = self._lost = 0

    @property
    def high(self) -> int | None:
        """Return the shortest length that is longer than ``low`` and, so far, did not arrive."""
        failed = (length for length in self._known if length > self.low)
        return min(failed, default=None)

    @property
    def settled(self) -> bool:
        """Say whether the answer is found: ``low`` arrives, and one octet more does not."""
        if self.low == self.top:
            return True
        high = self.high
        return self.low > 0 and high == self.low + 1 and self._certain(high)

    @property
    def silent(self) -> bool:
        """Say whether longer packets than ``low`` vanish without a message."""
        high = self.high
        return high is not None and not self._known[high].refused

    def flight(self) -> tuple[int, ...]:
        """Return the lengths to send now, in that order; nothing where the search has ended."""
        if self.settled:
            return ()
        lengths = self._next()
        self._packets = [_Packet(length) for length in lengths]
        return lengths

    def arrived(self, length: int, place: int | None = None) -> None:
        """Note that a packet arrived.

        Args:
            length: its octets.
            place: its place in the flight that is under way; None where it is of an earlier one.
        """
        self.low = max(self.low, length)
        if place is not None:
            self._packets[place].arrived = True

    def refused(self, length: int, mtu: int | None = None, place: int | None = None) -> None:
        """Note that a packet was refused, and which MTU the message about it named."""
        self._known.setdefault(length, _Length()).refused = True
        if mtu and self.low < mtu < length:
            self._guesses.append(max(mtu, self.smallest))
        if place is not None:
            self._packets[place].refused = True

    def missing(self) -> int:
        """Return how many packets of this flight nothing was heard of."""
        return sum(not (packet.arrived or packet.refused) for packet in self._packets)

    def ended(self) -> bool:
        """Note that no more is to come of this flight; say whether any packet of it arrived."""
        shortest = math.inf  # of those behind this one that arrived
        for packet in reversed(self._packets):
            if packet.arrived:
                shortest = min(shortest, packet.length)
            if packet.length <= self.low:
                # What follows the last answer may be held back by a limit; what precedes it is not.
                self._passed += packet.arrived
                self._lost += not packet.arrived and shortest < math.inf
            elif not packet.refused and shortest < packet.length:
                self._known.setdefault(packet.length, _Length()).silent += 1
        self._packets = []
        return shortest < math.inf

    def _next(self) -> tuple[int, ...]:
        low, high = self.low, self.high
        if low == 0 or high is None:
            wanted = {self.top, self.smallest, low or self.smallest, *self._both(self._guesses)}
            return self._ordered(wanted)
        if high > low + 1:
            near = self._both(self._guesses, low, high)
            self._guesses = []  # once: they have then cut the range, or were lost by accident
            return (*self._ordered(near or self._cuts(low, high)), *self._controls())
        again = self._tries() - self._known[high].silent
        return (high,) * again + self._controls()

    def _both(self, guesses: list[int], low: int = 0, high: int | None = None) -> set[int]:
        """Return guesses within bounds, and one octet more: a right one then needs one flight."""
        wanted = {length for guess in guesses for length in (guess, guess + 1)}
        wanted -= self._known.keys()
        return {length for length in wanted if low < length < (high or self.top + 1)}

    def _cuts(self, low: int, high: int) -> set[int]:
        """Return lengths that cut an open range into small pieces, its first one among them."""
        many = max(4, min(FLIGHT, 2 * OCTETS // high))  # on average they are half as long
        common = [length for length in COMMON if low + 1 < length < high]
        cuts = {low + 1, *common[: many // 2]}
        rest = many - len(cuts)
        step = (high - low) / (rest + 1)
        return (cuts | {low + round(step * n) for n in range(1, rest + 1)}) - {low, high}

    def _ordered(self, lengths: set[int]) -> tuple[int, ...]:
        return tuple(sorted(lengths, reverse=True))

    def _controls(self) -> tuple[int, ...]:
        """Return what shows that answers do come: more than one where some are lost."""
        return (self.low,) * (2 if self._lost else 1)

    def _certain(self, length: int) -> bool:
        known = self._known[length]
        return known.refused or known.silent >= self._tries()

    def _tries(self) -> int:
        """Return how often a length must be silent, given how many packets get lost by accident."""
        if not self._lost:
            return TRIES
        loss = self._lost / (self._lost + self._passed)
        return max(TRIES, min(MOST_TRIES, math.ceil(math.log(WRONG_AT_MOST) / math.log(loss))))
