"""The tables of a session. docs/session.md describes them; a test holds it to this.

A reader takes whatever tables and columns of these it finds, and no others: what was added since
has the default of its field. VERSION changes only where that would be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from pmtutrace.events import CounterKey, Event, TunnelRef
from pmtutrace.pmtu.exceptions import PathMtu
from pmtutrace.session import columns
from pmtutrace.tunnels.tunnel import Tunnel

APPLICATION_ID = 0x706D7475  # "pmtu"; what file(1) and SQLite's own header know a file by
VERSION = 1
EVENTS: tuple[type, ...] = get_args(Event)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a counter counts, with the names that its device and tunnel had then."""

    key: CounterKey
    dev: str
    tunnel: TunnelRef | None


@dataclass(frozen=True, slots=True)
class TunnelThere:
    """A tunnel that was there at the start, or as it had become."""

    ts: int
    tunnel: Tunnel


@dataclass(frozen=True, slots=True)
class ExceptionThere:
    """A path MTU exception that was there at the start."""

    ts: int
    netns: int
    dev: str
    exception: PathMtu


@dataclass(frozen=True, slots=True)
class Space:
    """What a network namespace is called from then on."""

    ts: int
    netns: int
    name: str


@dataclass(frozen=True, slots=True)
class Around:
    """Ways, sysctls and rules of one namespace as they were then; ``text`` is their JSON."""

    ts: int
    netns: int
    text: str


STATES: tuple[type, ...] = (Space, TunnelThere, ExceptionThere, Around)
VALUES: tuple[type, ...] = tuple(
    dict.fromkeys(
        [*(v for cls in (*EVENTS, *STATES, Counted) for v in columns.values(cls)), Counted]
    )
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its name, its columns with their types, and what ends its definition."""

    name: str
    columns: tuple[tuple[str, str], ...]
    rest: str = ""
    rowid: bool = True

    @property
    def create(self) -> str:
        """Return the statement that makes it."""
        parts = [f'"{name}" {kind}' for name, kind in self.columns]
        end = "" if self.rowid else " WITHOUT ROWID"
        return (
            f'CREATE TABLE "{self.name}" ({", ".join([*parts, *filter(None, [self.rest])])}){end}'
        )

    @property
    def insert(self) -> str:
        """Return the statement that adds a row."""
        return f'INSERT INTO "{self.name}" VALUES ({", ".join("?" * len(self.columns))})'


KEY = ("id", "INTEGER PRIMARY KEY")


def _of(cls: type, prefix: str) -> Table:
    kept = ((column.name, column.sql) for column in columns.stored(cls))
    return Table(f"{prefix}{columns.snake(cls)}", (KEY, *kept))


def _integers(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, "INTEGER") for name in names)


TABLE_OF: dict[type, Table] = {
    **{cls: _of(cls, "value_") for cls in VALUES},
    **{cls: _of(cls, "event_") for cls in EVENTS},
    **{cls: _of(cls, "state_") for cls in STATES},
}
MANIFEST = Table("manifest", (("name", "TEXT PRIMARY KEY"), ("value", "TEXT")))
WORDS = Table("words", (KEY, ("text", "TEXT")))
PACKETS = Table("packets", (("event", "INTEGER PRIMARY KEY"), ("octets", "BLOB")))
SECONDS = Table(
    "seconds",
    (
        KEY,
        *_integers("since", "ts", "offset", "first_event", "last_event", "oldest", "newest"),
        *_integers("cpu_ns", "rss"),
    ),
)
DELTAS = Table(
    "deltas",
    _integers("second", "counted", "packets", "bytes", "max_length", "mtu", "last"),
    'PRIMARY KEY ("second", "counted")',
    rowid=False,
)
LOSSES = Table(
    "losses",
    _integers("second", "kind", "number"),
    'PRIMARY KEY ("second", "kind")',
    rowid=False,
)
VERDICTS = Table(
    "verdicts",
    _integers("second", "verdict", "packets"),
    'PRIMARY KEY ("second", "verdict")',
    rowid=False,
)
SUMS = Table(
    "sums",
    (
        ("counted", "INTEGER PRIMARY KEY"),
        *_integers("second", "packets", "bytes", "max_length", "mtu", "first", "last"),
    ),
)
TABLES = (MANIFEST, WORDS, *TABLE_OF.values(), PACKETS, SECONDS, DELTAS, VERDICTS, SUMS, LOSSES)


def views() -> dict[str, str]:
    """Return views for people, by name, with the statements that make them.

    Each shows one type of event, or the deltas, with words and values in their places. Readers of
    ours do not look at them.
    """
    found = {}
    for cls in EVENTS:
        name = f"{columns.snake(cls)}_events"
        shown = ", ".join(_shown(cls, "e"))
        found[name] = f'CREATE VIEW "{name}" AS SELECT e.id, {shown} FROM "{TABLE_OF[cls].name}" e'
    what = ", ".join(_shown(Counted, "c"))
    joined = f'deltas d JOIN seconds s ON s.id = d.second JOIN "{TABLE_OF[Counted].name}" c'
    numbers = "s.since, s.ts, d.packets, d.bytes, d.max_length, d.mtu, d.last"
    found["delta_rows"] = (
        f'CREATE VIEW "delta_rows" AS SELECT {numbers}, {what} FROM {joined} ON c.id = d.counted'
    )
    return found


def _shown(cls: type, row: str, prefix: str = "") -> list[str]:
    """Return an expression for each column, those of values dissolved: ``flow_saddr``."""
    out = []
    for column in columns.stored(cls):
        here = f'{row}."{column.name}"' if "(" not in row else row.replace("*", f'"{column.name}"')
        if column.kind == "value" and column.of is not None:
            table = TABLE_OF[column.of].name
            inner = f'(SELECT * FROM "{table}" WHERE id = {here})'
            out += _shown(column.of, inner, f"{prefix}{column.name}_")
        elif column.kind in ("word", "list"):
            out.append(f'(SELECT text FROM words WHERE id = {here}) AS "{prefix}{column.name}"')
        else:
            out.append(f'{here} AS "{prefix}{column.name}"')
    return out
