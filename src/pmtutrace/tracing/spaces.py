"""The names that network namespaces have now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pmtutrace.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Mapping

HOLD_S = 1.0


class LiveNames:
    """Remembers names by inode; asks the kernel again for what it has not met for a second.

    Inodes are used again, and what has no name may get one; the names of the dead stay.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._met: set[int] = set()  # asked for, whether or not they have a name
        self._named = 0.0

    def of(self, inode: int) -> Mapping[int, str]:
        """Return names by inode that hold for what has just happened in one namespace."""
        if time.monotonic() - self._named > HOLD_S:
            self._met.clear()
            self._named = time.monotonic()
        if inode not in self._met:
            self._names.update(netns.names())
            self._met.update(self._names, (inode,))
        return self._names
