"""From rows to objects. Every cell is looked at: a file may hold anything.

A row that does not fit its class is counted and left out.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import sqlite3
from typing import TYPE_CHECKING, Any

from pmtutrace.events import Flow, Outer
from pmtutrace.session import columns, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pmtutrace.session.columns import Column

REMEMBERED = 1 << 16  # of words, and of each kind of value
DEEP = 8  # values within values; a value that holds itself never ends
LATEST = 253_402_300_799 * 1_000_000_000  # the last second of the year 9999
FAMILIES = (4, 6, 0)  # the overflow entry has none
FITTING: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "boolean": (int,),
    "real": (float, int),
    "word": (int,),
    "value": (int,),
    "list": (int,),
}


class DamagedError(Exception):
    """Says that a row does not hold what it should."""


class Remembered(dict[int | None, Any]):
    """What was looked up, up to a bound; what is not there is looked up. None stands for nothing.

    Events have the same few words and values again and again: as a dict it costs no call of ours.
    """

    def __init__(self, look: Callable[[int], Any]) -> None:
        super().__init__({None: None})
        self._look = look

    def __missing__(self, number: int) -> Any:  # noqa: ANN401 -- whatever is looked up
        found = self._look(number)
        if len(self) > REMEMBERED:
            self.clear()
            self[None] = None
        self[number] = found
        return found


class Decoder:
    """Makes objects of the rows of one file.

    Args:
        sql: an open connection.
        there: names of the columns of each table that the file has.
    """

    def __init__(self, sql: sqlite3.Connection, there: dict[str, frozenset[str]]) -> None:
        self._sql = sql
        self._there = there
        self.words = Remembered(self._word)
        self.values = {
            cls: Remembered(functools.partial(self._value, cls)) for cls in schema.VALUES
        }
        self._plans: dict[type, Plan] = {}
        self._depth = 0

    def plan(self, cls: type) -> Plan:
        """Return how rows of a class are read from this file."""
        if cls not in self._plans:
            table = schema.TABLE_OF[cls].name
            if table not in self._there:
                raise DamagedError(f"there is no table {table}")
            self._plans[cls] = Plan(cls, self._there[table], self)
        return self._plans[cls]

    def word(self, number: int) -> str:
        """Return a word by its number."""
        found: str = self.words[number]
        return found

    def _word(self, number: int) -> str:
        row = self._sql.execute("SELECT text FROM words WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise DamagedError(f"there is no word {number}")
        text = row[0]
        if isinstance(text, bytes):
            text = text.decode(errors="surrogateescape")
        if not isinstance(text, str):
            raise DamagedError(f"word {number} is no text")
        return text

    def value(self, cls: type, number: int) -> Any:  # noqa: ANN401 -- of that class
        """Return an object of :data:`.schema.VALUES` by its number."""
        return self.values[cls][number]

    def _value(self, cls: type, number: int) -> Any:  # noqa: ANN401
        plan = self.plan(cls)
        row = self._sql.execute(f"{plan.select} WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise DamagedError(f"there is no {columns.snake(cls)} {number}")
        self._depth += 1
        try:
            if self._depth > DEEP:
                raise DamagedError("values within values never end")
            return plan.object(row[1:])
        finally:
            self._depth -= 1

    def items(self, cls: type, number: int) -> tuple[Any, ...]:
        """Return what a list of one class holds, from its word."""
        try:
            rows = json.loads(self.word(number))
            return tuple(cls(*_checked(cls, row)) for row in rows)
        except (ValueError, TypeError, RecursionError) as error:
            raise DamagedError(f"word {number} is no list of {columns.snake(cls)}") from error


class Plan:
    """How the rows of one class are read from one file."""

    def __init__(self, cls: type, there: frozenset[str], decoder: Decoder) -> None:
        self._cls = cls
        kept = [column for column in columns.stored(cls) if column.name in there]
        self._rest = {c.name: _missing(c) for c in columns.columns(cls) if c not in kept}
        self._names = [column.name for column in kept]
        self._ways = [_way(column, decoder) for column in kept]
        self._kinds = [column.kind for column in kept]
        self._optional = [column.optional or column.kind == "list" for column in kept]
        self._fitting: set[tuple[type, ...]] = set()  # types of cells that are known to do
        self._check = _CHECKS.get(cls)
        self._ts = self._names.index("ts") if "ts" in self._names else None
        self._family = self._names.index("family") if "family" in self._names else None
        listed = ", ".join(["id", *(f'"{name}"' for name in self._names)])
        self.select = f'SELECT {listed} FROM "{schema.TABLE_OF[cls].name}"'
        self.packet = columns.octets(cls)

    def object(self, cells: Sequence[Any], packet: bytes = b"") -> Any:  # noqa: ANN401
        """Return the object of a row.

        Raises:
            DamagedError: for what cannot be one.
        """
        kinds = tuple(map(type, cells))
        if kinds not in self._fitting:
            self._learn(kinds)
        if self._ts is not None and not 0 <= cells[self._ts] <= LATEST:
            raise DamagedError("a time beyond all calendars")
        if self._family is not None and cells[self._family] not in FAMILIES:
            raise DamagedError("a family that is none")
        fields = dict(self._rest)
        if self.packet is not None:
            fields[self.packet.name] = packet
        for name, way, cell in zip(self._names, self._ways, cells, strict=True):
            fields[name] = cell if way is None else way(cell)
        found = self._cls(**fields)
        if self._check is not None:
            self._check(found)
        return found

    def _learn(self, kinds: tuple[type, ...]) -> None:
        """Take the types of a row's cells as fitting, or raise DamagedError."""
        for name, kind, optional, found in zip(
            self._names, self._kinds, self._optional, kinds, strict=True
        ):
            if found not in FITTING[kind] and not (optional and found is type(None)):
                raise DamagedError(f"{name} of {self._cls.__name__} is {found.__name__}")
        self._fitting.add(kinds)


