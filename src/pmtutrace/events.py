"""Typed events and counters: what the tracer gives to every verb, test and caller.

Addresses are text as ``inet_ntop`` writes it, ports and lengths are host-order integers, lengths
and MTUs are octets of the network layer (IP header included, link layer not), times are nanoseconds
since the Unix epoch in UTC. ``docs/events.md`` describes the JSON form field by field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Flow:
    """The innermost addresses, protocol and ports that could be read.

    ``proto`` is the IANA protocol number. Ports are None where the protocol has none or where the
    packet is a non-first fragment. For ICMP echo ``sport`` is the identifier and ``dport`` None.
    """

    saddr: str
    daddr: str
    proto: int
    sport: int | None = None
    dport: int | None = None


@dataclass(frozen=True, slots=True)
class Outer:
    """The outermost IP header of an encapsulated packet: addresses and IANA protocol number."""

    saddr: str
    daddr: str
    proto: int


@dataclass(frozen=True, slots=True)
class TunnelRef:
    """The tunnel of an event: interface name and ``rtnl_link_ops`` kind (``gre``, ``vxlan`` …).

    ``local`` and ``remote`` are the endpoints that it was given, ``overhead`` how many octets the
    outer IP length exceeds the inner one by; None where any will do, or nobody knows.
    """

    name: str
    type: str
    local: str | None = None
    remote: str | None = None
    overhead: int | None = None


class Device(NamedTuple):
    """A device by the inode of its namespace and its ifindex there."""

    netns: int
    ifindex: int


@dataclass(frozen=True, slots=True)
class Drop:
    """One oversize packet freed at a site, with the verdict on the news to its sender.

    ``count`` is the number of drops of this key since its last event on the same CPU, this one
    included. ``gso`` is the segment payload size of a GSO packet, else 0. ``length`` is None where
    a socket was refused before there was a packet (verdict ``local``). ``maker`` is the device that
    made the outer header, where that was seen. ``mark`` is that of the packet, else of its socket,
    ``spi`` that of IPsec where an ESP packet was refused.
    """

    ts: int
    netns: int
    cpu: int
    site: str
    location: str
    reason: str | None
    verdict: str
    cause: str | None
    length: int | None
    mtu: int
    gso: int
    df: bool
    family: int
    dev: str
    ifindex: int
    indev: str
    tunnel: TunnelRef | None
    flow: Flow
    outer: Outer | None
    count: int
    packet: bytes
    maker: Device | None = None
    mark: int = 0
    spi: int | None = None


@dataclass(frozen=True, slots=True)
class CounterKey:
    """What a counter counts: one flow at one site of one device, with one verdict.

    ``maker`` is the device that made the outer header, where that was seen.
    """

    netns: int
    ifindex: int
    site: str
    verdict: str
    cause: str | None
    family: int
    flow: Flow
    outer: Outer | None
    maker: Device | None = None


@dataclass(frozen=True, slots=True)
class IcmpLost:
    """A frag-needed or packet-too-big that was emitted and then freed before it left this host.

    ``to`` is whom it was for, ``flow`` the packet that it quotes, ``mtu`` the MTU that it reports.
    ``hook`` is netfilter's hook, where it was that and it is certain which. ``drop`` is the drop
    that was counted as ``told`` until then and as ``lost`` from then on, None if it is not known.
    """

    ts: int
    netns: int
    cpu: int
    site: str
    location: str
    reason: str | None
    family: int
    to: str
    mtu: int
    flow: Flow
    hook: str | None = None
    drop: CounterKey | None = None


@dataclass(frozen=True, slots=True)
class Fragmented:
    """An outer packet of a tunnel that left in several fragments, because of this MTU.

    Nothing was dropped here. ``length`` is that of the whole outer packet, ``count`` as for drops.
    """

    ts: int
    netns: int
    cpu: int
    length: int
    mtu: int
    family: int
    dev: str
    ifindex: int
    tunnel: TunnelRef | None
    flow: Flow
    outer: Outer | None
    count: int
    packet: bytes
    maker: Device | None = None


@dataclass(frozen=True, slots=True)
class TunnelChange:
    """A tunnel appeared, changed or went; ``what`` is ``appeared``, ``changed`` or ``gone``."""

    ts: int
    netns: int
    what: str
    name: str
    type: str
    mtu: int | None


@dataclass(frozen=True, slots=True)
class InnerMtu:
    """A tunnel whose far end a path MTU is about, and what that leaves for the packets inside.

    ``mtu`` is None where the tunnel's overhead is not known.
    """

    name: str
    type: str
    mtu: int | None


@dataclass(frozen=True, slots=True)
class PathMtuChange:
    """A path MTU exception changed; ``change`` is one of :data:`CHANGES`.

    ``old`` is None where it was not there, ``new`` where it is no more. ``expires`` is in seconds
    from ``ts`` on: what is left, or was left when it went; None for never. ``via`` is one of
    :data:`VIAS`. ``router`` and ``quoted`` are whom the message came from and the innermost packet
    that it quotes, where one is known to have brought it about. ``saddr`` is None but where IPv6
    routes depend on the source, ``gateway`` is None on the link itself, ``table`` is 0 where it is
    not known.
    """

    ts: int
    netns: int
    change: str
    family: int
    daddr: str
    saddr: str | None
    dev: str
    ifindex: int
    gateway: str | None
    table: int
    old: int | None
    new: int | None
    locked: bool
    expires: float | None
    via: str = "unknown"
    tunnels: tuple[InnerMtu, ...] = ()
    router: str | None = None
    quoted: Flow | None = None


@dataclass(frozen=True, slots=True)
class IcmpReceived:
    """A frag-needed or packet-too-big that arrived, and what the kernel did with it.

    ``router`` is the address that it came from, ``to`` the one that it was sent to. ``mtu`` is what
    it reports. ``flow`` is the innermost packet that can be read in what it quotes, ``outer`` the
    quoted outer header, where that is about a tunnel's packet, and ``tunnel`` whose. ``dev`` is the
    device that it came in by. ``outcome`` is one of :data:`OUTCOMES`; ``effective`` the MTU that
    is in force for the quoted destination after it, None if that was not seen.
    """

    ts: int
    netns: int
    cpu: int
    family: int
    router: str
    to: str
    mtu: int
    flow: Flow
    outer: Outer | None
    dev: str
    ifindex: int
    tunnel: TunnelRef | None
    outcome: str
    effective: int | None = None


# What can be said of an exception, and of one that is no more.
CHANGES = ("created", "lowered", "raised", "locked", "unlocked", "refreshed")
ENDS = ("expired", "flushed", "removed", "evicted", "gone")

# What the kernel has a path MTU from.
VIAS = {
    "icmp": "a message that arrived",
    "tunnel": "the tunnel that leads there, as it sent",
    "redirect": "a redirect gave what was learned before to another gateway (IPv4)",
    "administrator": "the device was given another MTU, and this exception with it",
    "unknown": "it cannot be told, or the exception is no more",
}

# What becomes of a frag-needed or packet-too-big that arrives.
OUTCOMES = {
    "applied": "the path MTU is now what it reports",
    "clamped": "below `min_pmtu` (IPv4): the path MTU is now that, or what it was if that is less, "
    "and locked",
    "not_lower": "what was in force is not more than it reports",
    "locked": "the path MTU is locked, and stays as it is until that ends",
    "no_match": "no socket, tunnel or SA of this host took it",
    "no_pmtu_disc": "`ip_no_pmtu_disc` (IPv4) keeps it from them",
    "below_minimum": "below 1280 (IPv6), of which the kernel takes no notice",
    "not_sent_here": "this host never sent the quoted packet: its source is not the address that "
    "the message was sent to, and nothing took it",
    "unknown": "it cannot be told",
}

Event = Drop | IcmpLost | IcmpReceived | Fragmented | TunnelChange | PathMtuChange


@dataclass(frozen=True, slots=True)
class Counter:
    """Exact sums for one key, over all CPUs. ``mtu`` is the last one seen, times as everywhere."""

    packets: int
    bytes: int
    max_length: int
    mtu: int
    first: int
    last: int

    def joined(self, other: Counter) -> Counter:
        """Return what two counters of the same key count together."""
        latest = max(self, other, key=lambda counter: counter.last)
        return Counter(
            self.packets + other.packets,
            self.bytes + other.bytes,
            max(self.max_length, other.max_length),
            latest.mtu,
            min(self.first, other.first),
            latest.last,
        )
