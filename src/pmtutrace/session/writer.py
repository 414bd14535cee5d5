"""Writes a session: collects rows, and commits them all at once.

The file is in WAL mode while it is open, so that others read it meanwhile and a killed recorder
loses what was not yet committed, no more. Closing makes one plain file of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections import Counter as Multiset
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pmtutrace.errors import SessionError
from pmtutrace.session import columns, schema
from pmtutrace.session.encode import Encoder
from pmtutrace.session.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pmtutrace.events import Event

BUSY_S = 2.0  # how long a reader may keep us from closing
FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})
ENDINGS = ("", "-wal", "-shm")  # of the files that SQLite makes of one
NO_TIMES = 2**63 - 1, 0  # the oldest and the newest of no events
PRIMARY = 0xFF  # of an error code; the rest says more precisely what


class Delta(NamedTuple):
    """By how much one counter moved in a second; ``max_length``, ``mtu``, ``last`` are its own."""

    counted: schema.Counted
    packets: int
    bytes: int
    max_length: int
    mtu: int
    last: int


class Second(NamedTuple):
    """What is known at the end of a second of recording.

    ``since`` is when counters were read before, None where they were not read now; ``ts`` is now.
    Both are nanoseconds since 1970, ``offset`` leads there from CLOCK_BOOTTIME. ``losses`` have
    happened since the last commit. ``cpu_ns`` and ``rss`` (octets) are what the recorder itself has
    used and uses.
    """

    since: int | None
    ts: int
    offset: int
    deltas: Sequence[Delta] = ()
    losses: Mapping[str, int] = {}
    cpu_ns: int = 0
    rss: int = 0


class NoRoomError(Exception):
    """Says that a commit found no room on disk, or no working one; ``events`` were let go."""

    def __init__(self, why: str, events: int) -> None:
        super().__init__(why)
        self.events = events


class Writer:
    """A session that is being written.

    Args:
        path: of the file; it may not be there yet.
        manifest: what is known at the start, as JSON has it.

    Raises:
        SessionError: if it cannot be made.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.single = False  # whether closing has left one plain file
        self._encoder = Encoder()
        self._first_event = 1
        self._event = 0
        self._times = NO_TIMES
        self._sums = Sums()
        _create(path)
        try:
            self._sql = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
            self._set_up(manifest)
        except sqlite3.Error as error:
            with contextlib.suppress(OSError):
                path.unlink()
            raise SessionError(
                f"{path} cannot be written: {error}", "name a file where there is room"
            ) from error

    def _set_up(self, manifest: Mapping[str, Any]) -> None:
        self._sql.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        self._sql.execute(f"PRAGMA user_version = {schema.VERSION}")
        self._sql.execute("PRAGMA journal_mode = WAL")
        # fdatasync() at each commit: a power cut costs no more than kill -9 does.
        self._sql.execute("PRAGMA synchronous = FULL")
        self._sql.execute("BEGIN IMMEDIATE")
        for table in schema.TABLES:
            self._sql.execute(table.create)
        for statement in schema.views().values():
            self._sql.execute(statement)
        rows = [(name, json.dumps(value)) for name, value in manifest.items()]
        self._sql.executemany(schema.MANIFEST.insert, rows)
        self._sql.execute("COMMIT")

    @property
    def pending(self) -> int:
        """How many events the next commit would write."""
        return self._event - self._first_event + 1

    @property
    def states(self) -> bool:
        """Whether the next commit would write states."""
        return any(self._encoder.rows[schema.TABLE_OF[cls].name] for cls in schema.STATES)

    def add(self, event: Event) -> None:
        """Add an event to the next commit."""
        encoder = self._encoder
        cls: type = type(event)
        self._event = number = self._event + 1
        table = schema.TABLE_OF[cls].name
        encoder.rows[table].append((number, *encoder.row(event)))
        packet = columns.octets(cls)
        if packet is not None and (octets := getattr(event, packet.name)):
            encoder.rows[schema.PACKETS.name].append((number, octets))
        oldest, newest = self._times
        self._times = min(oldest, event.ts), max(newest, event.ts)

    def state(self, state: object) -> None:
        """Add how something was at some moment (:data:`.schema.STATES`) to the next commit."""
        self._encoder.add(schema.TABLE_OF[type(state)], *self._encoder.row(state))

    def commit(self, second: Second) -> None:
        """Write all that was added, and what is known of a second, or nothing at all.

        Raises:
            NoRoomError: no room, or the disk fails; the events are gone, and the session is as it
                was after the last commit.
        """
        encoder, pending = self._encoder, self.pending
        number = encoder.add(
            schema.SECONDS,
            second.since,
            second.ts,
            second.offset,
            *((self._first_event, self._event, *self._times) if pending else (None,) * 4),
            second.cpu_ns,
            second.rss,
        )
        encoder.rows[schema.DELTAS.name] = [
            (number, encoder.value(delta.counted), *delta[1:]) for delta in second.deltas
        ]
        verdicts: Multiset[str] = Multiset()
        for delta in second.deltas:
            verdicts[delta.counted.key.verdict] += delta.packets
        encoder.rows[schema.VERDICTS.name] = [
            (number, encoder.word(verdict), packets) for verdict, packets in verdicts.items()
        ]
        encoder.rows[schema.LOSSES.name] = [
            (number, encoder.word(kind), lost) for kind, lost in second.losses.items()
        ]
        try:
            self._write()
        except sqlite3.Error as error:
            if not self._is_there(number):
                raise self._let_go(error, pending) from error
        self._sums.add(encoder.rows[schema.DELTAS.name])
        self._begin_anew()

    def _write(self) -> None:
        self._sql.execute("BEGIN IMMEDIATE")
        for table in schema.TABLES:
            rows = self._encoder.rows[table.name]
            if rows:
                self._sql.executemany(table.insert, rows)
        self._sql.execute("COMMIT")

    def _begin_anew(self) -> None:
        for rows in self._encoder.rows.values():
            rows.clear()
        self._first_event = self._event + 1
        self._times = NO_TIMES

    def _is_there(self, number: int) -> bool:
        """Say whether a commit that reported an error took place all the same."""
        with contextlib.suppress(sqlite3.Error):
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            return bool(
                self._sql.execute("SELECT 1 FROM seconds WHERE id = ?", (number,)).fetchone()
            )
        return False

    def _let_go(self, error: sqlite3.Error, pending: int) -> Exception:
        """Go back to what the file holds; return what to raise."""
        # Numbers are never given out twice, so that those known elsewhere stay what they were.
        self._encoder = Encoder(self._encoder.last)
        self._begin_anew()
        if error.sqlite_errorcode & PRIMARY in FULL:
            return NoRoomError(str(error), pending)
        return SessionError(
            f"{self.path} cannot be written: {error}", "is somebody else writing to it?"
        )

    def size(self) -> int:
        """Return the octets that the session takes on disk."""
        return size(self.path)

    def close(self, **manifest: object) -> None:
        """Add to the manifest, and make one plain file of the session; can be called again.

        Where that cannot be, the session is as readable as one whose recorder was killed.
        """
        rows = [(name, json.dumps(value)) for name, value in manifest.items()]
        with contextlib.closing(self._sql):
            # Once before, too: it may make room for the rest.
            self._checkpoint()
            with contextlib.suppress(sqlite3.Error):
                self._sql.executemany(schema.MANIFEST.insert, rows)
            self._checkpoint()
            self._sum_up()
            self._checkpoint()
            with contextlib.suppress(sqlite3.Error):
                mode = self._sql.execute("PRAGMA journal_mode = DELETE").fetchone()
                self.single = mode == ("delete",)

    def _sum_up(self) -> None:
        """Write all sums, where there is room, or none."""
        try:
            self._sql.execute("BEGIN IMMEDIATE")
            self._sql.executemany(schema.SUMS.insert, self._sums.rows())
            self._sql.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                self._sql.execute("ROLLBACK")

    def _checkpoint(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _create(path: Path) -> None:
    """Make an empty file that only we may read, and that was not there before."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    except FileExistsError as error:
        raise SessionError(
            f"{path} is there already", "name another file, or remove that one"
        ) from error
    except OSError as error:
        raise SessionError(
            f"{path} cannot be made: {error.strerror}",
            "name a file in a folder that can be written",
        ) from error


def size(path: Path) -> int:
    """Return the octets that a session takes on disk, with what belongs to it while it is open."""
    total = 0
    for end in ENDINGS:
        with contextlib.suppress(OSError):
            total += Path(f"{path}{end}").lstat().st_size
    return total