def _way(column: Column, decoder: Decoder) -> Callable[[Any], Any] | None:
    """Return what makes a cell what it stands for; None where it is that already."""
    of = column.of
    if column.kind == "boolean":
        return lambda cell: None if cell is None else bool(cell)
    if column.kind == "word":
        return decoder.words.__getitem__
    if column.kind == "value" and of is not None:
        return decoder.values[of].__getitem__
    if column.kind == "list" and of is not None:
        return lambda cell: () if cell is None else decoder.items(of, cell)
    return None


def _missing(column: Column) -> Any:  # noqa: ANN401 -- a default
    """Return what a field is in a file that was written before it was there."""
    if column.kind == "octets":
        return b""
    if column.default is not columns.MISSING or column.optional:
        return None if column.default is columns.MISSING else column.default
    return {"word": "", "list": (), "value": None, "real": 0.0}.get(column.kind, 0)


def _checked(cls: type, row: object) -> list[Any]:
    """Return the fields of an element of a list; raise TypeError for what does not fit."""
    wanted = columns.columns(cls)
    if not isinstance(row, list) or len(row) != len(wanted):
        raise TypeError
    for column, cell in zip(wanted, row, strict=True):
        kinds = (str,) if column.kind == "word" else FITTING[column.kind]
        if type(cell) not in kinds and not (column.optional and cell is None):
            raise TypeError
    return row


def _check_ends(ends: Flow | Outer) -> None:
    """Refuse addresses that are none; a flow of the overflow entry has empty ones."""
    for address in (ends.saddr, ends.daddr):
        if address:
            try:
                ipaddress.ip_address(address)
            except ValueError as error:
                raise DamagedError("an address that is none") from error


_CHECKS: dict[type, Callable[[Any], None]] = {Flow: _check_ends, Outer: _check_ends}
