"""What all deltas of a session add up to, so that who reads all of it need not add.

Kept by the writer, which hears of each delta anyway, and written when a session is closed. One
whose recorder was killed has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST = 262_144  # counters that sums are kept of: 64 MB


class Sums:
    """Sums of deltas by the number of what they count; none once there are too many."""

    def __init__(self) -> None:
        self._found: dict[int, list[int]] | None = {}
        self._second = 0

    def add(self, deltas: Iterable[tuple[int, ...]]) -> None:
        """Take rows of the table ``deltas`` that were written, in their order."""
        found = self._found
        if found is None:
            return
        for second, counted, packets, octets, longest, mtu, last in deltas:
            self._second = second
            row = found.get(counted)
            if row is None:
                found[counted] = [packets, octets, longest, mtu, last, last]
                continue
            row[0] += packets
            row[1] += octets
            row[2] = max(row[2], longest)
            if last >= row[5]:
                row[3], row[5] = mtu, last
            row[4] = min(row[4], last)
        if len(found) > MOST:
            self._found = None

    def rows(self) -> Iterator[tuple[int, ...]]:
        """Yield rows of the table ``sums``; ``second`` is the last one that had deltas."""
        for counted, row in (self._found or {}).items():
            yield counted, self._second, *row
