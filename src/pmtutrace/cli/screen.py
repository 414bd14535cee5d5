"""Where `demo` writes events and the story between them: a terminal, a pipe, or JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any, Self

import click

from pmtutrace.cli import text
from pmtutrace.tracing.summary import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmtutrace.events import Event


class Screen:
    """Writes lines. As JSON, data goes to stdout and the story to stderr.

    On a terminal, a few lines at the bottom of the screen can be kept up to date.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.shown = 0
        self.spaces: set[int] = set()
        self.tally = Tally()
        self.as_json = as_json
        self._names: dict[int, str] = {}
        self._live: Any = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()

    @property
    def terminal(self) -> bool:
        """Return whether somebody is watching."""
        return not self.as_json and sys.stdout.isatty()

    def know(self, names: Mapping[int, str]) -> None:
        """Take names of network namespaces, by inode."""
        self._names.update(names)
        self.spaces.update(names)

    def say(self, words: str = "") -> None:
        """Tell a part of the story."""
        if self._live is not None:
            self._live.console.print(words, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(words, err=self.as_json)

    def header(self) -> None:
        """Write the header of the events, where they are a table."""
        if not self.as_json:
            self.say(text.HEADER)

    def show(self, event: Event, *, wanted: bool = True) -> None:
        """Count an event and write it; JSON has also those that are not wanted as text."""
        from pmtutrace import jsonl

        self.tally.take(event)
        if self.as_json:
            self.shown += 1
            self.data(jsonl.event(event, self._names))
        elif wanted:
            self.shown += 1
            self.say(text.line(event, self._names))

    def data(self, line: Mapping[str, Any]) -> None:
        """Write a line of data; nothing where it is not JSON."""
        if self.as_json:
            click.echo(json.dumps(line))
            sys.stdout.flush()

    def update(self, lines: str) -> None:
        """Show these lines, in rich's markup, below everything else, in place of those before."""
        if not self.terminal:
            return
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(highlight=False)
            self._live = Live(console=console, transient=True, auto_refresh=False)
            self._stack.enter_context(self._live)
        self._live.update(lines, refresh=True)

    def settle(self) -> None:
        """Take the lines at the bottom away. Can be called again."""
        self._stack.close()
        self._live = None
