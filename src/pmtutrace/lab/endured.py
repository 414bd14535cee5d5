"""The incident, left to happen for some time, and what the lab itself has measured of it.

Nothing here knows of a tracer or a recorder: what these say can be held against it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pmtutrace.errors import LabError, NotSupported
from pmtutrace.jsonl import SCHEMA, timestamp
from pmtutrace.lab import incident as incidents
from pmtutrace.lab.machines import Ear
from pmtutrace.lab.ruler import truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pmtutrace.lab.incident import Happening, Incident
    from pmtutrace.lab.net import Net
    from pmtutrace.lab.ruler import Truth

POLL_S = 0.05
PATIENCE_S = 30.0
SETTLED_S = 0.5
BEFORE_S = 1.0  # in which everything is as it should be


@dataclass(frozen=True, slots=True)
class Measured:
    """What is true of an incident that has happened.

    ``netns`` is the namespace of edge. ``heard`` is how many frag-needed arrived at each customer's
    device, by address; ``kinds`` is what became of those that heard any: ``ignored`` who lost a
    connection, ``followed`` who did not. ``refused`` are the kernel's own counters of what edge
    did not send, ``late_s`` is how late a run of the backup began at most.
    """

    incident: Incident
    netns: str
    truth: Truth
    heard: Mapping[str, int]
    kinds: Mapping[str, str]
    refused: Mapping[str, int]
    late_s: float

    def json(self) -> dict[str, Any]:
        """Return the line of ``lab incident -j``; see docs/events.md."""
        measured = asdict(self.truth) | {"duty": self.truth.duty}
        return {
            "type": "incident",
            "ts": timestamp(self.truth.last),
            "schema": SCHEMA,
            "netns": self.netns,
            "tunnel": {"name": incidents.TUNNEL, "type": self.incident.type},
            "remote": incidents.FAR,
            **measured,
            "first": timestamp(self.truth.first),
            "last": timestamp(self.truth.last),
            "heard": dict(self.heard),
            "kinds": dict(self.kinds),
            "refused": dict(self.refused),
            "late_s": self.late_s,
        }


@contextlib.contextmanager
def wherever(type_: str | None = None, **changes: Any) -> Iterator[Happening]:  # noqa: ANN401
    """Build the lab with a tunnel of that type; else with GRE if this kernel has it, or VXLAN.

    Args:
        type_: ``gre`` or ``vxlan``.
        changes: fields of the incident.

    Raises:
        NotSupported: this kernel cannot have the incident.
    """
    from dataclasses import replace

    wanted = [one for one in (incidents.GRE, incidents.VXLAN) if type_ in (None, one.type)]
    with contextlib.ExitStack() as stack:
        for last, one in enumerate(wanted, 1):
            try:
                going = stack.enter_context(incidents.happening(replace(one, **changes)))
            except NotSupported:
                if last == len(wanted):
                    raise
            else:
                break
        yield going


def endure(going: Happening, cycles: int, say: Callable[[str], None]) -> Measured:
    """Let the incident come and go so many times, and end when it is over again.

    Args:
        going: the lab, just built.
        cycles: how many collapses.
        say: is given a sentence at each of them.

    Raises:
        LabError: it did not happen in time.
    """
    net, pause = going.net, threading.Event()
    with contextlib.ExitStack() as stack:
        ears = {
            address: stack.enter_context(Ear(net, name, "eth0"))
            for name, address in incidents.CUSTOMERS.items()
        }
        going.move()
        pause.wait(BEFORE_S)
        before = _refused(net)
        going.recurse()
        end = time.monotonic() + cycles * going.incident.period_s + PATIENCE_S
        said = 0
        while (found := truth(list(going.ruler.readings))) is None or _goes_on(found, cycles):
            if time.monotonic() > end:
                raise LabError("the incident did not happen in time", "try it on an idle machine")
            if found and found.cycles > said:
                said = found.cycles
                say(f"collapse {said} of {cycles}, down to {found.floor} octets")
            pause.wait(POLL_S)
        for machine in (going.backup, *going.connections.values()):
            machine.stop()
        # What was sent before is refused now, or never.
        refused = _refused(net)
        while pause.wait(SETTLED_S) or (now := _refused(net)) != refused:
            refused = now
    heard = {address: ear.heard for address, ear in ears.items() if ear.heard}
    lost = {incidents.CUSTOMERS[name] for name, one in going.connections.items() if one.lost}
    kinds = {address: "ignored" if address in lost else "followed" for address in heard}
    moved = {name: number - before[name] for name, number in refused.items()}
    late_s = going.backup.late_s
    return Measured(going.incident, net["edge"].name, found, heard, kinds, moved, late_s)


def _refused(net: Net) -> dict[str, int]:
    counters = net["edge"].counters()
    return {name: counters[name] for name in ("IpFragFails", f"{incidents.TUNNEL}:tx_errors")}


def _goes_on(found: Truth, cycles: int) -> bool:
    return found.cycles < cycles or found.ended < cycles
