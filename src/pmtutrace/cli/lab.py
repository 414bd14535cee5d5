"""``pmtutrace lab``: list or run the scenarios, one by one."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING

import click

from pmtutrace.cli.seconds import Seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pmtutrace.lab.run import Result
    from pmtutrace.lab.scenario import Scenario

as_json = click.option("-j", "--json", "as_json", is_flag=True, help="One JSON object per line.")


@click.group()
def lab() -> None:
    """List or run the scenarios, one by one.

    Each builds network namespaces of its own, sends a known number of packets that are too big, and
    compares what was expected, what was counted, and what the kernel's own counters say.
    """


@lab.command("list")
@as_json
def list_scenarios(as_json: bool) -> None:
    """List all scenarios."""
    from pmtutrace.lab.scenarios import ALL

    width = max(len(scenario.name) for scenario in ALL)
    for scenario in ALL:
        if as_json:
            click.echo(json.dumps(scenario.json()))
        else:
            click.echo(f"{scenario.name:{width}}  {scenario.title}")


@lab.command("run")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Run all scenarios.")
@as_json
def run_scenarios(names: tuple[str, ...], every: bool, as_json: bool) -> int:
    """Run scenarios by name or pattern (``vxlan-*``), or all of them.

    Exit code 0 if none failed, else 1. What this kernel cannot do is skipped.
    """
    from pmtutrace.errors import UsageError
    from pmtutrace.lab.scenarios import ALL, chosen

    if not names and not every:
        raise UsageError(
            "no scenario named", "name some, or --all; `pmtutrace lab list` lists them"
        )
    scenarios = ALL if every else chosen(names)
    failed = 0
    width = max(len(scenario.name) for scenario in scenarios)
    for result in _results(scenarios, width):
        failed += result.result == "failed"
        if as_json:
            click.echo(json.dumps(result.json()))
        else:
            _show(result, width)
    return 1 if failed else 0


@lab.command("incident")
@click.option("--cycles", type=click.IntRange(2), default=10, show_default=True, help="How often.")
@click.option("--tunnel", "type_", type=click.Choice(("gre", "vxlan")), help="Its type.")
@click.option("--period", type=Seconds(), help="From one collapse to the next.")
@click.option("--lifetime", type=click.IntRange(1), help="Seconds that a path MTU is believed for.")
@as_json
def let_it_happen(
    cycles: int, type_: str | None, period: float | None, lifetime: int | None, as_json: bool
) -> None:
    """Let the incident of 2015 happen, without a tracer, and say what the lab has measured of it.

    Best as the command of `record`: what is found in the session can be held against it.
    """
    from pmtutrace.lab.endured import endure, wherever

    # Nobody watches it fall here: at once, so that all agree on when that was.
    changes = {"period_s": period, "lifetime_s": lifetime, "gap_s": 0.0}
    wanted = {name: value for name, value in changes.items() if value is not None}
    with wherever(type_, **wanted) as going:
        measured = endure(going, cycles, lambda words: click.echo(words, err=True))
    if as_json:
        click.echo(json.dumps(measured.json()))
        return
    for name, value in measured.json().items():
        shown = json.dumps(value) if isinstance(value, dict) else value
        click.echo(f"{name:10} {shown}")


def _results(scenarios: Sequence[Scenario], width: int) -> Iterator[Result]:
    """Run with one tracer for all; on a terminal, say on stderr which one is at it."""
    from pmtutrace.lab.run import run
    from pmtutrace.tracing import Tracer

    with Tracer() as tracer:
        for number, scenario in enumerate(scenarios, 1):
            with _progress(f"{number}/{len(scenarios)} {scenario.name:{width}}"):
                result = run(scenario, tracer)
            yield result


@contextlib.contextmanager
def _progress(text: str) -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True, markup=False, highlight=False).status(text):
        yield


def _show(result: Result, width: int) -> None:
    """Print one aligned line, and why on a second one where it is not well."""
    kernel = next((f"{name} {value}" for name, value in result.kernel.items()), "")
    counted = f"{result.counted:3} of {result.expected:2}"
    click.echo(f"{result.result:7}  {result.scenario:{width}}  {counted}  {kernel}")
    if result.reason:
        click.echo(f"         {result.reason}")
