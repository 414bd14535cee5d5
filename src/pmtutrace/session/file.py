"""Opens the file of a session, finished or not, and distrusts it.

Only plain tables with our names are looked at, never views or triggers; no statement may take more
steps than a sound file of that size needs. A transaction lasts for one chunk of rows, so that a
recorder is never kept from tidying up.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import urllib.parse
from typing import TYPE_CHECKING, Any

from pmtutrace.errors import SessionError
from pmtutrace.session import schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = b"SQLite format 3\0"
LARGEST = 1 << 18  # of one cell, in octets; the layout in the manifest is the largest of ours
CHUNK = 1024
STEPS = 100_000  # SQLite's virtual machine takes so many between two calls of ours
STEPS_PER_OCTET = 4  # a row is 10 octets at least, and takes some 20 steps
STEPS_ANYWAY = 10_000_000
BUSY_S = 2.0
END = 2**63 - 1
DAMAGED_HINT = "what could be read was shown; `sqlite3 FILE .recover` may save more"
OTHER_HINT = "name a file that `pmtutrace record -w` has written"
# Python decodes the names in what SQLite says, whatever they are.
FAILURES = (sqlite3.Error, ValueError, OverflowError)
NEEDED = frozenset({"manifest", "words", "seconds"})


class File:
    """A database that claims to be a session. Nothing is ever written to it.

    Args:
        path: of the file.

    Raises:
        SessionError: if it cannot be read, or is none, or was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0  # rows that made no sense
        self._steps = 0
        self._most = STEPS_ANYWAY + _size_of(path) * STEPS_PER_OCTET
        self.sql = self._open()
        try:
            with self.telling():
                self._require_ours()
                self.tables = self._tables()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file. Can be called again."""
        self.sql.close()

    def _open(self) -> sqlite3.Connection:
        name = f"file:{urllib.parse.quote(os.fsencode(self.path.absolute()))}?mode=ro"
        try:
            return self._connect(name)
        except (sqlite3.DatabaseError, ValueError) as error:
            if not isinstance(error, sqlite3.OperationalError):
                raise self.error(error) from error
            with self.telling():
                sql = self._connect(f"{name}&immutable=1")
            if _has_more(self.path):
                sql.close()
                raise SessionError(
                    f"{self.path}-wal belongs to {self.path}, and cannot be joined where nothing "
                    "may be written",
                    "copy both of them into a folder of yours",
                ) from error
            return sql

    def _connect(self, name: str) -> sqlite3.Connection:
        sql = sqlite3.connect(name, uri=True, isolation_level=None, timeout=BUSY_S)
        try:
            sql.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
            sql.text_factory = lambda octets: octets.decode(errors="surrogateescape")
            sql.set_progress_handler(self._step, STEPS)
            sql.execute("PRAGMA trusted_schema = OFF")
            sql.execute("PRAGMA cell_size_check = ON")
            sql.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except BaseException:
            sql.close()
            raise
        return sql

    def _step(self) -> int:
        self._steps += STEPS
        return self._steps > self._most

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Turn what SQLite, or a row, has against it into an error of ours."""
        self._steps = 0
        try:
            yield
        except FAILURES as error:
            raise self.error(error) from error

    def error(self, why: object) -> SessionError:
        """Return the error that says that the file is damaged.

        Raises:
            KeyboardInterrupt: it is not, but a signal came while SQLite called us, and it has
                forgotten what we raised.
        """
        stopped = getattr(why, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
        if stopped and self._steps <= self._most:
            raise KeyboardInterrupt
        return SessionError(f"{self.path} is damaged: {why}", DAMAGED_HINT)

    def _require_ours(self) -> None:
        (ours,) = self.sql.execute("PRAGMA application_id").fetchone()
        (version,) = self.sql.execute("PRAGMA user_version").fetchone()
        if ours != schema.APPLICATION_ID:
            raise SessionError(f"{self.path} is a database of something else", OTHER_HINT)
        if version > schema.VERSION:
            raise SessionError(
                f"{self.path} was written by a newer pmtutrace: its schema is {version}, "
                f"and {schema.VERSION} is the last that this one knows",
                "read it with the version that wrote it, or a later one",
            )

    def _tables(self) -> dict[str, frozenset[str]]:
        """Return the columns of each table of ours that is there."""
        rows = self.sql.execute("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'")
        names = {name for name, root in rows if root}  # a virtual table has none
        found = {
            table.name: self._columns(table.name) for table in schema.TABLES if table.name in names
        }
        if missing := NEEDED - found.keys():
            raise self.error(f"there is no table {', '.join(sorted(missing))}")
        return found

    def _columns(self, table: str) -> frozenset[str]:
        rows = self.sql.execute("SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0", (table,))
        return frozenset(name for (name,) in rows)

    def has(self, *tables: schema.Table) -> bool:
        """Say if some tables are there, with all of their columns."""
        return all(
            self.tables.get(table.name, frozenset()) >= {name for name, _ in table.columns}
            for table in tables
        )

    def chunks(
        self, select: str, first: int = 1, last: int = END, only: str = ""
    ) -> Iterator[tuple[Any, ...]]:
        """Yield rows by rising number, a short transaction for each chunk of them.

        Args:
            select: a statement up to its WHERE; the number is its first column.
            first: the lowest number wanted.
            last: the highest.
            only: a condition.

        Raises:
            SessionError: the file is damaged.
        """
        at = first - 1
        where = " AND ".join(filter(None, ["id > ?", "id <= ?", only]))
        statement = f"{select} WHERE {where} ORDER BY id LIMIT {CHUNK}"
        while True:
            with self.telling():
                rows = self.sql.execute(statement, (at, last)).fetchall()
            for row in rows:
                if type(row[0]) is not int or row[0] <= at:
                    raise self.error("its rows are in disorder")
                at = row[0]
                yield row
            if len(rows) < CHUNK:
                return

    def integers(self, table: schema.Table, *names: str, after: int = 0) -> Iterator[list[int]]:
        """Yield rows of a numbered table, the number and some columns; 0 for what is empty."""
        there = self.tables.get(table.name)
        if there is None:
            return
        listed = ", ".join(["id", *(f'"{name}"' if name in there else "NULL" for name in names)])
        for row in self.chunks(f'SELECT {listed} FROM "{table.name}"', after + 1):
            if all(cell is None or type(cell) is int for cell in row):
                yield [cell or 0 for cell in row]
            else:
                self.damaged += 1


def _has_more(path: Path) -> bool:
    """Say if something was left beside a session that its recorder did not close."""
    with contextlib.suppress(OSError):
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    return False


def _size_of(path: Path) -> int:
    """Return the size of what may be a session; raise SessionError for what is surely none."""
    try:
        found = path.stat()
        # Not before: opening a FIFO would wait for a writer.
        if not stat.S_ISREG(found.st_mode):
            raise SessionError(f"{path} is no file", OTHER_HINT)
        with path.open("rb") as file:
            head = file.read(len(HEAD))
    except OSError as error:
        raise SessionError(f"{path} cannot be read: {error.strerror}", OTHER_HINT) from error
    except ValueError as error:
        raise SessionError(f"{str(path)!r} cannot be a file: {error}", OTHER_HINT) from error
    if head != HEAD:
        raise SessionError(f"{path} is no session", OTHER_HINT)
    return found.st_size
