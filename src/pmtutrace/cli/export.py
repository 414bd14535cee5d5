"""The verb `export`: a session in the formats of other tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pmtutrace.cli.choice import filter_options
from pmtutrace.cli.files import output
from pmtutrace.cli.print import say_damaged, select, session_argument, time_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmtutrace.session.reader import Reader

FORMATS = ("jsonl", "pcapng", "csv", "parquet")
BINARY = ("pcapng",)
DISSECTOR = Path(__file__).parents[1] / "export" / "pmtutrace.lua"


def _print_lua(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(DISSECTOR.read_text(), nl=False)
        context.exit()


@click.command(short_help="Write a session in the format of another tool.")
@session_argument
@click.option("--to", type=click.Choice(FORMATS), required=True, help="The format.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The file; for parquet, the folder."
)
@filter_options
@time_options
@click.option(
    "--lua",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_lua,
    help="Print the dissector for Wireshark, and do nothing else.",
)
def export(**options: Any) -> None:  # noqa: ANN401 -- whatever the options above give
    r"""Write a session in the format of another tool. Needs no root.

    \b
    pmtutrace export night.pmtu --to pcapng -o night.pcapng
    pmtutrace export night.pmtu --to csv --since 23:05 >counters.csv
    pmtutrace export night.pmtu --to parquet -o night/
    """
    from pmtutrace.errors import UsageError
    from pmtutrace.session.reader import Reader

    kind, output = options["to"], options["output"]
    if kind == "parquet" and output is None:
        raise UsageError("Parquet is several files", "name a folder for them with -o")
    if kind in BINARY and output is None and sys.stdout.isatty():
        raise UsageError(f"a terminal cannot show {kind}", "name a file with -o")
    with Reader(options["path"]) as reader:
        _write(reader, options)
        say_damaged(reader)


def _write(reader: Reader, options: dict[str, Any]) -> None:
    from pmtutrace.export import parquet

    if options["to"] == "parquet":
        names, selection = select(reader, options)
        parquet.write(options["output"], selection, names, reader.manifest)
        return
    with output(options["output"]) as out:
        for octets in _octets(reader, options):
            out.write(octets)


def _octets(reader: Reader, options: dict[str, Any]) -> Iterator[bytes]:
    from pmtutrace.export import pcapng, text

    names, selection = select(reader, options)
    if options["to"] == "pcapng":
        events = selection.events(packets=True)
        yield from pcapng.write(events, lambda event: names.at(event.ts))
        return
    if options["to"] == "csv":
        lines = text.counters(selection, names, reader.manifest)
    else:
        lines = text.lines(selection, names)
    for line in lines:
        yield line.encode(errors="backslashreplace")
