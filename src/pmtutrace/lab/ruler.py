"""The lab's own measure of a path MTU, from what the kernel answers to a socket.

It knows nothing of exceptions, events or hooks: what is found by those can be held against it.
Times are nanoseconds since 1970.
"""

from __future__ import annotations

import itertools
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmtutrace.lab.machines import Machine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmtutrace.lab.machines import Where
    from pmtutrace.lab.net import Net

IP_MTU = 14  # linux/in.h
NSEC = 1_000_000_000
BLUR = NSEC // 10  # of a moment that lies between two readings, which a busy host takes late


@dataclass(slots=True)
class Reading:
    """A path MTU, and from when until when it was seen."""

    mtu: int
    since: int
    until: int


class Ruler(Machine):
    """Asks the kernel fifty times a second which MTU the path to a destination has.

    It is the lab's own measure of what happens, and knows nothing of exceptions, events or hooks:
    a socket that is connected anew is told the MTU of its route.

    The first time is when it is made.

    Args:
        net: the lab.
        where: the node and the addresses.
        dev: the device by which the path leaves.
    """

    EVERY_S = 0.02

    def __init__(self, net: Net, where: Where, dev: str) -> None:
        super().__init__()
        self.readings: list[Reading] = []
        self._where = where
        self._socket = net[where.node].run(lambda: _bound(dev))
        net.stack.callback(self._socket.close)
        self._ask()

    def work(self) -> None:
        """Ask, and note what has changed."""
        while not self.ended.wait(self.EVERY_S):
            self._ask()

    def _ask(self) -> None:
        self._socket.connect((self._where.daddr, self._where.port))
        mtu, ts = self._socket.getsockopt(socket.IPPROTO_IP, IP_MTU), time.time_ns()
        if self.readings and self.readings[-1].mtu == mtu:
            self.readings[-1].until = ts
        else:
            self.readings.append(Reading(mtu, ts, ts))


def _bound(dev: str) -> socket.socket:
    asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dev.encode())
    return asked


@dataclass(frozen=True, slots=True)
class Truth:
    """What was measured of something that comes back.

    ``period_s`` is from one beginning to the next, ``episode_s`` how long it lasts, ``duty`` the
    share of the time that it is there; ``cycles`` is how many beginnings there were, ``ended`` how
    many ends. ``first`` is the first beginning, ``last`` the last end.
    """

    period_s: float
    episode_s: float
    cycles: int
    ended: int
    floor: int
    first: int
    last: int

    @property
    def duty(self) -> float:
        """Return the share of the time, from 0 to 1."""
        return self.episode_s / self.period_s


def truth(readings: Iterable[Reading]) -> Truth | None:
    """Return how often, and for how long, readings are below the first one.

    None where that did not happen twice, or the first has not ended. How long it lasts is measured
    by those of which both ends were seen sharply, by all where there are none.
    """
    every = list(readings)
    falls, rises = edges(every)
    if len(falls) < 2 or not rises:
        return None
    began, ended = ([now for _, now in times] for times in (falls, rises))
    period = (began[-1] - began[0]) / (len(began) - 1) / NSEC
    episodes = list(zip(falls, rises, strict=False))
    sharp = [both for both in episodes if all(now - before <= BLUR for before, now in both)]
    lengths = [end - start for (_, start), (_, end) in sharp or episodes]
    episode = sum(lengths) / len(lengths) / NSEC
    floor = min(reading.mtu for reading in every)
    return Truth(period, episode, len(began), len(ended), floor, began[0], ended[-1])


def edges(readings: Iterable[Reading]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return when readings fell below the first one, and when they rose to it again.

    Each lies between two times: when it was last seen otherwise, and when it was first seen so.
    """
    every = list(readings)
    falls, rises = [], []
    for before, now in itertools.pairwise(every):
        if now.mtu < every[0].mtu <= before.mtu:
            falls.append((before.until, now.since))
        if before.mtu < every[0].mtu <= now.mtu:
            rises.append((before.until, now.since))
    return falls, rises
