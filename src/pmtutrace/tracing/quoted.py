"""The innermost flow in the octets of a packet, through the tunnels that can be told by looking.

The same headers as in bpf/include/packet.h: RFC 791, 8200, 2784, 2890, 7348, 8926, 4303, 3948.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from pmtutrace.events import Flow, Outer

ICMP, IPIP, TCP, UDP, DCCP, IPV6, GRE, ESP, AH, ICMPV6, SCTP, UDPLITE = (
    *(1, 4, 6, 17, 33, 41, 47, 50, 51, 58, 132, 136),
)
WITH_PORTS = (TCP, UDP, DCCP, SCTP, UDPLITE)
ECHO = {ICMP: (0, 8), ICMPV6: (128, 129)}
EXTENSIONS = (0, 43, 44, 60, AH)
FRAGMENT = 44
MOST_LAYERS, MOST_EXTENSIONS = 4, 4
ETHERNET, VLANS = 0x6558, (0x8100, 0x88A8)
ERSPAN, ERSPAN2 = 0x88BE, 0x22EB
VERSIONS = {0x0800: 4, 0x86DD: 6}
VXLAN, VXLAN_LINUX, GENEVE, NATT = 4789, 8472, 6081, 4500


class Quoted(NamedTuple):
    """What could be read of a packet.

    ``outermost`` is its first IP header, ``flow`` its last; addresses are empty where not even the
    first is whole. ``outer`` is the first again if there are more. ``tunnel_id`` is its VNI, key or
    SPI, ``port`` the UDP port that a tunnel's packet goes to, both None where there is none.
    """

    outermost: Flow
    flow: Flow
    outer: Outer | None = None
    tunnel_id: int | None = None
    port: int | None = None


class _Layer(NamedTuple):
    """An IP header that was read: its flow, and where what follows is; None if it is not here."""

    flow: Flow
    upper: int | None


class _Step(NamedTuple):
    """What a tunnel's header says: where the next header is, of which IP version, and whose."""

    at: int
    version: int | None
    tunnel_id: int | None = None
    port: int | None = None


def read(octets: bytes) -> Quoted:
    """Read a packet from its IP header on; what is cut off is left out."""
    layers: list[_Layer] = []
    steps: list[_Step] = []
    at, version = 0, octets[0] >> 4 if octets else 0
    while len(layers) < MOST_LAYERS:
        layer = _ip(octets, at, version)
        if layer is None:
            break
        layers.append(layer)
        step = None if layer.upper is None else _tunnel(octets, layer.upper, layer.flow)
        if step is None:
            break
        steps.append(step)
        if step.version is None:
            break
        at, version = step.at, step.version
    if not layers:
        return Quoted(Flow("", "", 0), Flow("", "", 0))
    first = layers[0].flow
    outer = Outer(first.saddr, first.daddr, first.proto) if len(layers) > 1 else None
    whose = (steps[0].tunnel_id, steps[0].port) if steps else (None, None)
    return Quoted(first, layers[-1].flow, outer, *whose)


def _ip(octets: bytes, at: int, version: int) -> _Layer | None:
    if version == 4 and len(octets) >= at + 20 and octets[at] >> 4 == 4:
        length = (octets[at] & 15) * 4
        if length < 20:
            return None
        first = not int.from_bytes(octets[at + 6 : at + 8], "big") & 0x1FFF
        upper = at + length if first else None
        return _layer(octets, socket.AF_INET, octets[at + 12 : at + 20], octets[at + 9], upper)
    if version == 6 and len(octets) >= at + 40 and octets[at] >> 4 == 6:
        proto, upper = _behind_extensions(octets, octets[at + 6], at + 40)
        return _layer(octets, socket.AF_INET6, octets[at + 8 : at + 40], proto, upper)
    return None


def _layer(
    octets: bytes, family: socket.AddressFamily, addresses: bytes, proto: int, upper: int | None
) -> _Layer:
    half = len(addresses) // 2
    saddr, daddr = (socket.inet_ntop(family, a) for a in (addresses[:half], addresses[half:]))
    ports: tuple[int, ...] = ()
    if upper is not None:
        if proto in WITH_PORTS and len(octets) >= upper + 4:
            ports = struct.unpack_from("!HH", octets, upper)
        elif len(octets) >= upper + 6 and octets[upper] in ECHO.get(proto, ()):
            ports = struct.unpack_from("!H", octets, upper + 4)
    return _Layer(Flow(saddr, daddr, proto, *ports), upper)


def _behind_extensions(octets: bytes, proto: int, at: int) -> tuple[int, int | None]:
    """Return protocol and place of what follows; None for the place if that is not here."""
    for _ in range(MOST_EXTENSIONS):
        if proto not in EXTENSIONS:
            break
        if len(octets) < at + 4:
            return proto, None
        following, length = octets[at], octets[at + 1]
        if proto == FRAGMENT:
            if int.from_bytes(octets[at + 2 : at + 4], "big") & 0xFFF8:
                return following, None
            at += 8
        else:
            at += (length + 2) * 4 if proto == AH else (length + 1) * 8
        proto = following
    return proto, at


def _tunnel(octets: bytes, at: int, flow: Flow) -> _Step | None:
    match flow.proto:
        case 4:  # IPIP
            return _Step(at, 4)
        case 41:  # IPV6
            return _Step(at, 6)
        case 47:  # GRE
            return _gre(octets, at)
        case 50:  # ESP
            return _Step(at, None, _number(octets, at, 4))
        case 17:  # UDP
            return _udp(octets, at, flow)
    return None


def _gre(octets: bytes, at: int) -> _Step | None:
    if len(octets) < at + 4:
        return None
    flags, kind = struct.unpack_from("!HH", octets, at)
    if flags & 0x4007:  # routing, or version 1: PPTP
        return None
    at += 8 if flags & 0x8000 else 4
    key = None
    if flags & 0x2000:
        key = _number(octets, at, 4)
        at += 4
    sequence = flags & 0x1000
    at += 4 if sequence else 0
    if kind in (ERSPAN, ERSPAN2):
        at += 12 if kind == ERSPAN2 else 8 if sequence else 0
        kind = ETHERNET
    return _inside(octets, at, kind, key)


def _udp(octets: bytes, at: int, flow: Flow) -> _Step | None:
    if len(octets) < at + 16:
        return None
    if NATT in (flow.sport, flow.dport):
        return _Step(at, None, _number(octets, at + 8, 4), flow.dport)
    vni = int.from_bytes(octets[at + 12 : at + 15], "big")
    if flow.dport in (VXLAN, VXLAN_LINUX) and octets[at + 8] & 8:
        return _inside(octets, at + 16, ETHERNET, vni, flow.dport)
    if flow.dport == GENEVE and not octets[at + 8] & 0xC0:
        kind = int.from_bytes(octets[at + 10 : at + 12], "big")
        return _inside(octets, at + 16 + (octets[at + 8] & 0x3F) * 4, kind, vni, flow.dport)
    return None


def _inside(
    octets: bytes, at: int, kind: int, tunnel_id: int | None, port: int | None = None
) -> _Step:
    """Return where the next IP header is, behind Ethernet and VLAN tags if need be."""
    if kind == ETHERNET:
        kind = _number(octets, at + 12, 2) or 0
        at += 14
        for _ in range(2):
            if kind in VLANS:
                kind = _number(octets, at + 2, 2) or 0
                at += 4
    return _Step(at, VERSIONS.get(kind), tunnel_id, port)


def _number(octets: bytes, at: int, size: int) -> int | None:
    return int.from_bytes(octets[at : at + size], "big") if len(octets) >= at + size else None
