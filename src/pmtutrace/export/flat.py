"""Objects as flat rows: what is inside them gets a column each, as ``flow_saddr``."""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pmtutrace.session import columns, schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pmtutrace.session.columns import Kind
    from pmtutrace.session.selection import Names, Selection

ORIGIN = ("host", "boot_id", "session")
NETNS_NAME = "netns_name"
TIMES = frozenset({"ts", "since", "until", "last"})
MOVED = ("packets", "bytes", "max_length", "mtu", "last")


@dataclass(frozen=True, slots=True)
class Cell:
    """One column of flat rows.

    Args:
        name: of the column.
        kind: what is in it; ``list`` is JSON.
        path: to it from the object, with dots.
        optional: whether it may be empty.
    """

    name: str
    kind: Kind
    path: str
    optional: bool = False


@functools.cache
def _getter(path: str) -> attrgetter[Any]:
    return attrgetter(path)


@functools.cache
def cells(cls: type, prefix: str = "", path: str = "", *, optional: bool = False) -> list[Cell]:
    """Return the flat columns of a class, in order.

    Args:
        cls: the class.
        prefix: of the names.
        path: to an object of it from the outermost one.
        optional: whether that may be missing.
    """
    out: list[Cell] = []
    for column in columns.columns(cls):
        at, maybe = f"{path}{column.name}", optional or column.optional
        if column.kind == "value" and column.of is not None:
            out += cells(column.of, f"{prefix}{column.name}_", f"{at}.", optional=maybe)
        else:
            out.append(Cell(f"{prefix}{column.name}", column.kind, at, maybe))
    return out


def row(item: object, listed: list[Cell]) -> list[Any]:
    """Return the cells of an object; None where something inside is not there."""
    out: list[Any] = []
    for cell in listed:
        try:
            found = _getter(cell.path)(item)
        except AttributeError:
            if not cell.optional:
                raise
            found = None
        if cell.kind == "list":
            found = json.dumps([dataclasses.asdict(one) for one in found])
        out.append(found)
    return out


def _origin() -> list[Cell]:
    """Return what every row begins with, so that rows of several hosts can be told apart."""
    return [*(Cell(name, "word", name) for name in ORIGIN), Cell(NETNS_NAME, "word", "", True)]


# `key` says nothing to somebody who sees the columns.
COUNTED = [
    dataclasses.replace(cell, name=cell.name.removeprefix("key_")) for cell in cells(schema.Counted)
]


def counter_columns() -> list[Cell]:
    """Return the columns of :func:`counters`."""
    times = [Cell(name, "integer", name) for name in ("since", "until")]
    return [*_origin(), *times, *COUNTED, *(Cell(name, "integer", name) for name in MOVED)]


def counters(
    selection: Selection, names: Names, manifest: Mapping[str, Any]
) -> Iterator[list[Any]]:
    """Yield a row for each counter and second in which it moved."""
    origin = [str(manifest.get(name) or "") for name in ORIGIN]
    for since, until, delta in selection.deltas():
        spaces = names.at(until)
        counted = row(delta.counted, COUNTED)
        yield [
            *origin,
            spaces.get(delta.counted.key.netns),
            since,
            until,
            *counted,
            *delta[1:],
        ]


def event_columns(cls: type) -> list[Cell]:
    """Return the columns of :func:`event`."""
    return [*_origin(), *cells(cls)]


def event(item: Any, spaces: Mapping[int, str], manifest: Mapping[str, Any]) -> list[Any]:  # noqa: ANN401
    """Return the row of an event."""
    origin = [str(manifest.get(name) or "") for name in ORIGIN]
    cls: type = type(item)
    return [*origin, spaces.get(item.netns), *row(item, cells(cls))]
