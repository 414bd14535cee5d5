"""JSON lines, as `trace -j` would have written them, and CSV of counters."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from pmtutrace import jsonl
from pmtutrace.export import flat
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pmtutrace.session.selection import Names, Selection

# A spreadsheet takes what begins so for a formula, and a device may be called so.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def lines(selection: Selection, names: Names) -> Iterator[str]:
    """Yield the line of each event, and then the summary."""
    shown = 0
    for event in selection.events():
        shown += 1
        yield f"{json.dumps(jsonl.event(event, names.at(event.ts)))}\n"
    yield f"{json.dumps(selection.summary(shown))}\n"


def counters(selection: Selection, names: Names, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of counters: a row for each second in which one moved."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(cell.name for cell in flat.counter_columns())
    for row in flat.counters(selection, names, manifest):
        yield _taken(out)
        writer.writerow(_harmless(cell) for cell in row)
    yield _taken(out)


def _taken(out: io.StringIO) -> str:
    text = out.getvalue()
    out.seek(0)
    out.truncate()
    return text


def _harmless(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = printable(cell)
    return f"'{text}" if text.startswith(FORMULA) else text
