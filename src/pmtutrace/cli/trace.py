"""The verb `trace`: a line for each oversize packet, as it is dropped."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import click

from pmtutrace.cli import choice
from pmtutrace.cli.choice import VERDICTS, filter_options, tracer_options
from pmtutrace.cli.seconds import Seconds
from pmtutrace.cli.signals import on_interrupt

if TYPE_CHECKING:
    from pmtutrace.cli.lines import Lines
    from pmtutrace.tracing.filters import Filter
    from pmtutrace.tracing.tracer import Tracer

FAILED_ON, LOST_DATA = 3, 4


@click.command(short_help="Show oversize packets as they are dropped.")
@filter_options
@click.option("-c", "--count", type=click.IntRange(1), help="Exit after COUNT lines.")
@click.option("-d", "--duration", type=Seconds(), help="Exit after DURATION seconds.")
@tracer_options
@click.option("-j", "--json", "as_json", is_flag=True, help="JSON lines.")
@click.option(
    "--fail-on",
    type=click.Choice(("drop", *VERDICTS)),
    multiple=True,
    help="Exit 3 if there was one.",
)
@click.option("--strict", is_flag=True, help="Exit 4 if anything was lost.")
def trace(**options: Any) -> int:  # noqa: ANN401 -- whatever the options above give
    r"""Show every oversize packet that this host drops, and whether its sender was told.

    \b
    pmtutrace                                everything, until ^C
    pmtutrace -i gre1 --verdict suppressed   one tunnel, silent drops only
    pmtutrace -j -d 60 --netns edge          JSON lines for a minute
    """
    from pmtutrace.kernel import privileges
    from pmtutrace.tracing.tracer import Tracer

    privileges.require()
    spaces = choice.here(options)
    choice.check(options)
    # Lines show nothing of what is in a packet, and to copy it is a sixth of what an event costs.
    settings = choice.settings(options, spaces, snaplen=0)
    with contextlib.closing(Tracer(settings)) as tracer:
        tracer.begin(choice.import_paths)
        choice.import_paths()  # until all is attached, the kernel is busy and we are not
        tracer.attach()
        choice.say_blind(tracer)
        tally = choice.follow_paths(tracer, spaces)
        tracer.start()
        with on_interrupt(tracer.stop):
            began = time.monotonic()
            if options["ready_file"]:
                choice.say_ready(options["ready_file"])
            privileges.keep()
            # What happens from now on waits in the ring.
            wanted = choice.wanted(options, spaces)
            lines = _lines(wanted, options)
            lines.tally = tally
            _follow(tracer, lines, options["duration"])
            return _close(tracer, wanted, lines, options, time.monotonic() - began)


def _lines(wanted: Filter, options: dict[str, Any]) -> Lines:
    from pmtutrace.cli.lines import Lines
    from pmtutrace.tracing.spaces import LiveNames

    names = LiveNames()
    return Lines(
        wanted,
        as_json=options["as_json"],
        most=options["count"],
        names=lambda event: names.of(event.netns),
        live=True,
    )


def _follow(tracer: Tracer, lines: Lines, duration: float | None) -> None:
    from pmtutrace.tunnels.inventory import Inventory

    inventory = Inventory()
    inventory.start()
    tracer.use(inventory)
    lines.begin()
    for event in tracer.events(duration):
        if not lines.take(event):
            tracer.stop()  # what is there already is still learned from


def _close(
    tracer: Tracer, wanted: Filter, lines: Lines, options: dict[str, Any], seconds: float
) -> int:
    from pmtutrace.tracing.summary import summarize

    counters, fragments = tracer.counters(), tracer.fragments()
    # What is still in the ring teaches the filter its places; it is counted, but not shown.
    for event in tracer.drain():
        lines.learn(event)
    if wanted.interface is not None:
        wanted.ask((*counters, *fragments), tracer.device)
    losses = tracer.losses()
    totals = summarize(
        counters,
        fragments,
        losses,
        wanted=wanted,
        seconds=seconds,
        streamed=lines.shown,
        tally=lines.tally,
    )
    lines.end(totals)
    if options["strict"] and any(losses.values()):
        return LOST_DATA
    matched = totals["drops"] if "drop" in options["fail_on"] else 0
    matched += sum(totals["verdicts"].get(word, 0) for word in options["fail_on"])
    return FAILED_ON if matched else 0
