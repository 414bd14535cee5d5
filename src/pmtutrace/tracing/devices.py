"""Names of network devices by namespace and index, for what the kernel side gives as a number."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from pmtutrace.errors import PmtutraceError, UsageError
from pmtutrace.kernel import netns
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Collection


class Devices:
    """Remembers names; asks the kernel for those it has not met."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, int], str] = {}

    def learn(self, inum: int, ifindex: int, name: str) -> None:
        """Take a name that an event brought along."""
        self._names[inum, ifindex] = name

    def name(self, inum: int, ifindex: int) -> str:
        """Return a device's name, or an empty string if it or its namespace is gone."""
        if (inum, ifindex) not in self._names:
            self._names[inum, ifindex] = _ask(inum, ifindex)
        return self._names[inum, ifindex]


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
    seen: set[str] = set()
    for space in netns.all_namespaces():
        if spaces is not None and space.inum not in spaces:
            continue
        try:
            seen.update(n for _, n in netns.run_in(space.path, socket.if_nameindex))
        except (OSError, PmtutraceError):
            continue  # it went away while we looked
    if name not in seen:
        known = ", ".join(sorted(seen)[:8])
        raise UsageError(f"there is no interface {name!r}", f"there are {known}" if known else "")
