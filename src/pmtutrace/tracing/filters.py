"""Which events and counters somebody wants to see: the same answer for both.

A filter looks only at what a counter's key holds, so that the summary, which is taken from the
counters, says exactly how many drops the lines are a sample of.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pmtutrace.events import (
    CounterKey,
    Drop,
    Fragmented,
    IcmpLost,
    IcmpReceived,
    PathMtuChange,
    TunnelChange,
)
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from pmtutrace.events import Device, Event, Flow, TunnelRef
    from pmtutrace.tracing.networks import Network

# Where a drop happened: namespace inode, ifindex, outer endpoints as text, who made them.
Place = tuple[int, int, str, "Device | None"]


def place(key: CounterKey | Drop | Fragmented) -> Place:
    """Return where a drop happened, as far as that decides which tunnel it is in."""
    outer = f"{key.outer.saddr} {key.outer.daddr}" if key.outer else ""
    return key.netns, key.ifindex, outer, key.maker


@dataclass(slots=True)
class Filter:
    """What to show. None and empty mean everything; ``netns`` are inodes, names are escaped.

    ``devices`` and ``tunnels`` say which device and which tunnel a place is; they are learned from
    events, and every key has had an event before it is asked for.
    """

    netns: Collection[int] | None = None
    interface: str | None = None
    family: int | None = None
    sites: frozenset[str] = frozenset()
    verdicts: frozenset[str] = frozenset()
    hosts: tuple[Network, ...] = ()
    tunnel: str | None = None
    devices: dict[tuple[int, int], str] = field(default_factory=dict)
    tunnels: dict[Place, str] = field(default_factory=dict)

    def learn(self, event: Event) -> None:
        """Take in what an event says about its place."""
        if isinstance(event, Drop | Fragmented):
            self.devices[event.netns, event.ifindex] = event.dev
            if event.tunnel is not None:
                self.tunnels[place(event)] = event.tunnel.name

    def know(self, key: CounterKey, dev: str, tunnel: TunnelRef | None) -> None:
        """Take in what somebody else knows of a key's place."""
        self.devices[key.netns, key.ifindex] = dev
        if tunnel is not None:
            self.tunnels[place(key)] = tunnel.name

    def ask(self, keys: Iterable[CounterKey], name: Callable[[int, int], str]) -> None:
        """Learn the devices of keys that had no event, because the ring was full.

        Args:
            keys: of counters.
            name: gives the name of a device by namespace inode and ifindex.
        """
        for key in keys:
            where = key.netns, key.ifindex
            if where not in self.devices:
                self.devices[where] = name(*where)

    def matches(self, event: Event) -> bool:
        """Say whether to show an event."""
        if self.netns is not None and event.netns not in self.netns:
            return False
        match event:
            case Drop():
                return (
                    self._device(event.dev)
                    and self._tunnel(event.tunnel)
                    and self._rest(event.family, event.site, event.verdict, event.flow)
                )
            case IcmpLost():
                only_drops = self.interface or self.tunnel or self.verdicts - {"lost"}
                return not only_drops and self._rest(event.family, event.site, "lost", event.flow)
            case Fragmented():
                named = self._device(event.dev) and self._tunnel(event.tunnel)
                return named and self._rest(event.family, "", "", event.flow)
            case IcmpReceived():
                named = self._device(event.dev) and self._tunnel(event.tunnel)
                return named and self._rest(event.family, "", "", event.flow)
            case TunnelChange():
                name = printable(event.name)
                named = self.tunnel in (None, name) and self._device(name)
                return named and not (self.sites or self.verdicts)
            case PathMtuChange():
                return not (self.sites or self.verdicts) and self._path(event)

    def counts(self, key: CounterKey) -> bool:
        """Say whether a counter belongs to what is shown."""
        if self.netns is not None and key.netns not in self.netns:
            return False
        device = self.devices.get((key.netns, key.ifindex))
        if self.interface is not None and device != self.interface:
            return False
        if self.tunnel is not None and self.tunnels.get(place(key)) != self.tunnel:
            return False
        # What left as fragments was dropped nowhere.
        site = "" if key.verdict == "none" else key.site
        return self._rest(key.family, site, key.verdict, key.flow)

    def _device(self, name: str) -> bool:
        return self.interface in (None, name)

    def _tunnel(self, tunnel: TunnelRef | None) -> bool:
        return self.tunnel is None or (tunnel is not None and tunnel.name == self.tunnel)

    def _path(self, event: PathMtuChange) -> bool:
        return (
            self._device(event.dev)
            and self.family in (None, event.family)
            and self.tunnel in (None, *(printable(one.name) for one in event.tunnels))
            and (not self.hosts or self._among_hosts(event.daddr))
        )

    def _rest(self, family: int, site: str, verdict: str, flow: Flow) -> bool:
        return (
            self.family in (None, family)
            and (not self.sites or site in self.sites)
            and (not self.verdicts or verdict in self.verdicts)
            and (not self.hosts or self._host(flow))
        )

    def _host(self, flow: Flow) -> bool:
        return bool(flow.saddr) and self._among_hosts(flow.saddr, flow.daddr)

    def _among_hosts(self, *ends: str) -> bool:
        return any(ipaddress.ip_address(end) in net for net in self.hosts for end in ends)
