"""From the octets of an event to a typed event with names: devices, functions, reasons, tunnels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmtutrace.events import Device, Drop, Fragmented, IcmpLost, TunnelRef
from pmtutrace.kernel import sites
from pmtutrace.printable import printable
from pmtutrace.tracing import clock, decode
from pmtutrace.tracing.devices import Devices

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmtutrace.events import CounterKey, InnerMtu
    from pmtutrace.kernel.image import Image
    from pmtutrace.tracing.quoted import Quoted
    from pmtutrace.tunnels.inventory import Inventory
    from pmtutrace.tunnels.tunnel import Tunnel

FLAG_DF, FLAG_COUNTED_TOLD = 1, 2
HOOKS = {1: "OUTPUT", 2: "POSTROUTING"}
UDP, ESP, PORT_ESP = 17, 50, 4500
NO_TUNNEL = (0, 1, 6, 33, 58, 132, 136)  # ICMP and transports that no tunnel is made of
FIRST_DUMP_S = 2.0


class Namer:
    """Decodes events of one image.

    Args:
        image: what wrote them.
        locate: gives ``function+0xoffset`` for a kernel address.
    """

    def __init__(self, image: Image, locate: Callable[[int], str]) -> None:
        self.decoder = decode.Decoder(image.layout, sites.NAMES)
        self.devices = Devices()
        self.ticks = clock.Ticks()
        self.inventory: Inventory | None = None
        layout = image.layout
        self._reasons = image.reasons
        self._locate = locate
        self._locations: dict[int, str] = {}
        self._event = layout.codec("event")
        self._names = layout.names("event")
        types = layout.enums["event_type"]
        self._lost, self._split = types["EVENT_ICMP_LOST"], types["EVENT_FRAGMENTED"]
        start = next(m.offset for m in layout.structs["event"].members if m.name == "key")
        self._key = slice(start, start + layout.structs["flow_key"].size)

    def event(self, octets: bytes, offset: int) -> Drop | IcmpLost | Fragmented:
        """Return a typed event; ``offset`` leads from CLOCK_BOOTTIME to the Unix epoch."""
        f = dict(zip(self._names, self._event.unpack(octets), strict=True))
        if f["type"] == self._lost:
            return self._icmp_lost(f, octets[self._key], offset)
        if f["type"] == self._split:
            return self._fragmented(f, octets[self._key], offset)
        return self._drop(f, octets[self._key], offset)

    def _drop(self, f: dict[str, Any], key_octets: bytes, offset: int) -> Drop:
        key, tunnel_id, outer_port = self.decoder.key(key_octets)
        dev = decode.name(f["dev"])
        self.ticks.learn(f["jiffies"], f["ts_ns"])
        if dev:
            self.devices.learn(key.netns, key.ifindex, dev)
        elif key.ifindex:
            dev = self.devices.name(key.netns, key.ifindex)
        indev = decode.name(f["indev"]) or self.devices.name(key.netns, f["in_ifindex"])
        return Drop(
            ts=f["ts_ns"] + offset,
            netns=key.netns,
            cpu=f["cpu"],
            site=key.site,
            location=self._location(f["location"]) or key.site,
            # What was turned into its own message was freed nowhere.
            reason=self._reasons.get(f["reason"]) if f["location"] else None,
            verdict=key.verdict,
            cause=self._cause(key, f),
            length=f["length"] or None,
            mtu=f["mtu"],
            gso=f["gso"],
            df=bool(f["flags"] & FLAG_DF),
            family=key.family,
            dev=dev,
            ifindex=key.ifindex,
            indev=indev if f["in_ifindex"] else "",
            tunnel=self._tunnel(key, f, tunnel_id, outer_port),
            flow=key.flow,
            outer=key.outer,
            count=f["count"],
            packet=f["packet"][: f["caplen"]],
            maker=key.maker,
            mark=f["mark"],
            spi=tunnel_id if _is_esp(key) and tunnel_id else None,
        )

    def _fragmented(self, f: dict[str, Any], key_octets: bytes, offset: int) -> Fragmented:
        key, tunnel_id, outer_port = self.decoder.key(key_octets)
        dev = decode.name(f["dev"])
        self.ticks.learn(f["jiffies"], f["ts_ns"])
        self.devices.learn(key.netns, key.ifindex, dev)
        return Fragmented(
            ts=f["ts_ns"] + offset,
            netns=key.netns,
            cpu=f["cpu"],
            length=f["length"],
            mtu=f["mtu"],
            family=key.family,
            dev=dev,
            ifindex=key.ifindex,
            tunnel=self._tunnel(key, f, tunnel_id, outer_port),
            flow=key.flow,
            outer=key.outer,
            count=f["count"],
            packet=f["packet"][: f["caplen"]],
            maker=key.maker,
        )

    def _icmp_lost(self, f: dict[str, Any], key_octets: bytes, offset: int) -> IcmpLost:
        from pmtutrace.tracing.icmp import read_message

        message = read_message(f["packet"][: f["caplen"]])
        location = self._location(f["location"])
        reason = self._reasons.get(f["reason"])
        behind = f["flags"] & FLAG_COUNTED_TOLD
        return IcmpLost(
            ts=f["ts_ns"] + offset,
            netns=f["key.netns"],
            cpu=f["cpu"],
            site=function(location),
            location=location,
            reason=reason,
            family=message.family,
            to=message.to,
            mtu=message.mtu,
            flow=message.quoted,
            hook=_hook(reason, function(location), f["news_hook"]),
            drop=self.decoder.key(key_octets)[0] if behind else None,
        )

    def _location(self, address: int) -> str:
        if address not in self._locations:
            self._locations[address] = self._locate(address)
        return self._locations[address]

    def _cause(self, key: CounterKey, f: dict[str, Any]) -> str | None:
        """Return the cause; of a lost message, reason, site and hook of its own death."""
        if not f["news_location"]:
            return key.cause
        site = function(self._location(f["news_location"]))
        reason = self._reasons.get(f["news_reason"])
        hook = _hook(reason, site, f["news_hook"])
        return " ".join(word for word in (reason, site, hook) if word)

    def _tunnel(
        self, key: CounterKey, f: dict[str, Any], tunnel_id: int, port: int
    ) -> TunnelRef | None:
        """Name the tunnel: the device itself, else who made the outer header, else by endpoints."""
        from pmtutrace.tunnels import kinds

        kind, maker_kind = decode.name(f["kind"]), decode.name(f["maker_kind"])
        if kind in kinds.KINDS:
            return self._known(Device(key.netns, key.ifindex), decode.name(f["dev"]), kind)
        if key.maker and maker_kind in kinds.KINDS:
            return self._known(key.maker, decode.name(f["maker"]), maker_kind)
        if self.inventory is None:
            return None
        self.inventory.wait(FIRST_DUMP_S)
        if _is_esp(key):
            # Encrypted: what it was refused for is all there is to name it by.
            flow = key.flow
            found = self.inventory.by_outer(key.netns, flow.saddr, flow.daddr, flow.proto)
        elif key.outer is None:
            # A socket that is bound to a device, but whose route nothing shows.
            unseen = decode.name(f["dev"]) and not kind
            found = self.inventory.by_device(key.netns, key.ifindex) if unseen else None
        else:
            found = self.inventory.by_outer(
                key.netns,
                key.outer.saddr,
                key.outer.daddr,
                key.outer.proto,
                tunnel_id or None,
                port or None,
            )
        return _reference(found, printable(found.name)) if found else None

    def tunnel_of(self, netns: int, about: Quoted) -> TunnelRef | None:
        """Return the tunnel whose packet a message quotes, by its endpoints."""
        return quoted_tunnel(self.inventory, netns, about) if self.inventory else None

    def inside(
        self, netns: int, address: str, ifindex: int, mtu: int | None
    ) -> tuple[InnerMtu, ...]:
        """Return the tunnels to a far end and their inner MTU; see :meth:`.Table.inside`."""
        return self.inventory.inside(netns, address, ifindex, mtu) if self.inventory else ()

    def _known(self, device: Device, name: str, kind: str) -> TunnelRef:
        """Return a tunnel that the kernel has named, with what the inventory knows of it."""
        found = None
        if self.inventory is not None and self.inventory.wait(FIRST_DUMP_S):
            found = self.inventory.by_device(*device)
        if found is None or found.type != kind:
            return TunnelRef(name, kind)
        return _reference(found, name)


def _reference(tunnel: Tunnel, name: str) -> TunnelRef:
    return TunnelRef(name, tunnel.type, tunnel.local, tunnel.remote, tunnel.overhead)


def quoted_tunnel(inventory: Inventory, netns: int, about: Quoted) -> TunnelRef | None:
    """Return the tunnel whose packet a message quotes, by its endpoints; None if it is none's."""
    first = about.outermost
    if first.proto in NO_TUNNEL:
        return None
    inventory.wait(FIRST_DUMP_S)
    port = first.dport if first.proto == UDP else None
    found = inventory.by_outer(netns, first.saddr, first.daddr, first.proto, about.tunnel_id, port)
    return _reference(found, printable(found.name)) if found else None


def _is_esp(key: CounterKey) -> bool:
    """Return whether the packet is one of IPsec, in UDP or not, into which nobody can look."""
    flow = key.flow
    in_udp = flow.proto == UDP and PORT_ESP in (flow.sport, flow.dport)
    return key.outer is None and (flow.proto == ESP or in_udp)


def _hook(reason: str | None, site: str, number: int) -> str | None:
    """Return the hook at which netfilter dropped a message, if it was netfilter."""
    netfilter = reason == "NETFILTER_DROP" if reason else site == "nf_hook_slow"
    return HOOKS.get(number) if netfilter else None


def function(location: str) -> str:
    """Return the function of a location, without offset and what the compiler appended."""
    return location.partition("+")[0].partition(".")[0]
