"""Packets second by second, for each verdict: sums that the writer has kept, or SQLite makes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.events import CounterKey
from pmtutrace.session import schema
from pmtutrace.session.decode import DamagedError, Decoder
from pmtutrace.session.reader import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pmtutrace.session.file import File

Sums = dict[int, dict[str, int]]  # packets by verdict, of each second in which a counter moved

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
    sums = _kept(file) if only is None and _are_kept(file) else _added(file, only)
    if sums is None:
        return
    moved: Sums = {}
    upto = 0
    for number, since, ts in file.integers(schema.SECONDS, "since", "ts"):
        if number > upto:
            upto = number + SECONDS_AT_ONCE - 1
            moved = sums(Span(number, upto))
        if number in moved:
            yield Rate(number, since, ts, moved[number])


def _are_kept(file: File) -> bool:
    """Say if the writer has kept sums by verdict, of the time that deltas are of."""
    if not file.has(schema.DELTAS, schema.VERDICTS):
        return False
    with file.telling():
        row = file.sql.execute(
            "SELECT (SELECT second FROM verdicts ORDER BY second LIMIT 1) = "
            "(SELECT second FROM deltas ORDER BY second LIMIT 1) AND "
            "(SELECT second FROM verdicts ORDER BY second DESC LIMIT 1) = "
            "(SELECT second FROM deltas ORDER BY second DESC LIMIT 1)"
        ).fetchone()
    return bool(row == (1,))


def _kept(file: File) -> Callable[[Span], Sums]:
    """Return what reads the sums that the writer has kept."""
    decoder = Decoder(file.sql, file.tables)

    def sums(span: Span) -> Sums:
        with file.telling():
            rows = file.sql.execute(
                "SELECT second, verdict, packets FROM verdicts WHERE second BETWEEN ? AND ?", span
            ).fetchall()
        out: Sums = {}
        for second, number, packets in rows:
            word = None
            if all(type(cell) is int for cell in (second, number, packets)):
                with file.telling(), contextlib.suppress(DamagedError):
                    word = decoder.word(number)
            if word is None:
                file.damaged += 1
                continue
            moved = out.setdefault(second, {})
            if packets:
                moved[word] = moved.get(word, 0) + packets
        return out

    return sums


def _added(file: File, only: Collection[int] | None) -> Callable[[Span], Sums] | None:
    """Return what has SQLite add up deltas; None where there is no verdict."""
    if not file.has(*TABLES):
        return None
    verdicts = _verdicts(file)
    if not verdicts:
        return None
    # One pass in the order of the table: grouping by verdict, too, would have it all sorted.
    columns = ", ".join(
        f"sum(CASE WHEN k.verdict IN ({', '.join(map(str, numbers))}) THEN d.packets ELSE 0 END)"
        for numbers in verdicts.values()
    )
    # What found no room in the table of counters belongs to no namespace, and always counts.
    where = "" if only is None else f"AND k.netns IN ({', '.join(map(str, {0, *only}))}) "
    deltas, counted, key = (table.name for table in TABLES)
    statement = (
        f'SELECT d.second, {columns} FROM "{deltas}" d JOIN "{counted}" c ON c.id = d.counted '
        f'JOIN "{key}" k ON k.id = c."key" WHERE d.second BETWEEN ? AND ? {where}GROUP BY d.second'
    )

    def sums(span: Span) -> Sums:
        with file.telling():
            rows = file.sql.execute(statement, span).fetchall()
        out: Sums = {}
        for second, *numbers in rows:
            if all(type(cell) is int for cell in (second, *numbers)):
                moved = zip(verdicts, numbers, strict=True)
                out[second] = {verdict: packets for verdict, packets in moved if packets}
            else:
                file.damaged += 1
        return out

    return sums


def _verdicts(file: File) -> dict[str, list[int]]:
    """Return the words that are verdicts, and by which numbers they are known."""
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
