"""The verb `trace`: a line for each oversize packet, as it is dropped."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pmtutrace.cli import text
from pmtutrace.cli.seconds import Seconds
from pmtutrace.cli.signals import on_interrupt

if TYPE_CHECKING:
    from collections.abc import Collection

    from pmtutrace.events import Event
    from pmtutrace.tracing.filters import Filter
    from pmtutrace.tracing.tracer import Tracer

VERDICTS = ("told", "suppressed", "lost", "never_attempted", "local")
FAILED_ON, LOST_DATA = 3, 4
NAMES_HOLD_S = 1.0


class Lines:
    """Writes events as they come, as text or JSON, and the summary at the end."""

    def __init__(self, wanted: Filter, *, as_json: bool, most: int | None) -> None:
        self.shown = 0
        self._wanted = wanted
        self._as_json = as_json
        self._most = most
        self._names: dict[int, str] = {}
        self._met: set[int] = set()  # asked for, whether or not they have a name
        self._named = 0.0

    def begin(self) -> None:
        """Write the header of the table."""
        if not self._as_json:
            click.echo(text.HEADER)
            sys.stdout.flush()

    def take(self, event: Event) -> bool:
        """Write an event if it is wanted; False once enough were written, and no more are."""
        self._wanted.learn(event)
        if not self._enough() and self._wanted.matches(event):
            self.shown += 1
            self._write(event)
        return not self._enough()

    def _enough(self) -> bool:
        return self._most is not None and self.shown >= self._most

    def _write(self, event: Event) -> None:
        from pmtutrace import jsonl
        from pmtutrace.kernel import netns

        if time.monotonic() - self._named > NAMES_HOLD_S:
            # Inodes are used again, and what has no name may get one; names of the dead stay.
            self._met.clear()
            self._named = time.monotonic()
        if event.netns not in self._met:
            self._names.update(netns.names())
            self._met.update(self._names, (event.netns,))
        if self._as_json:
            click.echo(json.dumps(jsonl.event(event, self._names)))
        else:
            click.echo(text.line(event, self._names))
        sys.stdout.flush()

    def end(self, totals: dict[str, Any]) -> None:
        """Write the summary: JSON belongs to the data, sentences do not."""
        if self._as_json:
            click.echo(json.dumps(totals))
            sys.stdout.flush()
            return
        for line in text.summary(totals):
            click.echo(line, err=True)


@click.command(short_help="Show oversize packets as they are dropped.")
@click.option("-i", "--interface", metavar="IFACE", help="Only drops on this device.")
@click.option("-4", "family", flag_value=4, type=int, help="Only IPv4.")
@click.option("-6", "family", flag_value=6, type=int, help="Only IPv6.")
@click.option("--netns", metavar="NAME", multiple=True, help="Only this namespace (repeatable).")
@click.option("--site", metavar="FUNC", multiple=True, help="Only this kernel function.")
@click.option("--verdict", type=click.Choice(VERDICTS), multiple=True, help="Only this verdict.")
@click.option("--host", metavar="ADDR", multiple=True, help="Only to or from it; a prefix too.")
@click.option("--tunnel", metavar="NAME", help="Only in this tunnel.")
@click.option("-c", "--count", type=click.IntRange(1), help="Exit after COUNT lines.")
@click.option("-d", "--duration", type=Seconds(), help="Exit after DURATION seconds.")
@click.option(
    "--rate",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Lines per flow and second. All drops are counted all the same.",
)
@click.option("--all", "every", is_flag=True, help="A line for every drop.")
@click.option(
    "--cold", is_flag=True, help="Attach nothing that runs for packets that are not refused."
)
@click.option("-j", "--json", "as_json", is_flag=True, help="JSON lines.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Written once all is attached.")
@click.option("--btf", type=click.Path(path_type=Path), help="BTF of this kernel, if it has none.")
@click.option(
    "--image", type=click.Path(path_type=Path), help="Tracer image from `pmtutrace compile`."
)
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
    from pmtutrace.kernel import netns, privileges
    from pmtutrace.tracing import devices
    from pmtutrace.tracing.tracer import Settings, Tracer

    privileges.require()
    spaces = {netns.inum(name) for name in options["netns"]} or None
    if options["interface"]:
        devices.require(options["interface"], spaces)
    wanted = _filter(options, spaces)
    settings = Settings(
        netns=spaces,
        rate=options["rate"],
        every=options["every"],
        btf=options["btf"],
        image_file=options["image"],
        cold=options["cold"],
    )
    lines = Lines(wanted, as_json=options["as_json"], most=options["count"])
    with Tracer(settings) as tracer, on_interrupt(tracer.stop):
        began = time.monotonic()
        _say_blind(tracer)
        if options["ready_file"]:
            _say_ready(options["ready_file"])
        privileges.keep()
        _follow(tracer, lines, options["duration"])
        return _close(tracer, wanted, lines, options, time.monotonic() - began)


def _say_blind(tracer: Tracer) -> None:
    """Say what is not known because hot hooks were left out."""
    for attached in tracer.attached:
        if attached.left_out and attached.blind:
            click.echo(f"cold: without hook {attached.hook.name}: {attached.blind}", err=True)


def _say_ready(path: Path) -> None:
    from pmtutrace.errors import UsageError

    try:
        path.write_text("ready\n")
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", "name a file in a folder that can be written"
        ) from error


def _filter(options: dict[str, Any], spaces: Collection[int] | None) -> Filter:
    from pmtutrace.errors import UsageError
    from pmtutrace.kernel import sites
    from pmtutrace.printable import printable
    from pmtutrace.tracing.filters import Filter, network

    for name in options["site"]:
        if name not in sites.NUMBERS:
            raise UsageError(f"{name!r} is no site", f"sites are {', '.join(sites.NUMBERS)}")
    return Filter(
        netns=spaces,
        interface=options["interface"] and printable(options["interface"]),
        family=options["family"],
        sites=frozenset(options["site"]),
        verdicts=frozenset(options["verdict"]),
        hosts=tuple(network(host) for host in options["host"]),
        tunnel=options["tunnel"] and printable(options["tunnel"]),
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
    for event in tracer.poll():
        wanted.learn(event)
    if wanted.interface is not None:
        wanted.ask((*counters, *fragments), tracer.device)
    losses = tracer.losses()
    totals = summarize(
        counters, fragments, losses, wanted=wanted, seconds=seconds, streamed=lines.shown
    )
    lines.end(totals)
    if options["strict"] and any(losses.values()):
        return LOST_DATA
    matched = totals["drops"] if "drop" in options["fail_on"] else 0
    matched += sum(totals["verdicts"].get(word, 0) for word in options["fail_on"])
    return FAILED_ON if matched else 0
