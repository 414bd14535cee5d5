"""What a situation is: a lab, what happens in it, and a finding that must, or must not, be made.

A scenario says what must be seen; a situation says what must be made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmtutrace.lab import traffic

if TYPE_CHECKING:
    from pmtutrace.lab.net import Net
    from pmtutrace.lab.scenario import Scenario
    from pmtutrace.lab.topology import Route, Topology
    from pmtutrace.lab.traffic import Traffic
    from pmtutrace.probing import Result


@dataclass(frozen=True, slots=True)
class Sent:
    """Traffic is sent."""

    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Passed:
    """Time passes."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Rerouted:
    """A route takes the place of that to the same destination."""

    route: Route


@dataclass(frozen=True, slots=True)
class Resized:
    """A device gets another MTU."""

    node: str
    dev: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Probed:
    """A node looks itself which packets get to a destination."""

    node: str
    daddr: str


Step = Sent | Passed | Rerouted | Resized | Probed


def perform(net: Net, step: Step) -> Result | None:
    """Let one thing happen; return, of a probe, what it has found.

    That time passes is the caller's to wait for.
    """
    match step:
        case Sent(sent):
            traffic.send(net, sent)
        case Rerouted(route):
            net.reroute(route)
        case Resized(node, dev, mtu):
            net.resize(node, dev, mtu)
        case Probed(node, daddr):
            from pmtutrace.probing import Wanted, probe

            return net[node].run(lambda: probe(daddr, Wanted()))
    return None


@dataclass(frozen=True, slots=True)
class Situation:
    """One declaration.

    Args:
        finding: the id of a finding.
        made: whether it must be made; else it must not, although it might seem so.
        title: what the case is.
        topology: what is built.
        steps: what happens, in order.
        at: the nodes on which pmtutrace runs; what it knows of others does not count.
        variant: which of several pairs of a finding it belongs to.
    """

    finding: str
    made: bool
    title: str
    topology: Topology
    steps: tuple[Step, ...]
    at: tuple[str, ...] = ("r",)
    variant: str = ""

    @property
    def name(self) -> str:
        """Return what it is called: the finding, and whether it only seems so."""
        name = f"{self.finding}-{self.variant}" if self.variant else self.finding
        return name if self.made else f"not-{name}"


def of_scenario(
    finding: str, scenario: Scenario, *, made: bool = True, variant: str = ""
) -> Situation:
    """Return the situation that a scenario is."""
    steps = tuple(map(Sent, (*scenario.prelude, scenario.traffic)))
    return Situation(finding, made, scenario.title, scenario.topology, steps, variant=variant)
