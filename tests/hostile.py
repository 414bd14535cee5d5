"""Packets to try a parser with: well-formed ones whose flow is known, and hostile ones.

All of them come from one ``random.Random``. A well-formed packet is built from the inside out, and
with it the list of what each of its IP headers says: that is what a reader must find. A hostile one
is a well-formed one that something was done to.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmtutrace.events import Flow, Outer
from pmtutrace.lab import packets

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

# MAX_LAYERS and MAX_EXTENSIONS of bpf/include/packet.h: what lies deeper is not looked at.
LAYERS, EXTENSIONS = 4, 4
DEEPEST = 10
TCP, UDP, UDPLITE, SCTP, DCCP, GRE, AH, FRAGMENT = 6, 17, 136, 132, 33, 47, 51, 44
ICMP, ICMPV6 = 1, 58
WITH_PORTS = (TCP, UDP, UDPLITE, SCTP, DCCP)
# ESP, OSPF, VRRP, experiments: nothing that is looked into.
OPAQUE = (50, 89, 112, 115, 253)
HOP_BY_HOP, ROUTING, OPTIONS = 0, 43, 60
VXLAN, VXLAN_OLD, GENEVE = 4789, 8472, 6081
NAT_T = 4500  # RFC 3948
ETHER = {4: 0x0800, 6: 0x86DD}
TEB, ERSPAN, ERSPAN2, VLAN, QINQ = 0x6558, 0x88BE, 0x22EB, 0x8100, 0x88A8
NOP = 1
ECHOES = {4: (8, 0), 6: (128, 129)}
PROTO_OF = {4: 4, 6: 41}  # what an IP header calls one that follows


@dataclass(frozen=True, slots=True)
class Built:
    """A packet, and what each IP header in it that can be followed says, outermost first."""

    octets: bytes
    headers: tuple[Flow, ...]

    @property
    def version(self) -> int:
        return self.octets[0] >> 4


@dataclass(frozen=True, slots=True)
class Part:
    """What follows an IP header: its protocol, ports where they can be read, and what is in it."""

    proto: int
    octets: bytes
    sport: int | None = None
    dport: int | None = None
    inner: tuple[Flow, ...] = ()


def seen(headers: tuple[Flow, ...]) -> tuple[Flow, Outer | None]:
    """Return the flow that must be reported, and the outer header where there is one."""
    first = headers[0]
    outer = Outer(first.saddr, first.daddr, first.proto) if len(headers) > 1 else None
    return headers[:LAYERS][-1], outer


def address(chance: random.Random, version: int) -> str:
    """Return any address."""
    if version == 4:
        return socket.inet_ntop(socket.AF_INET, chance.randbytes(4))
    return socket.inet_ntop(socket.AF_INET6, b"\xfd" + chance.randbytes(15))


def well_formed(
    chance: random.Random,
    version: int,
    saddr: str,
    daddr: str,
    *,
    number: int,
    padding: int,
    whole: bool = False,
) -> Built:
    """Return a packet whose outermost header has these addresses.

    Args:
        chance: where everything comes from.
        version: of the outermost header.
        saddr: its source.
        daddr: its destination.
        number: its identification, or its flow label.
        padding: octets at the end of what is innermost.
        whole: no fragment, and no options in the outermost header.
    """
    depth = chance.choice((1, 1, 2, 2, 3, 4, 5, DEEPEST))
    inner: Built | None = None
    for level in range(depth, 0, -1):
        outermost = level == 1
        own = version if outermost else chance.choice((4, 6))
        part = wrapped(chance, inner) if inner else ending(chance, own, padding)
        ends = (saddr, daddr) if outermost else (address(chance, own), address(chance, own))
        make = ipv4 if own == 4 else ipv6
        if outermost:
            inner = make(chance, *ends, part, number, plain=whole, outermost=True)
        else:
            inner = make(chance, *ends, part, chance.randrange(1 << 16))
    assert inner
    return inner


def ending(chance: random.Random, version: int, padding: int) -> Part:
    """Return what is innermost: a transport header, an ICMP message, or something opaque."""
    rest = chance.randbytes(min(padding, 64)) + bytes(max(0, padding - 64))
    sport, dport = chance.randrange(1, 1 << 16), chance.randrange(1, 4000)
    kind = chance.randrange(11)
    if kind < 5:
        proto = chance.choice(WITH_PORTS)
        octets = struct.pack("!HHHH", sport, dport, 8 + len(rest), 0) + bytes(12) + rest
        return Part(proto, octets, sport, dport)
    if kind < 7:
        number = ICMP if version == 4 else ICMPV6
        octets = struct.pack("!BBHHH", chance.choice(ECHOES[version]), 0, 0, sport, dport) + rest
        return Part(number, octets, sport)
    if kind == 7:
        number = ICMP if version == 4 else ICMPV6
        errors = (3, 4, 5, 11, 12, 40) if version == 4 else (1, 2, 3, 4, 133, 137)
        return Part(number, struct.pack("!BBHI", chance.choice(errors), 4, 0, dport) + rest)
    if kind == 8:
        # Somebody's UDP on the port of a tunnel: VXLAN without its flag, Geneve of version 3.
        port, flags = chance.choice(((VXLAN, 0), (VXLAN_OLD, 0xF7), (GENEVE, 0xC0)))
        octets = struct.pack("!HHHHB", sport, port, 8 + len(rest), 0, flags) + bytes(15) + rest
        return Part(UDP, octets, sport, port)
    if kind == 9:
        # A tunnel, but what it carries is no IP: ARP, MPLS, PPP.
        octets = struct.pack("!HH", 0, chance.choice((0x0806, 0x8847, 0x880B)))
        return Part(GRE, octets + chance.randbytes(24) + rest)
    return Part(chance.choice(OPAQUE), chance.randbytes(24) + rest)


def ethernet(chance: random.Random, version: int) -> bytes:
    """Return an Ethernet header with up to two VLAN tags."""
    tags = b"".join(
        struct.pack("!HH", chance.choice((VLAN, QINQ)), chance.randrange(1 << 16))
        for _ in range(chance.choice((0, 0, 0, 1, 2)))
    )
    return chance.randbytes(12) + tags + struct.pack("!H", ETHER[version])


def gre(chance: random.Random, inner: Built) -> Part:
    """Return GRE with any of its options around a packet, a frame, or a mirrored frame."""
    kind = chance.choice((ETHER[inner.version], TEB, ERSPAN, ERSPAN2))
    flags = chance.choice((0, 0x8000)) | chance.choice((0, 0x2000)) | chance.choice((0, 0x1000))
    words = bin(flags).count("1")
    # Version 1 of ERSPAN has no header of its own; the sequence number tells.
    own = {ERSPAN: 8 if flags & 0x1000 else 0, ERSPAN2: 12}.get(kind, 0)
    octets = struct.pack("!HH", flags, kind) + chance.randbytes(4 * words + own)
    if kind != ETHER[inner.version]:
        octets += ethernet(chance, inner.version)
    return Part(GRE, octets + inner.octets, inner=inner.headers)


def in_udp(chance: random.Random, inner: Built) -> Part:
    """Return VXLAN or Geneve around a frame or, for Geneve, a packet."""
    port, sport = chance.choice((VXLAN, VXLAN_OLD, GENEVE)), chance.randrange(1 << 16)
    sport = 9 if sport == NAT_T else sport  # which would be ESP, whatever is inside
    vni = chance.randrange(1 << 24) << 8
    frame = ethernet(chance, inner.version) + inner.octets
    if port == GENEVE:
        words = chance.choice((0, 1, 5))
        bare = chance.random() < 0.5
        kind = ETHER[inner.version] if bare else TEB
        header = struct.pack("!BBHI", words, 0, kind, vni) + chance.randbytes(4 * words)
        body = header + (inner.octets if bare else frame)
    else:
        body = struct.pack("!BBHI", 0x08 | chance.choice((0, 0x80)), 0, 0, vni) + frame
    octets = struct.pack("!HHHH", sport, port, 8 + len(body), 0) + body
    return Part(UDP, octets, sport, port, inner.headers)


def directly(_chance: random.Random, inner: Built) -> Part:
    """Return a packet as it is: IPIP and SIT."""
    return Part(PROTO_OF[inner.version], inner.octets, inner=inner.headers)


WRAPS: tuple[Callable[[random.Random, Built], Part], ...] = (directly, gre, in_udp)


def wrapped(chance: random.Random, inner: Built) -> Part:
    """Return a packet in some tunnel's header."""
    return chance.choice(WRAPS)(chance, inner)


