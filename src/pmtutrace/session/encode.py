"""From objects to rows, with a number for each word and value.

What was numbered is remembered, up to a bound; what was forgotten is written once more, under a
new number. So a word or value may be there twice, and memory stays bounded.
"""

from __future__ import annotations

import json
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pmtutrace.session import columns, schema

if TYPE_CHECKING:
    from collections.abc import Callable

REMEMBERED = 1 << 17  # of each kind: more than the kernel side's table of flows


class Encoder:
    """Numbers words and values, and collects the rows that are to be written.

    Args:
        after: the highest number in each table that exists already.
    """

    def __init__(self, after: dict[str, int] | None = None) -> None:
        self.rows: dict[str, list[tuple[Any, ...]]] = {table.name: [] for table in schema.TABLES}
        self.last = {table.name: 0 for table in schema.TABLES} | (after or {})
        self._known: dict[type, dict[Any, int]] = {cls: {} for cls in (str, *schema.VALUES)}
        self._plans: dict[type, tuple[Callable[[Any], tuple[Any, ...]], tuple[Any, ...]]] = {}

    def add(self, table: schema.Table, *cells: object) -> int:
        """Add a row under the next number of its table; return the number."""
        self.last[table.name] = number = self.last[table.name] + 1
        self.rows[table.name].append((number, *cells))
        return number

    def word(self, text: str) -> int:
        """Return the number of a word."""
        known = self._known[str]
        found = known.get(text)
        if found is None:
            if len(known) >= REMEMBERED:
                known.clear()
            found = known[text] = self.add(schema.WORDS, _text(text))
        return found

    def value(self, value: object) -> int:
        """Return the number of an object of :data:`.schema.VALUES`."""
        known = self._known[type(value)]
        found = known.get(value)
        if found is None:
            if len(known) >= REMEMBERED:
                known.clear()
            found = known[value] = self.add(schema.TABLE_OF[type(value)], *self.row(value))
        return found

    def row(self, item: object) -> tuple[Any, ...]:
        """Return the cells of an object, words and values by number."""
        cells, ways = self._plans.get(type(item)) or self._plan(type(item))
        return tuple(
            [
                cell if way is None or cell is None else way(cell)
                for cell, way in zip(cells(item), ways, strict=True)
            ]
        )

    def _plan(self, cls: type) -> tuple[Callable[[Any], tuple[Any, ...]], tuple[Any, ...]]:
        kept = columns.stored(cls)
        names = [column.name for column in kept]
        first = attrgetter(*names)
        # attrgetter gives no tuple for a single name.
        cells = first if len(names) > 1 else lambda item: (first(item),)
        ways = {"word": self.word, "value": self.value, "list": self._list}
        self._plans[cls] = cells, tuple(ways.get(column.kind) for column in kept)
        return self._plans[cls]

    def _list(self, items: tuple[Any, ...]) -> int | None:
        if not items:
            return None
        cls: type = type(items[0])
        names = [column.name for column in columns.columns(cls)]
        return self.word(json.dumps([[getattr(item, name) for name in names] for item in items]))


def _text(text: str) -> str | bytes:
    """Return text as SQLite takes it: names that are no UTF-8 as their octets (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogateescape")
    return text
