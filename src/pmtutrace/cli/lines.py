"""Events as lines, text or JSON, as they come or out of a session, and the summary at the end."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from pmtutrace.cli import text
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pmtutrace.events import Event
    from pmtutrace.tracing.filters import Filter
    from pmtutrace.tracing.summary import Tally


class Lines:
    """Writes events and the summary.

    Args:
        wanted: which events to write.
        as_json: whether as JSON.
        most: end after so many; None for all.
        names: gives the names of namespaces that hold for an event.
        live: whether somebody waits for each line.
    """

    def __init__(
        self,
        wanted: Filter,
        *,
        as_json: bool,
        most: int | None,
        names: Callable[[Event], Mapping[int, str]],
        live: bool,
    ) -> None:
        self.shown = 0
        self.tally: Tally | None = None  # while nobody follows path MTUs
        self._wanted = wanted
        self._as_json = as_json
        self._most = most
        self._names = names
        self._live = live

    def begin(self) -> None:
        """Write the header of the table."""
        if not self._as_json:
            click.echo(text.HEADER)
            sys.stdout.flush()

    def take(self, event: Event) -> bool:
        """Write an event if it is wanted; False once enough were written, and no more are."""
        self.learn(event)
        if not self._enough() and self._wanted.matches(event):
            self.shown += 1
            self._write(event)
        return not self._enough()

    def learn(self, event: Event) -> None:
        """Take in an event, whether or not it is shown."""
        self._wanted.learn(event)
        if self.tally is not None and self._wanted.matches(event):
            self.tally.take(event)

    def _enough(self) -> bool:
        return self._most is not None and self.shown >= self._most

    def _write(self, event: Event) -> None:
        from pmtutrace import jsonl

        names = self._names(event)
        if self._as_json:
            line = json.dumps(jsonl.event(event, names))
        else:
            line = printable(text.line(event, names))
        sys.stdout.write(f"{line}\n")
        if self._live:
            sys.stdout.flush()

    def end(self, totals: dict[str, Any]) -> None:
        """Write the summary: JSON belongs to the data, sentences do not."""
        if self._as_json:
            click.echo(json.dumps(totals))
            sys.stdout.flush()
            return
        sys.stdout.flush()
        for line in text.summary(totals):
            click.echo(line, err=True)
