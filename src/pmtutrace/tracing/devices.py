"""Names of network devices by namespace and index, for what the kernel side gives as a number."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from pmtutrace.errors import PmtutraceError, UsageError
from pmtutrace.kernel import netns
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Collection

TRUSTED_S = 2.0


class Devices:
    """Remembers names for a while; asks the kernel for those it has not met lately.

    Not for good, since namespaces and devices of the same numbers may follow those that have gone.
    """

    def __init__(self) -> None:
        self._names: dict[tuple[int, int], tuple[str, float]] = {}

    def learn(self, inum: int, ifindex: int, name: str) -> None:
        """Take a name that an event brought along."""
        self._names[inum, ifindex] = name, time.monotonic()

    def name(self, inum: int, ifindex: int) -> str:
        """Return a device's name, or what it last was if it or its namespace is gone."""
        name, since = self._names.get((inum, ifindex), ("", 0.0))
        if not since or time.monotonic() - since > TRUSTED_S:
            name = _ask(inum, ifindex) or name
            self.learn(inum, ifindex, name)
        return name


def _ask(inum: int, ifindex: int) -> str:
    for space in netns.all_namespaces():
        if space.inum == inum:
            try:
                found = netns.run_in(space.path, lambda: socket.if_indextoname(ifindex))
            except (OSError, PmtutraceError):
                return ""
            return printable(found)
    return ""


def require(name: str, spaces: Collection[int] | None) -> None:
    """Raise UsageError unless some namespace that is looked at has a device of this name."""
    seen: dict[str, None] = {}  # in order: the machine's own namespace is its oldest
    for space in netns.all_namespaces():
        if spaces is not None and space.inum not in spaces:
            continue
        try:
            seen |= dict.fromkeys(n for _, n in netns.run_in(space.path, socket.if_nameindex))
        except (OSError, PmtutraceError):
            continue  # it went away while we looked
    if name not in seen:
        known = ", ".join(list(seen)[:8])
        raise UsageError(f"there is no interface {name!r}", f"there are {known}" if known else "")