def ipv4(
    chance: random.Random,
    saddr: str,
    daddr: str,
    part: Part,
    number: int,
    *,
    plain: bool = False,
    outermost: bool = False,
) -> Built:
    """Return an IPv4 packet with DF; some have options, some are later fragments."""
    words = 0 if plain else chance.choice((0, 0, 0, 1, 10))
    later = not plain and chance.random() < 0.1
    frag = packets.DF | (chance.randrange(1, 0x2000) if later else 0)
    # A router reads the options of the outermost header.
    options = bytes([NOP]) * (4 * words) if outermost else chance.randbytes(4 * words)
    start = struct.pack(
        "!BBHHHBBH",
        0x45 + words,
        0,
        20 + len(options) + len(part.octets),
        number,
        frag,
        64,
        part.proto,
        0,
    )
    ends = socket.inet_aton(saddr) + socket.inet_aton(daddr)
    octets = right_checksum(start + ends + options) + part.octets
    if later:
        return Built(octets, (Flow(saddr, daddr, part.proto),))
    return Built(octets, (Flow(saddr, daddr, part.proto, part.sport, part.dport), *part.inner))


def ipv6(
    chance: random.Random,
    saddr: str,
    daddr: str,
    part: Part,
    number: int,
    *,
    plain: bool = False,
    outermost: bool = False,
) -> Built:
    """Return an IPv6 packet; some have extension headers, of which the chain may be too long."""
    count = 0 if plain else chance.choice((0, 0, 0, 0, 1, 2, 3, 4, 6))
    kinds = [chance.choice((ROUTING, FRAGMENT, AH, OPTIONS)) for _ in range(count)]
    if count and chance.random() < 0.3:
        kinds[0] = HOP_BY_HOP
    chain, nexthdr, offsets = part.octets, part.proto, []
    for kind in reversed(kinds):
        offset = chance.choice((0, 0, chance.randrange(1, 1 << 13))) if kind == FRAGMENT else 0
        chain = extension(chance, kind, nexthdr, offset, quiet=outermost) + chain
        offsets.insert(0, offset)
        nexthdr = kind
    octets = packets.ip_header(saddr, daddr, nexthdr, len(chain), identification=number) + chain
    after = [*kinds[1:], part.proto]
    for place, offset in enumerate(offsets):
        if place == EXTENSIONS:
            return Built(octets, (Flow(saddr, daddr, kinds[place]),))
        if offset:
            return Built(octets, (Flow(saddr, daddr, after[place]),))
    return Built(octets, (Flow(saddr, daddr, part.proto, part.sport, part.dport), *part.inner))


