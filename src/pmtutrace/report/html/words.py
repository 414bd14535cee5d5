"""Names as a page may hold them, and each of them once."""

from __future__ import annotations

import json
from typing import Any

from pmtutrace.printable import printable

LONGEST = 200  # of a name, in characters; those of a kernel have 255 at most, and most have 15
# A script element ends at "</script", whatever is around it; "<!--" changes how it is read.
UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}


def shown(text: object, most: int = LONGEST) -> str:
    """Return a name without what is invisible or turns text around, and no longer than that."""
    said = str(text)
    cut = printable(said[:most])
    return cut if len(said) <= most else f"{cut}… ({len(said)} characters)"


def island(value: Any) -> str:  # noqa: ANN401 -- anything that JSON has
    """Return JSON that can stand within a script element, in ASCII."""
    return json.dumps(value, separators=(",", ":")).translate(UNSAFE)


class Words:
    """Numbers texts, each once."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, text: object) -> int:
        """Return the number of a text."""
        return self._known.setdefault(shown(text), len(self._known))

    @property
    def all(self) -> list[str]:
        """Return the texts in order of their numbers."""
        return list(self._known)
