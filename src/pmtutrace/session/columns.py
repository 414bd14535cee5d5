"""How an object becomes a row and a row an object again, told from the annotations of its class.

A new type of event, or a new field of one, is written in events.py and nowhere here.

Numbers are kept as they are. Text is kept once, as a word, and so is every object inside an object,
in a table of its own: a row then has their numbers. Octets of packets have a table of their own.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

Kind = Literal["integer", "boolean", "real", "word", "value", "list", "octets"]
MISSING = dataclasses.MISSING
PLAIN: dict[type, Kind] = {bool: "boolean", int: "integer", float: "real"}


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a class, as it is kept.

    Args:
        name: of the field, and of the column.
        kind: ``word`` and ``list`` (JSON) are numbers of words, ``value`` is the number of an
            object of class ``of``, ``octets`` are in the table of packets.
        of: the class of a value, or of what a list holds.
        optional: None may come.
        default: what a file has that was written before the field was there; MISSING for none.
    """

    name: str
    kind: Kind
    of: type | None
    optional: bool
    default: Any

    @property
    def sql(self) -> str:
        """Return the type of the column."""
        return "REAL" if self.kind == "real" else "INTEGER"


@functools.cache
def columns(cls: type) -> tuple[Column, ...]:
    """Return the columns of a class, in the order of its fields.

    Raises:
        TypeError: for a field of a type that cannot be kept.
    """
    hints = typing.get_type_hints(cls)
    if dataclasses.is_dataclass(cls):
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    else:
        given = getattr(cls, "_field_defaults", {})
        defaults = {name: given.get(name, MISSING) for name in getattr(cls, "_fields", ())}
    return tuple(_column(name, hints[name], default) for name, default in defaults.items())


def _column(name: str, hint: Any, default: Any) -> Column:  # noqa: ANN401 -- a type, or a union
    optional = False
    if get_origin(hint) in (types.UnionType, typing.Union):
        rest = [arm for arm in get_args(hint) if arm is not type(None)]
        optional, hint = True, rest[0]
    if hint in PLAIN:
        return Column(name, PLAIN[hint], None, optional, default)
    if hint is str:
        return Column(name, "word", None, optional, default)
    if hint is bytes:
        return Column(name, "octets", None, optional, default)
    if get_origin(hint) is tuple:
        return Column(name, "list", get_args(hint)[0], optional, default)
    if isinstance(hint, type) and columns(hint):
        return Column(name, "value", hint, optional, default)
    raise TypeError(f"{name}: {hint} cannot be kept in a session")


@functools.cache
def stored(cls: type) -> tuple[Column, ...]:
    """Return the columns of a class that are in its own table."""
    return tuple(column for column in columns(cls) if column.kind != "octets")


@functools.cache
def octets(cls: type) -> Column | None:
    """Return the field of a class that holds a packet, if there is one."""
    return next((column for column in columns(cls) if column.kind == "octets"), None)


def values(cls: type) -> list[type]:
    """Return the classes of all objects inside a class, innermost first."""
    found: dict[type, None] = {}
    for column in columns(cls):
        if column.kind == "value" and column.of is not None:
            found.update(dict.fromkeys(values(column.of)))
            found[column.of] = None
    return list(found)


def snake(cls: type) -> str:
    """Return the name of a class as SQL spells names: ``IcmpLost`` is ``icmp_lost``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