def extension(chance: random.Random, kind: int, nexthdr: int, offset: int, *, quiet: bool) -> bytes:
    """Return one extension header; ``quiet`` ones hold nothing that a router acts on."""
    if kind == FRAGMENT:
        return struct.pack("!BBHI", nexthdr, 0, offset << 3, chance.randrange(1 << 32))
    if kind == AH:
        words = chance.choice((1, 3, 6))
        return struct.pack("!BB", nexthdr, words) + bytes(words * 4 + 6)
    eights = chance.choice((0, 0, 1, 3))
    size = 8 * eights + 6
    if kind == ROUTING or not quiet:
        return struct.pack("!BB", nexthdr, eights) + bytes(size)
    # One option that fills it, for experiments, to be skipped by who does not know it (RFC 4727).
    return struct.pack("!BBBB", nexthdr, eights, 0x1E, size - 2) + bytes(size - 2)


def right_checksum(header: bytes) -> bytes:
    """Return an IPv4 header with its checksum made right."""
    bare = header[:10] + b"\0\0" + header[12:]
    return bare[:10] + struct.pack("!H", ~packets.checksum(bare) & 0xFFFF) + bare[12:]


def hostile(chance: random.Random, good: Built) -> bytes:
    """Return a packet with something wrong in it; mostly behind a first header that is right."""
    version4 = good.version == 4
    first = (good.octets[0] & 15) * 4 if version4 else 40
    head, rest = bytearray(good.octets[:first]), bytearray(good.octets[first:])
    rest = chance.choice(DAMAGES)(chance, rest)
    if chance.random() < 0.15:
        # Another protocol than what follows.
        head[9 if version4 else 6] = chance.choice((0, 1, 4, 17, 41, 43, 44, 47, 51, 58, 60))
    if version4 and chance.random() < 0.1:
        # Options that nobody knows, or that are wrong.
        words = chance.randrange(1, 11)
        head[0], head[20:] = 0x45 + words, chance.randbytes(4 * words)
        first = len(head)
    length = first + len(rest) if version4 else len(rest)
    if chance.random() < 0.1:
        length = max(first if version4 else 0, length - chance.randrange(200))
    at = 2 if version4 else 4
    head[at : at + 2] = struct.pack("!H", length)
    if chance.random() < 0.05:
        scratch(chance, head)
        return bytes(head + rest)
    return (right_checksum(bytes(head)) if version4 else bytes(head)) + bytes(rest)


