"""What a session holds, as objects: its events, counters, losses, names and states."""

from __future__ import annotations

import contextlib
import heapq
import json
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pmtutrace.events import Counter, Drop
from pmtutrace.session import schema
from pmtutrace.session.decode import DamagedError, Decoder
from pmtutrace.session.file import END, FAILURES, File
from pmtutrace.session.writer import Delta

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pmtutrace.events import Event

COUNTS = frozenset({schema.DELTAS.name, schema.TABLE_OF[schema.Counted].name})
BLOCK = 4096
MOST_NAMES = 256  # of the manifest


class Span(NamedTuple):
    """Numbers of the first and the last of some events, or of some seconds."""

    first: int
    last: int


EVERYTHING = Span(1, END)


class Brought(NamedTuple):
    """A span of events, and the number of the last second that brought some of them."""

    events: Span
    second: int


class Reader:
    """A session that is read, whether or not it is still being written.

    ``manifest`` is what was known at the start, and, of a session that was closed, at its end.

    Args:
        path: of the file.

    Raises:
        SessionError: if it cannot be read, or is none, or was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.file = File(path)
        self._decoder = Decoder(self.file.sql, self.file.tables)
        try:
            self.manifest = self._manifest()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Can be called again."""
        self.file.close()

    @property
    def damaged(self) -> int:
        """How many rows made no sense, of those that were read."""
        return self.file.damaged

    def _manifest(self) -> dict[str, Any]:
        out = {}
        with self.file.telling():
            rows = self.file.sql.execute(
                "SELECT name, value FROM manifest LIMIT ?", (MOST_NAMES,)
            ).fetchall()
        for name, value in rows:
            try:
                out[str(name)] = json.loads(value)
            except (TypeError, ValueError, RecursionError):
                self.file.damaged += 1
        return out

    @property
    def ended(self) -> bool:
        """Whether the recorder has said that it was done; looks anew each time."""
        with self.file.telling():
            found = self.file.sql.execute("SELECT 1 FROM manifest WHERE name = 'ended'").fetchone()
        return found is not None

    def spans(self, since: int | None, until: int | None, after: int = 0) -> Iterator[Brought]:
        """Yield spans of events that may lie within a time, those next to each other as one.

        Args:
            since: nanoseconds since 1970, None for the start.
            until: likewise, None for the end.
            after: number of a second; only what later ones brought is wanted.
        """
        found: Brought | None = None
        names = ("first_event", "last_event", "oldest", "newest")
        for second, *row in self.file.integers(schema.SECONDS, *names, after=after):
            first, last, oldest, newest = row
            outside = (since is not None and newest < since) or (
                until is not None and oldest >= until
            )
            if not first or outside:
                continue
            if found is not None and first == found.events.last + 1:
                found = Brought(Span(found.events.first, last), second)
                continue
            if found is not None:
                yield found
            found = Brought(Span(first, last), second)
        if found is not None:
            yield found

    def events(
        self, span: Span, *, packets: bool = False, thin: int = 1
    ) -> Iterator[tuple[int, Event]]:
        """Yield the events of a span with their numbers, in the order in which they came.

        Args:
            span: which.
            packets: whether their first octets are wanted, too.
            thin: of drops, only every so manyth block of :data:`BLOCK` is wanted.
        """
        kinds = [cls for cls in schema.EVENTS if schema.TABLE_OF[cls].name in self.file.tables]
        packets = packets and schema.PACKETS.name in self.file.tables
        each = (
            self._objects(cls, span, packets=packets, thin=thin if cls is Drop else 1)
            for cls in kinds
        )
        yield from heapq.merge(*each, key=lambda pair: pair[0])

    def length(self, cls: type) -> int:
        """Return how many events of a type there are."""
        table = schema.TABLE_OF[cls].name
        if table not in self.file.tables:
            return 0
        with self.file.telling():
            row = self.file.sql.execute(f'SELECT count(*) FROM "{table}"').fetchone()
        return int(row[0])

    def states(self, cls: type) -> Iterator[Any]:
        """Yield all states of one class of :data:`.schema.STATES`, in the order of their coming."""
        if schema.TABLE_OF[cls].name in self.file.tables:
            for _, state in self._objects(cls):
                yield state

    def _objects(
        self, cls: type, span: Span = EVERYTHING, *, packets: bool = False, thin: int = 1
    ) -> Iterator[tuple[int, Any]]:
        plan = self._decoder.plan(cls)
        packets = packets and plan.packet is not None
        only = f"(id / {BLOCK}) % {thin} = 0" if thin > 1 else ""
        for cells in self.file.chunks(plan.select, span.first, span.last, only):
            try:
                packet = self._packet(cells[0]) if packets else b""
                found = plan.object(cells[1:], packet)
            except DamagedError:
                self.file.damaged += 1
            except FAILURES as error:
                raise self.file.error(error) from error
            else:
                yield cells[0], found

    def _packet(self, event: int) -> bytes:
        row = self.file.sql.execute(
            "SELECT octets FROM packets WHERE event = ?", (event,)
        ).fetchone()
        return row[0] if row and isinstance(row[0], bytes) else b""

    def _within(self, since: int | None, until: int | None) -> Iterator[tuple[int, int, int]]:
        """Yield number, beginning and end of the seconds that lie within a time at least partly."""
        for number, began, ended in self.file.integers(schema.SECONDS, "since", "ts"):
            began = began or ended
            if (since is None or ended > since) and (until is None or began < until):
                yield number, began, ended

    def seconds(self, since: int | None = None, until: int | None = None) -> Span | None:
        """Return the seconds that lie within a time at least partly; None where none does."""
        numbers = [number for number, _, _ in self._within(since, until)]
        return Span(numbers[0], numbers[-1]) if numbers else None

    def time(self) -> tuple[int, int]:
        """Return when recording began, and when it was last heard of, nanoseconds since 1970."""
        began, ended = self.manifest.get("began"), 0
        for _, since, ts in self.file.integers(schema.SECONDS, "since", "ts"):
            began = began if isinstance(began, int) else since or ts
            ended = ts
        return (began, max(began, ended)) if isinstance(began, int) else (0, 0)

    def deltas(
        self, since: int | None = None, until: int | None = None
    ) -> Iterator[tuple[int, int, Delta]]:
        """Yield by how much counters moved, with the beginning and the end of that second."""
        if not self.file.tables.keys() >= COUNTS:
            return
        for number, began, ended in self._within(since, until):
            with self.file.telling():
                rows = self.file.sql.execute(
                    "SELECT counted, packets, bytes, max_length, mtu, last FROM deltas "
                    "WHERE second = ?",
                    (number,),
                ).fetchall()
            for counted, *moved in rows:
                found = self._counted(counted, moved)
                if found is not None:
                    yield began, ended, Delta(found, *moved)

    def _counted(self, number: Any, cells: list[Any]) -> schema.Counted | None:  # noqa: ANN401
        """Return what a row of integers counts; None where it is damaged."""
        try:
            if not all(type(cell) is int for cell in (number, *cells)):
                raise DamagedError("no integers")
            found: schema.Counted = self._decoder.value(schema.Counted, number)
        except DamagedError:
            self.file.damaged += 1
            return None
        except FAILURES as error:
            raise self.file.error(error) from error
        return found

    def counters(self, seconds: Span) -> Iterator[tuple[schema.Counted, Counter]]:
        """Yield what was counted in some seconds, exact; something may come more than once.

        ``first`` and ``last`` of a counter are when it was last touched in its first and in its
        last second.
        """
        if not self.file.tables.keys() >= COUNTS:
            return
        with self.file.telling():
            rows = self._sums(seconds)
        for number, *sums in rows:
            counted = self._counted(number, sums)
            if counted is not None:
                yield counted, Counter(*sums)

    def _sums(self, seconds: Span) -> list[tuple[Any, ...]]:
        """Return number, packets, octets, greatest length, last MTU, first and last time."""
        if self._are_all(seconds):
            return self.file.sql.execute(
                "SELECT counted, packets, bytes, max_length, mtu, first, last FROM sums"
            ).fetchall()
        # One pass, and one max() for both: the last MTU is that of the greatest time, to a
        # millisecond. MTUs have at most 20 bits.
        rows = self.file.sql.execute(
            "SELECT counted, sum(packets), sum(bytes), max(max_length), "
            "max(((last / 1000000) << 20) | (mtu & 1048575)), min(last), max(last) FROM deltas "
            "WHERE second BETWEEN ? AND ? GROUP BY counted",
            seconds,
        ).fetchall()
        return [
            (*head, mtu & 0xFFFFF if type(mtu) is int else mtu, first, last)
            for *head, mtu, first, last in rows
        ]

    def _are_all(self, seconds: Span) -> bool:
        """Say if the sums that the session has, if any, are those of these seconds."""
        if not self.file.has(schema.SUMS):
            return False
        row = self.file.sql.execute(
            "SELECT (SELECT second FROM sums LIMIT 1), "
            "(SELECT second FROM deltas ORDER BY second LIMIT 1), "
            "(SELECT second FROM deltas ORDER BY second DESC LIMIT 1)"
        ).fetchone()
        if not all(type(cell) is int for cell in row):
            return False
        summed, first, last = row
        return bool(summed == last and seconds.first <= first and last <= seconds.last)

    def losses(self, seconds: Span) -> dict[str, int]:
        """Return what was lost in some seconds, by kind."""
        if schema.LOSSES.name not in self.file.tables:
            return {}
        out: dict[str, int] = {}
        with self.file.telling():
            rows = self.file.sql.execute(
                "SELECT kind, sum(number) FROM losses WHERE second BETWEEN ? AND ? GROUP BY kind",
                seconds,
            ).fetchall()
        for kind, number in rows:
            with self.file.telling(), contextlib.suppress(DamagedError, TypeError):
                word = self._decoder.word(int(kind))
                out[word] = out.get(word, 0) + int(number)
        return out
