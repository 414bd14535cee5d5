"""The tunnels known at one moment, and how one moment differs from the next."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pmtutrace.events import InnerMtu, TunnelChange
from pmtutrace.tunnels.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Iterable

GONE_KEPT = 1024  # a late event is milliseconds late; this only bounds a host that churns tunnels

Key = tuple[int, int]


class Table:
    """An unchanging set of tunnels, by device and by outer header."""

    def __init__(self, live: Iterable[Tunnel] = (), gone: Iterable[Tunnel] = ()) -> None:
        self.live: dict[Key, Tunnel] = {(item.netns, item.ifindex): item for item in live}
        # In the order of their going, so that a device number used again means its last owner.
        self.gone: dict[Key, Tunnel] = {(item.netns, item.ifindex): item for item in gone}
        self._by_netns: dict[int, list[Tunnel]] = {}
        for item in [*self.live.values(), *reversed(self.gone.values())]:
            self._by_netns.setdefault(item.netns, []).append(item)

    def by_device(self, netns: int, ifindex: int) -> Tunnel | None:
        """Return the tunnel that is, or last was, this device."""
        return self.live.get((netns, ifindex)) or self.gone.get((netns, ifindex))

    def by_outer(
        self,
        netns: int,
        saddr: str,
        daddr: str,
        proto: int,
        key: int | None = None,
        dport: int | None = None,
    ) -> Tunnel | None:
        """Return the tunnel whose packet this is, outgoing or else incoming; the best fit wins."""
        candidates = self._by_netns.get(netns, ())
        for ends in ((saddr, daddr), (daddr, saddr)):
            best, best_fit = None, -1
            for item in candidates:
                fit = item.fit(*ends, proto, key, dport)
                # A tunnel that went is asked only after all that are there.
                if fit is not None and 2 * fit + (not item.gone) > best_fit:
                    best, best_fit = item, 2 * fit + (not item.gone)
            if best:
                return best
        return None

    def inside(
        self, netns: int, address: str, ifindex: int, mtu: int | None
    ) -> tuple[InnerMtu, ...]:
        """Return the tunnels to a far end, and the MTU that one outside leaves inside.

        Args:
            netns: inode of the namespace of the tunnels' devices.
            address: of the far end, as text.
            ifindex: the device that the way to it leaves by.
            mtu: that of the path to it; None leaves all open.
        """
        return tuple(
            InnerMtu(
                item.name,
                item.type,
                None if mtu is None or item.overhead is None else mtu - item.overhead,
            )
            for item in self._by_netns.get(netns, ())
            if item.remote == address and not item.gone and item.link in (None, ifindex)
        )

    def after(self, tunnels: Iterable[Tunnel], ts: int) -> tuple[Table, list[TunnelChange]]:
        """Return the table that a new dump makes of this one, and what changed.

        Args:
            tunnels: all that there are now.
            ts: when they were read, nanoseconds since 1970.
        """
        new = Table(tunnels)
        changes = []
        gone = {key: item for key, item in self.gone.items() if key not in new.live}
        for key, item in self.live.items():
            successor = new.live.get(key)
            if successor is None or successor.type != item.type:
                changes.append(_change(ts, "gone", item))
                if successor is None:
                    gone.pop(key, None)
                    gone[key] = dataclasses.replace(item, gone=True)
        for key, item in new.live.items():
            before = self.live.get(key)
            if before is None or before.type != item.type:
                changes.append(_change(ts, "appeared", item))
            elif before != item:
                changes.append(_change(ts, "changed", item))
        kept = list(gone.values())[-GONE_KEPT:]
        return Table(new.live.values(), kept), changes


def _change(ts: int, what: str, item: Tunnel) -> TunnelChange:
    return TunnelChange(ts, item.netns, what, item.name, item.type, item.mtu)
