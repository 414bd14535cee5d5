"""The second chapter of `demo`: the incident of 2015, seen from the tunnel's endpoint."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from pmtutrace.cli.chart import Track, bars, coloured
from pmtutrace.lab.incident import CUSTOMERS, EDGE, FAR, MINIMUM, TUNNEL, UNDERLAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pmtutrace.cli.screen import Screen
    from pmtutrace.diagnosis import Collector
    from pmtutrace.diagnosis.case import Sender
    from pmtutrace.events import Event
    from pmtutrace.lab.incident import Happening, Incident
    from pmtutrace.lab.ruler import Truth
    from pmtutrace.tracing import Tracer

NSEC = 1_000_000_000
LINES_OF_A_KIND = 2  # of the same kind, in the first collapse; then one
CYCLES = 5
POLL_S = 0.05
PATIENCE_S = 30.0
GIVE_UP_S = 2.0  # what has been hanging when the repair came has been given up by then
NAMES = {"gre": "GRE", "vxlan": "VXLAN"}
WIDTH = 60
WORDS = {
    "followed": "was told, and follows",
    "ignored": "was told, and goes on as if it were not",
    "never_told": "was not told",
}


class Story:
    """Lets the incident happen, shows what the tracer sees on edge, and keeps it.

    Args:
        tracer: follows the path MTUs of edge.
        screen: where it is shown.
        collector: takes the events of edge.
        going: the lab.
    """

    def __init__(
        self,
        tracer: Tracer,
        screen: Screen,
        collector: Collector,
        going: Happening,
    ) -> None:
        self.track = Track()
        self._tracer = tracer
        self._edge = going.net["edge"].inum
        self._screen = screen
        self._collector = collector
        self._going = going
        self._began = time.time_ns()
        self._shown: Counter[tuple[object, ...]] = Counter()
        self._least: int | None = None  # what fits inside, while it is less than it was
        self._bottoms = 0
        self._pause = threading.Event()  # never set
        self._familiar = False  # with what a collapse looks like
        self._repaired = False
        self.track.set(self._began, going.incident.largest)

    @property
    def incident(self) -> Incident:
        """Return what happens."""
        return self._going.incident

    def begin(self) -> None:
        """Tell who is who, and let traffic move into the tunnel."""
        one, kind = self.incident, NAMES[self.incident.type]
        self._screen.say(
            f"\nThe incident of 2015, over {kind}.\n\n"
            f"web, shop, backup ── edge ══ {kind} {TUNNEL} over hop ══ far ── world\n\n"
            "web follows what it is told of a path. shop has a firewall that takes no ICMP.\n"
            f"backup has something for far itself: every {one.period_s:g} s here, every 90 "
            "minutes then. What a\n"
            f"kernel learns of a path it believes for {one.lifetime_s} s here, for 10 minutes "
            "elsewhere.\n"
        )
        self._tell("web and shop send to the world, over the plain cables.")
        self.follow(1.0)
        self._going.move()
        self._tell(f"Their traffic moves into {TUNNEL}, which carries {one.largest} octets.")
        self.follow(1.0)
        self._going.recurse()
        self._tell("edge learns a second way to far: through the tunnel that ends there.\n")
        self._screen.header()

    def endure(self) -> None:
        """Let it come and go; return at the bottom of the last collapse, while it is there."""
        self._until(lambda: self._bottoms >= CYCLES, CYCLES * self.incident.period_s + PATIENCE_S)

    def follow(self, seconds: float) -> None:
        """Show events for some seconds."""
        self._until(None, seconds)

    def _until(self, over: Callable[[], bool] | None, seconds: float) -> None:
        """Show events until it is over, for so many seconds at most.

        Raises:
            LabError: it is not over then.
        """
        from pmtutrace.errors import LabError

        end = time.monotonic() + seconds
        while not self._tracer.stopped and not (over and over()):
            if (left := end - time.monotonic()) <= 0:
                if over is None:
                    return
                raise LabError("the incident did not happen in time", "run the demo again")
            for event in self._tracer.poll():
                if event.netns == self._edge:
                    self._take(event)
            if self._screen.terminal:
                self._screen.update(self._state())
            self._pause.wait(min(left, POLL_S))

    def repair(self, command: str) -> None:
        """Do what the diagnosis says, on edge, and see the backup run once more.

        Raises:
            LabError: it cannot be done, or the path MTU falls again.
        """
        from pmtutrace.errors import LabError

        words = shlex.split(command)
        done = self._going.net["edge"].run(
            lambda: subprocess.run(words, check=False, capture_output=True, text=True)
        )
        if done.returncode:
            raise LabError(f"{command}: {done.stderr.strip() or done.returncode}")
        self._repaired = True
        self._tell(f"On edge: {command}")
        self.follow(GIVE_UP_S)
        at, lost, runs = time.time_ns(), self._lost, len(self._going.backup.done)
        self._until(
            lambda: len(self._going.backup.done) > runs, self.incident.period_s + PATIENCE_S
        )
        self.follow(1.0)
        if self._tracer.stopped:
            return
        mtus = {one.mtu for one in self._going.ruler.readings if one.until > at}
        if len(mtus) > 1 or self._lost > lost:
            raise LabError("the path MTU has fallen again after the repair")
        self._tell("backup has run again: the path MTU stayed, and all connections held.")

    @property
    def _lost(self) -> int:
        """Return how many connections the customers have lost."""
        return sum(len(one.lost) for one in self._going.connections.values())

    def truth(self) -> Truth | None:
        """Return what the lab itself has measured so far."""
        from pmtutrace.lab.ruler import truth

        return truth(self._going.ruler.readings)

    def _take(self, event: Event) -> None:
        self._collector.take(event)
        self._screen.show(event, wanted=self._wanted(event))
        self._measure(event)

    def _wanted(self, event: Event) -> bool:
        """Say if an event is one more line for somebody who reads: the first of each kind."""
        from pmtutrace.events import Drop, Fragmented, IcmpReceived, PathMtuChange, TunnelChange

        match event:
            case TunnelChange():
                return False
            case PathMtuChange() if self._familiar and event.dev == TUNNEL:
                return False  # what was shown of the first collapse shows how
            case Drop():
                kind: tuple[object, ...] = (event.site, event.flow.saddr)
            case PathMtuChange():
                if event.new == MINIMUM and event.change != "refreshed":
                    kind = ("bottom", event.daddr, event.dev)
                else:
                    kind = (event.change, event.daddr, event.dev)
            case IcmpReceived():
                kind = ("received", event.outcome)
            case _:
                kind = (type(event),)
        self._shown[kind] += 1
        if self._familiar:
            return self._shown[kind] == 1 and not isinstance(event, Fragmented)
        return self._shown[kind] <= LINES_OF_A_KIND

    def _measure(self, event: Event) -> None:
        """Follow what fits into the tunnel; a collapse is over when all of it fits again."""
        from pmtutrace.events import PathMtuChange

        if not isinstance(event, PathMtuChange) or (event.daddr, event.dev) != (FAR, UNDERLAY):
            return
        inner = self.incident.largest
        if event.new is not None:
            inner = min(inner, event.new - self.incident.overhead)
        self.track.set(event.ts, inner)
        if inner < self.incident.largest:
            least = min(inner, self._least or inner)
            self._bottoms += least == self.incident.smallest != self._least
            self._least = least
        elif self._least is not None:
            if self._repaired:
                self._tell(f"All of {inner} octets fits into {TUNNEL} again.")
            else:
                self._tell(f"Over, by itself: it had shrunk to {self._least}. {self._people()}")
            self._least = None
            self._familiar = True
            self._shown.clear()

    def _tell(self, words: str) -> None:
        self._screen.say(f"{(time.time_ns() - self._began) / NSEC:5.1f} s  {words}")

    def senders(self, senders: Iterable[Sender]) -> list[str]:
        """Return, a line each, what machines have made of what they were told."""
        names = {EDGE: "edge"} | {address: name for name, address in CUSTOMERS.items()}
        return [
            f"{names.get(one.saddr, one.saddr):8} {WORDS[one.kind]}: "
            f"{one.packets} packets dropped, told of {one.told}"
            for one in senders
        ]

    def _people(self) -> str:
        """Return how the customers are."""
        lost = ", ".join(f"{n} {len(one.lost)}" for n, one in self._going.connections.items())
        sent = sum(one.sent for one in self._going.pings.values())
        answered = sum(one.answered for one in self._going.pings.values())
        return f"Connections lost: {lost}. Pings answered: {answered} of {sent}."

    def picture(self) -> str:
        """Return what fitted into the tunnel over time, as a line of text."""
        values = self._values()
        return f"inside {TUNNEL}  {max(values)} {bars(values)} {min(values)}"

    def _values(self) -> list[int]:
        return self.track.lowest(self._began, time.time_ns(), WIDTH)

    def _state(self) -> str:
        values = self._values()
        drawn = coloured(values, self.incident.largest)
        return f"\ninside {TUNNEL}  {drawn} {values[-1]}\n{self._people()}"
