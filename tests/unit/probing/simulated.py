"""A path that only exists in virtual time: what it carries, what it says, what it loses."""

import heapq
import random
from dataclasses import dataclass, field

from pmtutrace.probing.datagram import Bucket
from pmtutrace.probing.transport import Arrived, Refused


@dataclass
class Simulated:
    """A transport over a path.

    Args:
        carries: the longest packet that gets there. back: the longest answer that comes back.
        tells: the MTU that a message about a longer one names; None for a silent path. loss: chance
        that a packet, or an answer, is lost. rtt: seconds. jitter: seconds more, at most. burst:
        answers that the far end gives at once, and then one in each interval; None for no limit.
    """

    carries: int
    back: int | None = None
    tells: int | None = None
    loss: float = 0.0
    rtt: float = 0.01
    jitter: float = 0.0
    burst: int | None = None
    interval: float = 1.0
    seed: int = 0
    name: str = "simulated"
    clock: float = 0.0
    sent: list[int] = field(default_factory=list)

    def __post_init__(self):
        self._random = random.Random(self.seed)  # noqa: S311 -- accidents, not secrets
        self._coming = []
        # The far end's own, and what is known of it here.
        self._limit = Bucket(self.burst, self.interval, 0.0) if self.burst else None
        self._guess = Bucket(6, 1.05, 0.0) if self.burst else None

    def now(self):
        return self.clock

    def send(self, length):
        number = len(self.sent)
        self.sent.append(length)
        if length > self.carries:
            if self.tells is not None and not self._lost():
                self._comes(Refused(number, self.tells, "192.0.2.254"))
        elif not self._lost() and self._answers() and not self._lost():
            whole = self.burst is None
            if not whole or self.back is None or length <= self.back:
                self._comes(Arrived(number, whole))
        return number

    def wait(self, until):
        if not self._coming or self._coming[0][0] > until:
            self.clock = max(self.clock, until)
            return []
        self.clock = max(self.clock, self._coming[0][0])
        answers = []
        while self._coming and self._coming[0][0] <= self.clock:
            answers.append(heapq.heappop(self._coming)[2])
        for answer in answers:
            if self._guess and isinstance(answer, Arrived):
                self._guess.take(self.clock, 1)
        return answers

    def rest(self):
        return self._guess.rest(self.clock) if self._guess else 0.0

    def deaf(self):
        if self._guess:
            self._guess.empty(self.clock)

    def _comes(self, answer):
        at = self.clock + self.rtt + self._random.uniform(0, self.jitter)
        heapq.heappush(self._coming, (at, answer.probe, answer))

    def _lost(self):
        return self._random.random() < self.loss

    def _answers(self):
        if self._limit is None:
            return True
        if self._limit.rest(self.clock) > 0:
            return False
        self._limit.take(self.clock, 1)
        return True
