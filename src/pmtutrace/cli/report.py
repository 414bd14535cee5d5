"""The verb `report`: what recordings say, in words and numbers."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pmtutrace.cli.files import output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmtutrace.report.build import Report
    from pmtutrace.session.reader import Reader


@click.command(short_help="Say what happened, why, and what to do.")
@click.argument(
    "paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--netns", metavar="NAME", multiple=True, help="Only this namespace (repeatable).")
@click.option("-j", "--json", "as_json", is_flag=True, help="One JSON object for each host.")
@click.option(
    "--incident", type=click.Path(path_type=Path), help="Draft an incident report, as Markdown."
)
@click.option("--html", type=click.Path(path_type=Path), help="Write one page for a browser.")
def report(
    paths: tuple[Path, ...],
    netns: tuple[str, ...],
    as_json: bool,
    incident: Path | None,
    html: Path | None,
) -> None:
    r"""Say what happened, how bad it was, why, and what to do. Needs no root.

    \b
    pmtutrace report night.pmtu
    pmtutrace report -j night-*.pmtu              all files of a rotation are one report
    pmtutrace report night.pmtu --incident -      a first draft of what has to be written today
    pmtutrace report --html night.html *.pmtu     a page that needs no network, all hosts in one

    Sessions of the same host and boot are put together; several hosts get a report each, and what
    happened on all of them follows on one axis of time.
    """
    from pmtutrace.report import build
    from pmtutrace.session.reader import Reader

    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(path)) for path in paths]
        _require(netns, readers)
        groups = build.groups(readers)
        found = [build.build(group, netns) for group in groups]
        if html is not None:
            _page(found, groups, html)
        if incident is not None:
            _draft(found, incident)
        elif as_json:
            _objects(found)
        elif html is None:
            _text(found)
        sys.stdout.flush()


def _require(named: Sequence[str], readers: Sequence[Reader]) -> None:
    """See that each namespace that is named is in one of the sessions.

    Raises:
        UsageError: one is not.
    """
    from pmtutrace.errors import UsageError
    from pmtutrace.session.selection import Names

    each = [Names(reader) for reader in readers] if named else []
    for name in named:
        if not any(one.inodes(name) for one in each):
            raise UsageError(
                f"there is no network namespace {name!r} in any of the sessions",
                "name it as it was called then, or by its inode",
            )


def _text(found: Sequence[Report]) -> None:
    from pmtutrace.report import text

    for number, one in enumerate(found):
        if number:
            click.echo()
        for line in text.lines(one):
            click.echo(line)
    for line in text.together(found):
        click.echo(line)


def _objects(found: Sequence[Report]) -> None:
    from pmtutrace.report import json as objects

    for one in found:
        click.echo(json.dumps(objects.report(one)))


def _page(found: Sequence[Report], groups: Sequence[Sequence[Reader]], path: Path) -> None:
    from pmtutrace.report.html.page import page
    from pmtutrace.report.series import series

    drops = [series(group, one) for one, group in zip(found, groups, strict=True)]
    written = page(found, drops)
    with output(path) as out:
        out.write(written.encode(errors="backslashreplace"))


def _draft(found: Sequence[Report], path: Path) -> None:
    from pmtutrace.report import incident
    from pmtutrace.report import json as objects

    written = incident.draft([objects.report(one) for one in found])
    with output(path) as out:
        out.write(written.encode(errors="backslashreplace"))
