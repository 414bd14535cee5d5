"""What is kept of a guest's serial console: its end, and what it died of."""

from __future__ import annotations

import re
from collections import deque

KEPT = 40  # lines: of the end, before the cause of death, and from the cause on

_CAUSE = re.compile(r"Kernel panic - not syncing: (.*)|\b(BUG: .*)|^guest: (.*)")
_STAMP = re.compile(r"^\[ *\d+\.\d+\] ")


class Console:
    """Lines of a console, without their line breaks.

    A trace may be longer than what is kept of the end, and its top tells the most: the lines
    around the first that gives a cause are kept, too.

    Attributes:
        cause: why the guest dies, in the kernel's words; empty if no line has said so.
    """

    def __init__(self) -> None:
        self.cause = ""
        self._count = 0
        self._last: deque[tuple[int, str]] = deque(maxlen=KEPT)  # by number
        self._death: list[tuple[int, str]] = []
        self._death_ends = 0  # at the line of this number

    def add(self, line: str) -> None:
        """Take the next line."""
        self._count += 1
        if not self.cause and (cause := _cause_in(line)):
            self.cause = cause
            self._death = list(self._last)
            self._death_ends = self._count + KEPT
        if self._count < self._death_ends:
            self._death.append((self._count, line))
        self._last.append((self._count, line))

    def lines(self) -> list[str]:
        """Return what was kept, in the console's order, and a line for what is left out of it."""
        lines = []
        before = 0
        for number, line in {**dict(self._death), **dict(self._last)}.items():
            if before and number > before + 1:
                lines.append(f"... {number - before - 1} lines ...")
            lines.append(line)
            before = number
        return lines


def _cause_in(line: str) -> str:
    """Return why a guest died, if a line of its console says so."""
    found = _CAUSE.search(_STAMP.sub("", line))
    return next((text for text in found.groups() if text), "") if found else ""
