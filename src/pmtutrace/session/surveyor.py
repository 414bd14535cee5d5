"""Looks at ways, sysctls and rules of namespaces while a recorder goes on."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

from pmtutrace.diagnosis import survey
from pmtutrace.events import PathMtuChange, TunnelChange
from pmtutrace.session.schema import Around

if TYPE_CHECKING:
    from collections.abc import Collection

    from pmtutrace.events import Event
    from pmtutrace.tunnels.inventory import Inventory

APART_S = 10.0
DESTINATIONS = 1024  # whose ways are asked for
WORSE = frozenset({"created", "lowered", "locked"})


class Surveyor:
    """Surveys at the start, and again when tunnels or path MTUs have changed.

    A survey enters every namespace and asks nft there, which takes its time: it is made by a thread
    of its own, not more often than every :data:`APART_S`.

    Args:
        inventory: of tunnels.
        only: inodes of the namespaces that are wanted; None for all.
    """

    def __init__(self, inventory: Inventory, only: Collection[int] | None) -> None:
        self._inventory = inventory
        self._only = only
        self._destinations: dict[tuple[int, str], None] = {}
        self._found: list[Around] = []
        self._thread: threading.Thread | None = None
        self._wanted = True
        self._due = 0.0

    def take(self, event: Event) -> None:
        """Take an event that may be a reason to look again."""
        if isinstance(event, PathMtuChange) and event.change in WORSE:
            self._wanted = True
            self._destinations.pop((event.netns, event.daddr), None)
            self._destinations[event.netns, event.daddr] = None
            if len(self._destinations) > DESTINATIONS:
                del self._destinations[next(iter(self._destinations))]
        elif isinstance(event, TunnelChange):
            self._wanted = True

    def again(self) -> None:
        """Have a new file begin with a survey."""
        self._wanted = True

    def found(self) -> list[Around]:
        """Return what was found since last asked; begin to look where that is due."""
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
        out: list[Around] = []
        if self._thread is None:
            out, self._found = self._found, []
            if self._wanted and time.monotonic() >= self._due and self._inventory.wait(0):
                self._wanted = False
                self._due = time.monotonic() + APART_S
                self._thread = threading.Thread(target=self._look, name="survey", daemon=True)
                self._thread.start()
        return out

    def last(self) -> list[Around]:
        """Return what was found and not yet returned, once nobody looks any more.

        Where there is still reason to look, that is done now.
        """
        if self._thread is not None:
            self._thread.join()
        if self._wanted and self._inventory.wait(0):
            self._look()
        out, self._found = self._found, []
        return out

    def _look(self) -> None:
        tunnels, asked = self._inventory.tunnels(), list(self._destinations)
        now = time.time_ns()
        around = survey(tunnels, self._only, asked)
        self._found = [
            Around(now, netns, json.dumps(one.json(), separators=(",", ":")))
            for netns, one in around.items()
        ]
