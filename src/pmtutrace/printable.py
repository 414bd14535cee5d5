"""Text for people: names that somebody else chose, and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence


def printable(text: str) -> str:
    r"""Escape what is not printable, as ``\x1b``: a terminal must not obey a name.

    Octets that are no UTF-8 are expected as lone surrogates (PEP 383), and come out as those.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def aligned(rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> Iterator[str]:
    """Yield the lines of a table.

    Args:
        rows: the first has the names of the columns.
        right: names of the columns that are set flush right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            f"{cell:>{width}}" if name in right else f"{cell:{width}}"
            for name, cell, width in zip(rows[0], row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()
