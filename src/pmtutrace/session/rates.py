"""Packets second by second, for each verdict: sums that SQLite makes, of however many counters."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.events import CounterKey
from pmtutrace.session import schema
from pmtutrace.session.decode import DamagedError, Decoder
from pmtutrace.session.reader import Span

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pmtutrace.session.file import File

TABLES = (schema.DELTAS, schema.TABLE_OF[schema.Counted], schema.TABLE_OF[CounterKey])
SECONDS_AT_ONCE = 1024
MOST_VERDICTS = 16  # of those that are no damage there are six


class Rate(NamedTuple):
    """Packets that were counted in one second, by verdict.

    ``number`` is that of the second, ``since`` what the clock showed when counters were read
    before, 0 where that is not known, and ``ts`` when they were read then, nanoseconds since 1970.
    """

    number: int
    since: int
    ts: int
    packets: dict[str, int]


def rates(file: File, only: Collection[int] | None = None) -> Iterator[Rate]:
    """Yield the seconds of a session in which a counter moved, in order.

    Args:
        file: of the session.
        only: inodes of the network namespaces that count; None for all.

    Raises:
        SessionError: the file is damaged.
    """
    verdicts = _verdicts(file)
    if not verdicts:
        return
    moved: dict[int, dict[str, int]] = {}
    upto = 0
    for number, since, ts in file.integers(schema.SECONDS, "since", "ts"):
        if number > upto:
            upto = number + SECONDS_AT_ONCE - 1
            moved = _sums(file, verdicts, Span(number, upto), only)
        if number in moved:
            yield Rate(number, since, ts, moved[number])


def _verdicts(file: File) -> dict[str, list[int]]:
    """Return the words that are verdicts, and by which numbers they are known."""
    if any(
        {name for name, _ in table.columns} - file.tables.get(table.name, frozenset())
        for table in TABLES
    ):
        return {}
    decoder = Decoder(file.sql, file.tables)
    key = schema.TABLE_OF[CounterKey].name
    with file.telling():
        numbers = file.sql.execute(
            f'SELECT DISTINCT verdict FROM "{key}" LIMIT {MOST_VERDICTS}'
        ).fetchall()
    found: dict[str, list[int]] = {}
    for (number,) in numbers:
        with file.telling(), contextlib.suppress(DamagedError):
            if type(number) is int:
                found.setdefault(decoder.word(number), []).append(number)
    return found


def _sums(
    file: File, verdicts: dict[str, list[int]], span: Span, only: Collection[int] | None
) -> dict[int, dict[str, int]]:
    """Return how many packets were counted in some seconds, by the second's number."""
    # One pass in the order of the table: grouping by verdict, too, would have it all sorted.
    columns = ", ".join(
        f"sum(CASE WHEN k.verdict IN ({', '.join(map(str, numbers))}) THEN d.packets ELSE 0 END)"
        for numbers in verdicts.values()
    )
    # What found no room in the table of counters belongs to no namespace, and always counts.
    where = "" if only is None else f"AND k.netns IN ({', '.join(map(str, {0, *only}))}) "
    deltas, counted, key = (table.name for table in TABLES)
    with file.telling():
        rows = file.sql.execute(
            f'SELECT d.second, {columns} FROM "{deltas}" d JOIN "{counted}" c ON c.id = d.counted '
            f'JOIN "{key}" k ON k.id = c."key" WHERE d.second BETWEEN ? AND ? {where}'
            "GROUP BY d.second",
            span,
        ).fetchall()
    out = {}
    for second, *sums in rows:
        if all(type(cell) is int for cell in (second, *sums)):
            out[second] = {
                verdict: packets for verdict, packets in zip(verdicts, sums, strict=True) if packets
            }
        else:
            file.damaged += 1
    return out
