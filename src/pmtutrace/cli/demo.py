"""The verb `demo`: a lab in which packets vanish, traced and explained."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pmtutrace.cli import text
from pmtutrace.cli.signals import on_interrupt

if TYPE_CHECKING:
    from pmtutrace.events import Drop, Event
    from pmtutrace.lab import Net, Topology, Traffic
    from pmtutrace.tracing import Tracer

LINES_A_SECOND = 3
PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that happens, and what it means; the meaning may name ``{count}`` and the like."""

    title: str
    topology: Topology
    traffic: Traffic
    meaning: str
    remedy: str


def _acts() -> tuple[Act, ...]:
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
    """Plays acts before a tracer, shows its events, and keeps what it counted."""

    def __init__(self, tracer: Tracer, *, as_json: bool) -> None:
        self.shown = 0
        self.inums: set[int] = set()
        self._tracer = tracer
        self._as_json = as_json

    def play(self, act: Act) -> str:
        """Build, send, show; return what it meant, in a sentence or two.

        Raises:
            LabError: if the kernel did not do what it always does.
        """
        from pmtutrace import lab

        self._say(f"\n{act.title}")
        with lab.built(act.topology) as net:
            self.inums.update(node.inum for node in net)
            lab.send(net, act.traffic)
            last = self._watch(net, act)
            if last is None:
                return act.meaning.format(count=act.traffic.count)
            sentence = act.meaning.format(**_facts(last, self._counted(net)))
            return f"{sentence}\n  {act.remedy.format(**_facts(last, 0))}"

    def _counted(self, net: Net) -> int:
        inums = {node.inum for node in net}
        counters = self._tracer.counters()
        return sum(c.packets for key, c in counters.items() if key.netns in inums)

    def _watch(self, net: Net, act: Act) -> Drop | None:
        """Show events until the kernel has dealt with all packets; return the last drop."""
        from pmtutrace.errors import LabError
        from pmtutrace.events import Drop

        names = {node.inum: node.name for node in net}
        last: Drop | None = None
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            arrived = net["b"].counters().get("UdpInDatagrams", 0)
            refused = net["r"].counters()["IpFragFails"]
            for event in self._tracer.events(0.02):
                if event.netns in names:
                    self._show(event, names)
                    last = event if isinstance(event, Drop) else last
            if arrived + refused >= act.traffic.count or self._tracer.stopped:
                return last
        raise LabError("the lab's packets neither arrived nor were refused", "run the demo again")

    def _show(self, event: Event, names: dict[int, str]) -> None:
        from pmtutrace import jsonl

        self.shown += 1
        if self._as_json:
            click.echo(json.dumps(jsonl.event(event, names)))
        else:
            click.echo(text.line(event, names))

    def _say(self, words: str) -> None:
        click.echo(words, err=self._as_json)


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


@click.command(short_help="Build a lab, let packets vanish, trace and explain it.")
@click.option("-j", "--json", "as_json", is_flag=True, help="JSON lines; the story on stderr.")
def demo(*, as_json: bool) -> int:
    """Show the main job on real packets: a tunnel carries, then refuses; why, and what to do.

    Everything happens in network namespaces of its own, which are removed at the end.
    """
    from pmtutrace.tracing.filters import Filter
    from pmtutrace.tracing.summary import summarize
    from pmtutrace.tracing.tracer import Settings, Tracer

    began = time.monotonic()
    click.echo("Attaching to the kernel; the first time, the tracer is compiled for it.", err=True)
    with Tracer(Settings(rate=LINES_A_SECOND)) as tracer, on_interrupt(tracer.stop):
        stage = Stage(tracer, as_json=as_json)
        if not as_json:
            click.echo("\na ──1500── r ══ VXLAN vx0, 1450 ══ b\n")
            click.echo(text.HEADER)
        meanings = []
        for act in _acts():
            if tracer.stopped:
                return 0
            meanings.append(stage.play(act))
        totals = summarize(
            tracer.counters(),
            tracer.fragments(),
            tracer.losses(),
            wanted=Filter(netns=stage.inums),
            seconds=time.monotonic() - began,
            streamed=stage.shown,
        )
    if as_json:
        click.echo(json.dumps(totals))
    else:
        click.echo("\n" + "\n".join(text.summary(totals)))
    click.echo("\nWhat happened, and what to do:", err=as_json)
    for number, meaning in enumerate(meanings, 1):
        click.echo(f"{number} {meaning}", err=as_json)
    return 0
