"""The verb `report`: what recordings say, in words and numbers."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import click


@click.command(short_help="Say what happened, why, and what to do.")
@click.argument(
    "paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("-j", "--json", "as_json", is_flag=True, help="One JSON object for each host.")
def report(paths: tuple[Path, ...], as_json: bool) -> None:
    r"""Say what happened, how bad it was, why, and what to do. Needs no root.

    \b
    pmtutrace report night.pmtu
    pmtutrace report -j night-*.pmtu      all files of a rotation are one report

    Sessions of the same host and boot are put together; several hosts get a report each.
    """
    from pmtutrace.report import build, text
    from pmtutrace.report import json as objects
    from pmtutrace.session.reader import Reader

    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(path)) for path in paths]
        for number, group in enumerate(build.groups(readers)):
            found = build.build(group)
            if as_json:
                click.echo(json.dumps(objects.report(found)))
                continue
            if number:
                click.echo()
            for line in text.lines(found):
                click.echo(line)
        sys.stdout.flush()
