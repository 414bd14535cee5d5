"""Markdown of sentences with holes: what fills one is named by its place in what `report -j` says.

So nothing can be written that no report holds; and whatever a name is made of, it is text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pmtutrace.printable import printable
from pmtutrace.report.text import span, worded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Place = tuple[str | int, ...]
# What is markup anywhere, and what would make a link of an address.
SPECIAL = re.compile(r"[\\`*\[\]<>#|~&@$]|(?<![^\W_])_|_(?![^\W_])|(?<=www)\.|:(?=//)")
TICKS = re.compile(r"`+")
LEAST_FENCE = 3


@dataclass(frozen=True, slots=True)
class Hole:
    """Something that a report holds, and how it is written: one of :data:`HOW`."""

    place: Place
    how: str = "text"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text with holes by name; ``gap`` marks what no recording holds."""

    text: str
    holes: Mapping[str, Hole] = field(default_factory=dict)
    gap: bool = False


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a level."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Sentences one after the other; ``item`` for an item of a list."""

    sentences: tuple[Sentence, ...]
    item: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the names of its columns, and a sentence for each cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Sentence, ...], ...]


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands to type, a hole each."""

    holes: tuple[Hole, ...]


Block = Heading | Paragraph | Table | Commands


def told(*sentences: Sentence, item: bool = False) -> Paragraph:
    """Return a paragraph, or an item of a list."""
    return Paragraph(sentences, item)


def say(text: str, base: Place, **holes: tuple[str, Place]) -> Sentence:
    """Return a sentence; each hole has how it is written and its place below ``base``."""
    places = {name: Hole((*base, *place), how) for name, (how, place) in holes.items()}
    return Sentence(text, places)


def gap(text: str) -> Sentence:
    """Return what no recording holds."""
    return Sentence(text, gap=True)


def cell(base: Place, how: str, *place: str | int) -> Sentence:
    """Return a cell with what stands at a place."""
    return say("{it}", base, it=(how, place))


def known(value: object, written: Sentence) -> Sentence:
    """Return the cell, or an empty one where there is nothing to write."""
    return Sentence("") if value is None else written


def escaped(value: object) -> str:
    """Return a text in which nothing is markup."""
    return SPECIAL.sub(lambda one: f"\\{one[0]}", printable(str(value)))


def code(value: object) -> str:
    """Return a name as a code span, in which a table's bars are escaped, too."""
    text = printable(str(value))
    if not text:
        return ""
    ticks = "`" * (max((len(run) for run in TICKS.findall(text)), default=0) + 1)
    # One blank at each end is taken off again, unless there is nothing else.
    ends = text.startswith("`") or text.endswith("`")
    blanks = text.startswith(" ") and text.endswith(" ") and bool(text.strip())
    pad = " " if ends or blanks else ""
    return f"{ticks}{pad}{text}{pad}{ticks}".replace("|", "\\|")


def moment(value: object) -> str:
    """Return a timestamp to a second."""
    return f"{str(value)[:19].replace('T', ' ')} UTC"


HOW: Mapping[str, Callable[[Any], str]] = {
    "text": escaped,
    "name": code,
    "moment": moment,
    "span": lambda value: span(float(value)),
    "share": lambda value: f"{float(value):.1%}",
    "number": lambda value: f"{value:d}",
    "evidence": lambda value: escaped(worded(value)),
}


def found(reports: Sequence[Mapping[str, Any]], place: Place) -> Any:  # noqa: ANN401
    """Return what stands at a place in the objects of all reports."""
    value: Any = reports
    for step in place:
        value = value[step]
    return value


def sentences(blocks: Sequence[Block]) -> Iterator[Sentence]:
    """Yield all sentences."""
    for block in blocks:
        match block:
            case Paragraph():
                yield from block.sentences
            case Table():
                for row in block.rows:
                    yield from row


def rendered(blocks: Sequence[Block], reports: Sequence[Mapping[str, Any]]) -> str:
    """Return blocks as Markdown, filled from the objects of reports."""
    out = ""
    listed = False
    for block in blocks:
        item = isinstance(block, Paragraph) and block.item
        between = "" if not out else "\n" if item and listed else "\n\n"
        out += between + _block(block, reports)
        listed = item
    return out + "\n"


def _block(block: Block, reports: Sequence[Mapping[str, Any]]) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Paragraph():
            text = " ".join(_filled(one, reports) for one in block.sentences)
            return f"- {text}" if block.item else text
        case Table():
            rows = [block.columns, ("---",) * len(block.columns)]
            rows += [tuple(_filled(cell, reports) for cell in row) for row in block.rows]
            return "\n".join(f"| {' | '.join(row)} |" for row in rows)
        case Commands():
            lines = [printable(str(found(reports, hole.place))) for hole in block.holes]
            longest = max((len(run) for run in TICKS.findall("\n".join(lines))), default=0)
            fence = "`" * max(LEAST_FENCE, longest + 1)
            return "\n".join([f"{fence}sh", *lines, fence])


def _filled(sentence: Sentence, reports: Sequence[Mapping[str, Any]]) -> str:
    values = {
        name: HOW[hole.how](found(reports, hole.place)) for name, hole in sentence.holes.items()
    }
    text = sentence.text.format_map(values)
    return f"**GAP:** {text}" if sentence.gap else text
