"""Sessions as Parquet: a file of counters, and one for each type of event that there is.

Typed for ClickHouse, DuckDB and Spark alike: times are timestamps in UTC to the microsecond, since
Spark reads no finer ones.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from pmtutrace.errors import UsageError
from pmtutrace.export import flat
from pmtutrace.session import columns

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pmtutrace.export.flat import Cell
    from pmtutrace.session.selection import Names, Selection

ROWS = 1 << 14  # of a row group: what is held in memory of each file
COUNTERS = "counters"


class _File:
    """One Parquet file that grows by row groups."""

    def __init__(self, path: Path, listed: list[Cell]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {
            "integer": pa.int64(),
            "boolean": pa.bool_(),
            "real": pa.float64(),
            "octets": pa.binary(),
        }
        time = pa.timestamp("us", tz="UTC")
        self._times = [cell.name in flat.TIMES for cell in listed]
        self._texts = [cell.kind == "word" for cell in listed]
        self._schema = pa.schema(
            pa.field(
                cell.name,
                time if timed else kinds.get(cell.kind, pa.string()),
                nullable=cell.optional,
            )
            for cell, timed in zip(listed, self._times, strict=True)
        )
        self._rows: list[list[Any]] = []
        self._pa = pa
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        self._out = os.fdopen(descriptor, "wb")
        self._writer = pq.ParquetWriter(self._out, self._schema, compression="zstd")

    def add(self, row: list[Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        arrays = [
            self._pa.array(_fitting(column, timed=timed, text=text), type=field.type)
            for column, timed, text, field in zip(
                zip(*self._rows, strict=True), self._times, self._texts, self._schema, strict=True
            )
        ]
        self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()
        self._out.close()


def _fitting(column: tuple[Any, ...], *, timed: bool, text: bool) -> list[Any]:
    if timed:
        return [None if cell is None else cell // 1000 for cell in column]
    if text:
        # Names that are no UTF-8 have lone surrogates, which nothing else takes.
        return [
            None if cell is None else cell.encode(errors="backslashreplace").decode()
            for cell in column
        ]
    return list(column)


def write(
    folder: Path, selection: Selection, names: Names, manifest: Mapping[str, Any]
) -> list[Path]:
    """Write a folder of files; return them.

    Args:
        folder: made if it is not there; no file of it is overwritten.
        selection: what to write.
        names: of network namespaces.
        manifest: of the session.

    Raises:
        UsageError: pyarrow is not installed.
        OSError: a file cannot be written, or is there already.
    """
    try:
        import pyarrow.parquet  # noqa: F401 -- to say so before anything is written
    except ImportError as error:
        raise UsageError(
            "Parquet takes pyarrow, which is not installed",
            "pip install 'pmtutrace[parquet]', or --to csv",
        ) from error
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files: dict[str, _File] = {}
    with contextlib.ExitStack() as stack:

        def file(name: str, listed: list[Cell]) -> _File:
            if name not in files:
                files[name] = _File(folder / f"{name}.parquet", listed)
                stack.callback(files[name].close)
            return files[name]

        table = file(COUNTERS, flat.counter_columns())
        for row in flat.counters(selection, names, manifest):
            table.add(row)
        names.rewind()
        for event in selection.events(packets=True):
            cls = type(event)
            row = flat.event(event, names.at(event.ts), manifest)
            file(columns.snake(cls), flat.event_columns(cls)).add(row)
    return [folder / f"{name}.parquet" for name in files]
