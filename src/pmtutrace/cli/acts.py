"""The first chapter of `demo`: what a tunnel does to packets that are too big, in four acts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pmtutrace.cli.screen import Screen
    from pmtutrace.events import Drop
    from pmtutrace.lab import Net, Topology, Traffic
    from pmtutrace.tracing import Tracer

PATIENCE_S = 5.0
LINES = 3  # of each act; JSON has them all


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that happens, and what it means; the meaning may name ``{count}`` and the like."""

    title: str
    topology: Topology
    traffic: Traffic
    meaning: str
    remedy: str


def acts() -> tuple[Act, ...]:
    """Return all of them, in order."""
    from pmtutrace.lab import Traffic
    from pmtutrace.lab.scenarios import routed, tunnelled, vxlan

    tunnel = vxlan.topology(vxlan.VXLAN)
    here, there = routed.A[4], tunnelled.B_INNER[4]
    filtered = tunnel.having(rules=(("r", routed.DROP_NEWS[4]),))
    return (
        Act(
            "Packets of 1450 octets go through the tunnel.",
            tunnel,
            Traffic("udp", "a", here, there, length=1450, sink=True),
            "The tunnel carries {count} packets of 1450 octets: all arrived.",
            "",
        ),
        Act(
            "The sender turns to packets of 1500 octets, with DF set.",
            tunnel,
            Traffic("udp", "a", here, there),
            "{count} packets of {length} octets did not fit into {tunnel}, whose MTU is {mtu}; "
            "{site} dropped them, and the sender was told each time.",
            "A sender that listens goes on with {mtu} octets. One that does not needs smaller "
            "segments: nft add rule inet filter forward oifname {tunnel} tcp flags syn tcp option "
            "maxseg size set rt mtu",
        ),
        Act(
            "So does one that the router has no route back to.",
            tunnel,
            Traffic("raw-udp", "a", routed.STRANGER[4], there),
            "{count} packets vanished without a word: the router had nowhere to send the news "
            "({cause}). To the sender this is a black hole.",
            "Give the router a route to {saddr}.",
        ),
        Act(
            "Then somebody filters ICMP on the router.",
            filtered,
            Traffic("udp", "a", here, there),
            "{count} packets vanished, and the news about each was made and then killed on the "
            "router itself ({cause}). To the sender this is a black hole, too.",
            "Let the news out: nft insert rule ip filter output icmp type destination-unreachable "
            "icmp code frag-needed accept",
        ),
    )


class Stage:
    """Plays acts before a tracer, and shows its events."""

    def __init__(self, tracer: Tracer, screen: Screen) -> None:
        self._tracer = tracer
        self._screen = screen

    def play(self, act: Act) -> str:
        """Build, send, show; return what it meant, in a sentence or two.

        Raises:
            LabError: if the kernel did not do what it always does.
        """
        from pmtutrace import lab

        self._screen.say(f"\n{act.title}")
        with lab.built(act.topology) as net:
            as_json = self._screen.as_json
            self._screen.know({node.inum: node.name if as_json else node.label for node in net})
            before = self._counted(net)  # inodes of namespaces are used again
            lab.send(net, act.traffic)
            last = self._watch(net, act)
            if last is None:
                return act.meaning.format(count=act.traffic.count)
            sentence = act.meaning.format(**_facts(last, self._counted(net) - before))
            return f"{sentence}\n  {act.remedy.format(**_facts(last, 0))}"

    def _counted(self, net: Net) -> int:
        inums = {node.inum for node in net}
        counters = self._tracer.counters()
        return sum(c.packets for key, c in counters.items() if key.netns in inums)

    def _watch(self, net: Net, act: Act) -> Drop | None:
        """Show events until the kernel has dealt with all packets; return the last drop."""
        from pmtutrace.errors import LabError
        from pmtutrace.events import Drop

        names = {node.inum for node in net}
        last: Drop | None = None
        shown = 0
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            arrived = net["b"].counters().get("UdpInDatagrams", 0)
            refused = net["r"].counters()["IpFragFails"]
            for event in self._tracer.events(0.02):
                if event.netns in names:
                    self._screen.show(event, wanted=shown < LINES)
                    shown += 1
                    last = event if isinstance(event, Drop) else last
            if arrived + refused >= act.traffic.count or self._tracer.stopped:
                return last
        raise LabError("the lab's packets neither arrived nor were refused", "run the demo again")


def _facts(drop: Drop, count: int) -> dict[str, Any]:
    return {
        "count": count,
        "length": drop.length,
        "mtu": drop.mtu,
        "site": drop.site,
        "cause": drop.cause,
        "tunnel": drop.tunnel.name if drop.tunnel else drop.dev,
        "saddr": drop.flow.saddr,
    }
