"""The verb `demo`: a lab in which the incident of 2015 happens, traced, explained and repaired."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from pmtutrace.cli import judge
from pmtutrace.cli.signals import on_interrupt

if TYPE_CHECKING:
    from pmtutrace.cli.screen import Screen
    from pmtutrace.cli.story import Story
    from pmtutrace.tracing import Tracer

TUNNELS_WITHIN_S = 10.0
KERNEL = "6.12"


@click.command(short_help="Let the incident of 2015 happen in a lab; trace, explain, repair it.")
@click.option("-j", "--json", "as_json", is_flag=True, help="JSON lines; the story on stderr.")
@click.option("--vm", "in_guest", is_flag=True, help="On a stock kernel, with a GRE tunnel.")
@click.option("-k", "--kernel", metavar="NAME|PATH", help=f"Which one.  [default: {KERNEL}]")
@click.pass_context
def demo(context: click.Context, *, as_json: bool, in_guest: bool, kernel: str | None) -> int:
    """Show the main job on real packets: a tunnel that shrinks, who notices, why, and what to do.

    Everything happens in network namespaces of its own, which are removed at the end. Fails if the
    diagnosis is not what is true of the lab.
    """
    from pmtutrace.cli.screen import Screen
    from pmtutrace.errors import UsageError
    from pmtutrace.tracing.tracer import Settings, Tracer

    if in_guest:
        return _in_guest(context, kernel or KERNEL, as_json=as_json)
    if kernel:
        raise UsageError("--kernel says which kernel --vm boots", "add --vm")
    began = time.monotonic()
    click.echo("Attaching to the kernel; the first time, the tracer is compiled for it.", err=True)
    with (
        Tracer(Settings(every=True)) as tracer,
        on_interrupt(tracer.stop),
        Screen(as_json=as_json) as screen,
    ):
        _acts(tracer, screen)
        if not tracer.stopped:
            _incident(tracer, screen, began)
    return 0


def _in_guest(context: click.Context, kernel: str, *, as_json: bool) -> int:
    """Run this very command where there is GRE."""
    from pmtutrace.cli.vm import run

    command = (sys.executable, "-m", "pmtutrace.cli.main", "demo", *["-j"] * as_json)
    given: dict[str, Any] = {"names": (kernel,), "command": command, "cpus": 2, "memory": 2048}
    given |= {"modules": None, "timeout": None, "out": None, "parallel": False, "console": False}
    return int(context.invoke(run, **given))


def _acts(tracer: Tracer, screen: Screen) -> None:
    """Play the first chapter."""
    from pmtutrace.cli.acts import Stage, acts

    screen.say("\nWhat a tunnel does to packets that are too big.\n")
    screen.say("a ──1500── r ══ VXLAN vx0, 1450 ══ b\n")
    screen.header()
    stage = Stage(tracer, screen)
    meanings = []
    for act in acts():
        if tracer.stopped:
            return
        meanings.append(stage.play(act))
    screen.say("\nWhat happened, and what to do:")
    for number, meaning in enumerate(meanings, 1):
        screen.say(f"{number} {meaning}")


def _incident(tracer: Tracer, screen: Screen, began: float) -> None:
    """Play the second chapter.

    Raises:
        LabError: the diagnosis is not what is true of the lab, or the repair did not hold.
    """
    from pmtutrace.cli.story import Story
    from pmtutrace.diagnosis import Collector
    from pmtutrace.errors import LabError
    from pmtutrace.lab.conclude import follow
    from pmtutrace.lab.endured import wherever
    from pmtutrace.tunnels.inventory import Inventory

    with wherever() as going:
        edge = going.net["edge"]
        screen.know({edge.inum: edge.name if screen.as_json else edge.label})
        inventory = Inventory()
        inventory.start()
        tracer.use(inventory)
        inventory.wait(TUNNELS_WITHIN_S)
        follow(tracer, {edge.inum})
        collector = Collector({edge.inum}, lifetime=going.incident.lifetime_s)
        collector.begin(tracer.counters(), tracer.fragments())
        story = Story(tracer, screen, collector, going)
        story.begin()
        story.endure()
        if tracer.stopped:
            return
        found = judge.diagnosed(tracer, collector, inventory, edge, story.truth())
        _explain(screen, story, found)
        if errors := judge.wrong(found, going.incident):
            raise LabError(f"the diagnosis is wrong: {'; '.join(errors)}")
        story.repair(found.remedy)
        screen.settle()
        _end(tracer, screen, began)
        screen.data(found.json())


def _explain(screen: Screen, story: Story, found: judge.Diagnosis) -> None:
    """Tell what was found."""
    from pmtutrace.cli import findings

    screen.settle()
    screen.say(f"\n{story.picture()}\n\nDiagnosis\n")
    for line in (*findings.lines(found.findings), "", *judge.table(found), ""):
        screen.say(line)
    for line in (*story.senders(found.case.senders), ""):
        screen.say(line)


def _end(tracer: Tracer, screen: Screen, began: float) -> None:
    """Write the totals."""
    from pmtutrace.cli import text
    from pmtutrace.tracing.filters import Filter
    from pmtutrace.tracing.summary import summarize

    totals = summarize(
        tracer.counters(),
        tracer.fragments(),
        tracer.losses(),
        wanted=Filter(netns=screen.spaces),
        seconds=time.monotonic() - began,
        streamed=screen.shown,
        tally=screen.tally,
    )
    if screen.as_json:
        screen.data(totals)
    else:
        screen.say("\n" + "\n".join(text.summary(totals)))
