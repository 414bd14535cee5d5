"""The verb `print`: a session's events, as `trace` would have shown them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pmtutrace.cli import choice
from pmtutrace.cli.choice import F, filter_options
from pmtutrace.cli.lines import Lines
from pmtutrace.cli.moments import MOMENT
from pmtutrace.cli.signals import on_interrupt

if TYPE_CHECKING:
    from pmtutrace.session.reader import Reader
    from pmtutrace.session.selection import Names, Selection

LOOK_EVERY_S = 0.25

# Said of every verb that reads sessions.
session_argument = click.argument("path", metavar="FILE", type=click.Path(path_type=Path))


def time_options(command: F) -> F:
    """Add the options that choose a time."""
    since = click.option(
        "-S", "--since", type=MOMENT, help="Only from then on, as journalctl(1) has it."
    )
    until = click.option("-U", "--until", type=MOMENT, help="Only before that.")
    return since(until(command))


@click.command(short_help="Show the events of a session.")
@session_argument
@filter_options
@time_options
@click.option("-c", "--count", type=click.IntRange(1), help="End after COUNT lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on while it is recorded.")
@click.option("-j", "--json", "as_json", is_flag=True, help="JSON lines.")
def print(**options: Any) -> int:  # noqa: A001, ANN401 -- the verb's name; what the options give
    r"""Show the events of a session as `trace` would have shown them. Needs no root.

    \b
    pmtutrace print night.pmtu --since 23:05 --verdict suppressed
    pmtutrace print night.pmtu --since -1h -j
    pmtutrace print -f night.pmtu              while it is being recorded
    """
    from pmtutrace.session.reader import Reader
    from pmtutrace.tracing.filters import Filter

    with Reader(options["path"]) as reader:
        names, selection = select(reader, options)
        lines = Lines(
            Filter(),  # what it gets is chosen already
            as_json=options["as_json"],
            most=options["count"],
            names=lambda event: names.at(event.ts),
            live=options["follow"],
        )
        lines.begin()
        _show(reader, selection, lines, follow=options["follow"])
        lines.end(selection.summary(lines.shown))
        say_damaged(reader)
    return 0


def select(reader: Reader, options: dict[str, Any]) -> tuple[Names, Selection]:
    """Return the names of namespaces, and what the options choose of a session."""
    from pmtutrace.errors import UsageError
    from pmtutrace.session.selection import Names, Selection

    names = Names(reader)
    spaces: set[int] = set()
    for name in options["netns"]:
        found = names.inodes(name)
        if not found:
            raise UsageError(
                f"there is no network namespace {name!r} in {reader.file.path}",
                "name it as it was called then, or by its inode",
            )
        spaces |= found
    wanted = choice.wanted(options, spaces or None)
    return names, Selection(reader, wanted, options["since"], options["until"])


def say_damaged(reader: Reader) -> None:
    """Say how much could not be read, if anything."""
    if reader.damaged:
        click.echo(f"pmtutrace: {reader.damaged} rows are damaged and were left out", err=True)


def _show(reader: Reader, selection: Selection, lines: Lines, *, follow: bool) -> None:
    over = threading.Event()
    with on_interrupt(over.set):
        while True:
            ended = not follow or reader.ended  # asked before, so that the last look is after it
            for event in selection.events():
                if over.is_set() or not lines.take(event):
                    return
            if ended or over.wait(LOOK_EVERY_S):
                return
