"""Fly a search over a transport: send, wait no longer than answers take, tell the search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pmtutrace.probing.transport import Arrived, Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmtutrace.probing.search import Search
    from pmtutrace.probing.transport import Answer, Transport

FIRST_WAITS_S = (0.25, 0.75, 1.0, 1.0)  # for any answer at all
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0
RECENT = 4  # answers that say how long to wait: what delayed one of them once is soon forgotten
BETWEEN_S, BETWEEN_COPIES_S = 0.0005, 0.02  # copies apart, so that one accident does not hit all
SLICE_S = 0.02  # of waiting, where there are several to wait for
DEAF_FLIGHTS, DEAF_S = 3, 3.0  # nothing heard of so many, and for so long: it is over
AT_MOST_S = 15.0


@dataclass(slots=True)
class Log:
    """What was sent over one transport, and heard.

    ``rtts`` are in seconds. ``whole`` is the longest packet whose answer came back at full length.
    """

    transport: Transport
    sent: dict[int, tuple[int, float]] = field(default_factory=dict)
    rtts: list[float] = field(default_factory=list)
    refusals: list[tuple[int, Refused]] = field(default_factory=list)
    unreachable: Unreachable | None = None
    whole: int = 0

    def send(self, length: int) -> int:
        """Send a packet; return its number."""
        at = self.transport.now()
        number = self.transport.send(length)
        self.sent[number] = (length, at)
        return number

    def heard(self, answer: Answer) -> int:
        """Note an answer; return the length of the packet that it is about, 0 if not ours."""
        length, at = self.sent.get(answer.probe, (0, 0.0))
        if isinstance(answer, Arrived) and length:
            self.rtts.append(self.transport.now() - at)
            self.whole = max(self.whole, length if answer.whole else 0)
        elif isinstance(answer, Refused) and length:
            self.refusals.append((length, answer))
        elif isinstance(answer, Unreachable):
            self.unreachable = answer
        return length

    @property
    def patience(self) -> float:
        """Return how many seconds to wait for an answer: twice what the slowest of late took."""
        slowest = max(self.rtts[-RECENT:], default=LONGEST_WAIT_S)
        return min(LONGEST_WAIT_S, max(SHORTEST_WAIT_S, 2 * slowest + 0.05))


def reach(logs: Sequence[Log], smallest: int, waits: Sequence[float] = FIRST_WAITS_S) -> Log | None:
    """Return the first transport over which the destination answers, None where it never does.

    Each after the first begins when those before it have been silent for a while.
    """
    clock = logs[0].transport
    for number, seconds in enumerate(waits):
        tried = logs[: number + 1]
        for log in tried:
            log.send(smallest)
        until = clock.now() + seconds
        while clock.now() < until and not all(log.unreachable for log in logs):
            for log in tried:
                for answer in log.transport.wait(min(until, clock.now() + SLICE_S / len(tried))):
                    log.heard(answer)
                if log.rtts:
                    return log
    return None


def fly(log: Log, search: Search, flights: int = 1000) -> None:
    """Search until it is settled, the destination has fallen silent, or for so many flights."""
    transport = log.transport
    heard = transport.now()
    end, deaf = heard + AT_MOST_S, 0
    for _ in range(flights):
        if transport.now() >= (end if deaf < DEAF_FLIGHTS else heard + DEAF_S):
            return
        if not (lengths := search.flight()):
            return
        _pause(log, search, transport.rest())
        flown = _Flight(log, search)
        flown.send(lengths)
        flown.listen()
        if search.ended():
            heard, deaf = transport.now(), 0
        else:
            deaf += 1
            transport.deaf()
            _pause(log, search, log.patience * deaf)


def _pause(log: Log, search: Search, seconds: float) -> None:
    """Let time pass; late answers count."""
    flown, until = _Flight(log, search), log.transport.now() + seconds
    while (answers := log.transport.wait(until)) or log.transport.now() < until:
        flown.take(answers)


class _Flight:
    """The packets of one flight, by number."""

    def __init__(self, log: Log, search: Search) -> None:
        self._log, self._search = log, search
        self._places: dict[int, int] = {}

    def send(self, lengths: tuple[int, ...]) -> None:
        """Send all, with gaps, in which answers are heard already."""
        transport = self._log.transport
        before = 0
        for place, length in enumerate(lengths):
            if before:
                gap = BETWEEN_COPIES_S if length == before else BETWEEN_S
                until = transport.now() + gap
                while answers := transport.wait(until):
                    self.take(answers)
            before = length
            self._places[self._log.send(length)] = place

    def listen(self) -> None:
        """Hear until everything is answered, or as long as an answer may take."""
        transport = self._log.transport
        until = transport.now() + self._log.patience
        while self._search.missing() and (answers := transport.wait(until)):
            self.take(answers)

    def take(self, answers: list[Answer]) -> None:
        """Tell the search what was heard."""
        for answer in answers:
            length = self._log.heard(answer)
            place = self._places.get(answer.probe)
            if length and isinstance(answer, Arrived):
                self._search.arrived(length, place)
            elif length and isinstance(answer, Refused):
                self._search.refused(length, answer.mtu, place)
