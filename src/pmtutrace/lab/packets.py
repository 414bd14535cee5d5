"""Packets that no socket makes by itself: fragments, ICMP errors, segments for the kernel to cut.

All functions return octets in network byte order, without a link-layer header.
"""

from __future__ import annotations

import functools
import socket
import struct
from ipaddress import ip_address

IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_ESP = 17, 6, 1, 58, 50
IPPROTO_FRAGMENT = 44
IPOPT_RR = 7
DF = 0x4000
UNREACHABLE, UNREACHABLE6 = 3, 1
FRAG_NEEDED = 4  # a code
ECHO, ECHO6 = 8, 128
TCP_HEADER = 20
CHECKSUM_IN_TCP = 16


def checksum(octets: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of some octets, before it is complemented."""
    padded = octets + b"\0" * (len(octets) % 2)
    total = int(sum(struct.unpack(f"!{len(padded) // 2}H", padded)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@functools.cache
def packed(address: str) -> bytes:
    """Return an address as it is in a header."""
    return ip_address(address).packed


def header_length(address: str) -> int:
    """Return the length of an IP header without options of that address's version."""
    return 20 if ip_address(address).version == 4 else 40


def ip_header(
    saddr: str,
    daddr: str,
    proto: int,
    payload: int,
    *,
    frag: int = DF,
    ttl: int = 64,
    identification: int = 0,
) -> bytes:
    """Return an IP header for ``payload`` octets.

    ``frag`` is IPv4's flags and offset; ``identification`` is IPv4's, too, and IPv6's flow label.
    """
    source, destination = packed(saddr), packed(daddr)
    if len(source) == 16:
        return (
            struct.pack("!IHBB", 6 << 28 | identification, payload, proto, ttl)
            + source
            + destination
        )
    start = struct.pack("!BBHHH", 0x45, 0, 20 + payload, identification, frag)
    whole = start + struct.pack("!BBH", ttl, proto, 0) + source + destination
    return whole[:10] + struct.pack("!H", ~checksum(whole) & 0xFFFF) + whole[12:]


def pseudo_header(saddr: str, daddr: str, proto: int, length: int) -> bytes:
    """Return what TCP, UDP and ICMPv6 add to their checksums (RFC 9293, RFC 8200)."""
    ends = packed(saddr) + packed(daddr)
    return ends + struct.pack("!II", length, proto)


def echo_request(address: str, length: int, sequence: int, identifier: int = 23) -> bytes:
    """Return an ICMP echo request of ``length`` octets to that address (RFC 792, RFC 4443).

    The checksum of ICMPv6 is left to the kernel, which knows the addresses.
    """
    kind = ECHO if ip_address(address).version == 4 else ECHO6
    whole = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + bytes(length - 8)
    return whole[:2] + struct.pack("!H", ~checksum(whole) & 0xFFFF) + whole[4:]


def udp(saddr: str, daddr: str, length: int, sport: int, dport: int) -> bytes:
    """Return an IP packet of ``length`` octets that holds one UDP datagram."""
    payload = length - header_length(saddr)
    datagram = struct.pack("!HHHH", sport, dport, payload, 0) + bytes(payload - 8)
    total = checksum(pseudo_header(saddr, daddr, IPPROTO_UDP, payload) + datagram)
    body = datagram[:6] + struct.pack("!H", (~total & 0xFFFF) or 0xFFFF) + datagram[8:]
    return ip_header(saddr, daddr, IPPROTO_UDP, payload) + body


def esp(saddr: str, daddr: str, length: int, spi: int) -> bytes:
    """Return an ESP packet (RFC 4303) of ``length`` octets; what it carries nobody can tell."""
    payload = length - header_length(saddr)
    return ip_header(saddr, daddr, IPPROTO_ESP, payload) + struct.pack("!II", spi, 1).ljust(
        payload, b"\x5a"
    )


def later_fragment(saddr: str, daddr: str, length: int) -> bytes:
    """Return a fragment of ``length`` octets that is not the first one; in IPv4 it has DF set."""
    payload = length - header_length(saddr)
    if ip_address(saddr).version == 4:
        return ip_header(saddr, daddr, IPPROTO_UDP, payload, frag=DF | 64) + bytes(payload)
    extension = struct.pack("!BBHI", IPPROTO_UDP, 0, 64 << 3, 23)
    return ip_header(saddr, daddr, IPPROTO_FRAGMENT, payload) + extension + bytes(payload - 8)


def short_record_route(saddr: str, daddr: str, length: int) -> bytes:
    """Return an IPv4 packet of ``length`` octets with a record-route option of a length of 8.

    There is room for one address and one octet more: a host that has written its own, and makes
    the option again for an answer, finds a pointer behind which no address fits.
    """
    option = struct.pack("!BBB", IPOPT_RR, 8, 4) + bytes(5)
    plain = ip_header(saddr, daddr, IPPROTO_UDP, length - 20)
    words = (20 + len(option)) // 4
    start = struct.pack("!B", 4 << 4 | words) + plain[1:10] + bytes(2) + plain[12:] + option
    total = struct.pack("!H", ~checksum(start) & 0xFFFF)
    return start[:10] + total + start[12:] + bytes(length - len(start))


def frag_needed(saddr: str, daddr: str, mtu: int, quoted: bytes) -> bytes:
    """Return an IPv4 packet that says to ``daddr`` that a packet was longer than ``mtu``."""
    message = struct.pack("!BBHHH", UNREACHABLE, FRAG_NEEDED, 0, 0, mtu) + quoted
    header = ip_header(saddr, daddr, IPPROTO_ICMP, len(message))
    total = struct.pack("!H", ~checksum(message) & 0xFFFF)
    return header + message[:2] + total + message[4:]


def icmp_error(saddr: str, daddr: str, length: int) -> bytes:
    """Return an IP packet of ``length`` octets that is itself an ICMP error: host unreachable."""
    payload = length - header_length(saddr)
    version4 = ip_address(saddr).version == 4
    kind, proto = (UNREACHABLE, IPPROTO_ICMP) if version4 else (UNREACHABLE6, IPPROTO_ICMPV6)
    quoted = udp(daddr, saddr, payload - 8, 1024, 9)
    message = struct.pack("!BBHI", kind, 1, 0, 0) + quoted
    before = b"" if version4 else pseudo_header(saddr, daddr, proto, payload)
    total = struct.pack("!H", ~checksum(before + message) & 0xFFFF)
    return ip_header(saddr, daddr, proto, payload) + message[:2] + total + message[4:]


def tcp_segments(saddr: str, daddr: str, length: int, segments: int) -> bytes:
    """Return one TCP packet that is to be cut into segments of ``length`` octets each.

    Its checksum is that of the pseudo-header alone, as ``VIRTIO_NET_HDR_F_NEEDS_CSUM`` wants it.
    """
    payload = TCP_HEADER + segments * (length - header_length(saddr) - TCP_HEADER)
    total = checksum(pseudo_header(saddr, daddr, IPPROTO_TCP, payload))
    ack = 0x10
    header = struct.pack("!HHIIBBHHH", 1024, 9, 1, 1, TCP_HEADER // 4 << 4, ack, 1024, total, 0)
    return ip_header(saddr, daddr, IPPROTO_TCP, payload) + header + bytes(payload - TCP_HEADER)


def virtio_header(packet: bytes, length: int, link_header: int) -> bytes:
    """Return a ``struct virtio_net_hdr`` that has the kernel cut a TCP packet, in host byte order.

    Args:
        packet: what :func:`tcp_segments` made.
        length: octets of each segment, its IP header included.
        link_header: octets before the IP header.
    """
    version4 = packet[0] >> 4 == 4
    network = 20 if version4 else 40
    needs_csum, kind = 1, 1 if version4 else 4
    headers = link_header + network + TCP_HEADER
    size = length - network - TCP_HEADER
    return struct.pack(
        "=BBHHHH", needs_csum, kind, headers, size, link_header + network, CHECKSUM_IN_TCP
    )


def ethernet(destination: str, source: str, address: str) -> bytes:
    """Return an Ethernet header for a packet of that address's version."""
    kind = 0x0800 if ip_address(address).version == 4 else 0x86DD
    macs = (bytes.fromhex(mac.replace(":", "")) for mac in (destination, source))
    return b"".join(macs) + struct.pack("!H", kind)


def family(address: str) -> socket.AddressFamily:
    """Return AF_INET or AF_INET6."""
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
