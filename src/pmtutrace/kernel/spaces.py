"""One thing of ours in each network namespace, as namespaces come and go.

Those that get or lose their name are seen in the mount table (proc(5): poll on
``/proc/self/mountinfo``), those without one by looking at ``/proc`` now and then. What is held is
mostly a socket, which keeps its namespace alive: it goes as soon as nothing else holds that.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from pmtutrace.errors import PmtutraceError
from pmtutrace.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

SCAN_EVERY_S = 2.0
SCAN_SHARE = 0.01  # of one core, on hosts with very many processes


class Closable(Protocol):
    """What can be let go of."""

    def close(self) -> None:
        """Let go of it."""


T = TypeVar("T", bound=Closable)


class Spaces(Generic[T]):
    """Holds what ``make`` returns for each namespace, by inode.

    Args:
        make: called inside the namespace, with its inode.
        only: inodes of the namespaces that are wanted; None for all.
    """

    def __init__(self, make: Callable[[int], T], only: Collection[int] | None = None) -> None:
        self.held: dict[int, T] = {}
        self.mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self.scan_at = 0.0
        self._make = make
        self._only = only
        self._known: frozenset[int] = frozenset()

    @property
    def missing(self) -> int:
        """Return how many namespaces have nothing, though they should."""
        return len(self._known - self.held.keys())

    def close(self) -> None:
        """Let go of all."""
        for thing in self.held.values():
            thing.close()
        self.held.clear()
        os.close(self.mounts)

    def scan(self) -> bool:
        """Make what is missing, let go of what belongs to the gone; say if any came or went.

        A namespace that may not be entered, or for which nothing can be made, has nothing.
        """
        worked = time.thread_time()
        spaces = {
            space.inum: space.path
            for space in netns.all_namespaces()
            if self._only is None or space.inum in self._only
        }
        for inum in self.held.keys() - spaces.keys():
            self.held.pop(inum).close()
        for inum in spaces.keys() - self.held.keys():
            # Gone again, not ours to enter, or no descriptor left: next time, perhaps.
            with contextlib.suppress(OSError, PmtutraceError), netns.entered(spaces[inum]) as found:
                self._hold(found)
        pause = (time.thread_time() - worked) / SCAN_SHARE
        self.scan_at = time.monotonic() + max(SCAN_EVERY_S, pause)
        known, self._known = self._known, frozenset(spaces)
        return known != self._known

    def _hold(self, inum: int) -> None:
        made = self._make(inum)
        if old := self.held.pop(inum, None):  # the path led elsewhere than it did a moment ago
            old.close()
        self.held[inum] = made