def scratch(chance: random.Random, octets: bytearray) -> bytearray:
    """Set some octets, mostly near the front, to anything."""
    for _ in range(chance.randrange(1, 9)):
        if octets:
            at = chance.randrange(min(len(octets), chance.choice((8, 64, 256, 1 << 16))))
            octets[at] = chance.choice((0, 0xFF, 0x45, 0x60, chance.randrange(256)))
    return octets


def _cut(chance: random.Random, octets: bytearray) -> bytearray:
    """End the headers early; what a router must see as too long is made up by what is before."""
    at = chance.randrange(min(len(octets), 120) + 1)
    return octets[:at]


def _cut_and_fill(chance: random.Random, octets: bytearray) -> bytearray:
    at = chance.randrange(min(len(octets), 200) + 1)
    return octets[:at] + chance.randbytes(len(octets) - at)


def _overlap(chance: random.Random, octets: bytearray) -> bytearray:
    """Put a piece of the packet, most likely headers, over another piece."""
    size = chance.randrange(1, 80)
    source, target = chance.randrange(200), chance.randrange(200)
    piece = octets[source : source + size]
    octets[target : target + len(piece)] = piece
    return octets


def _lie(chance: random.Random, octets: bytearray) -> bytearray:
    """Change what looks like a length: an IPv4 header's own, or any other."""
    for at in range(0, min(len(octets), 256), 2):
        first = octets[at]
        if first >> 4 == 4 and chance.random() < 0.5:
            octets[at] = 0x40 | chance.randrange(16)
        elif chance.random() < 0.05:
            octets[at : at + 2] = struct.pack("!H", chance.choice((0, 1, 7, 0x7FFF, 0xFFFF)))
    return octets


def _noise(chance: random.Random, octets: bytearray) -> bytearray:
    return bytearray(chance.randbytes(len(octets)))


def _flags(chance: random.Random, octets: bytearray) -> bytearray:
    """Give what may be GRE's, VXLAN's or Geneve's first octets odd flags and versions."""
    for at in (0, 8, 20, 24, 28, 40):
        if at + 2 <= len(octets) and chance.random() < 0.5:
            octets[at : at + 2] = chance.randbytes(2)
    return octets


def _repeat(chance: random.Random, octets: bytearray) -> bytearray:
    """Repeat what comes first, again and again."""
    piece = bytes(octets[: chance.randrange(1, 64)])
    return bytearray((piece * (len(octets) // len(piece) + 1))[: len(octets)])


DAMAGES = (scratch, scratch, _cut, _cut_and_fill, _overlap, _lie, _noise, _flags, _repeat)
