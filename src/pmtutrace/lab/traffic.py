"""Traffic as data, and the senders that make exactly that many packets of it.

Each sender opens its socket inside the node's namespace. None of them waits for an answer, and none
is stopped by a path MTU that the kernel has learned, unless its traffic says so: every packet is
sent at full length.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pmtutrace.errors import LabError
from pmtutrace.lab import packets

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmtutrace.lab.net import Net

COUNT = 23  # a prime: no accident doubles or halves it
SPORT, DPORT = 2323, 9
STRANGER = "198.51.100.1"  # an address that nobody in the lab has
QUOTED = 28  # octets of a packet in the news about it: an IP header and eight more
SPI = 0x2323  # of ESP packets that nobody can decrypt
# linux/in.h, linux/in6.h, linux/if_packet.h; Python has no names for these.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IPV6_DONTFRAG = 10, 23, 62
IP_RECVERR, IPV6_RECVERR = 11, 25
PMTUDISC = {"dont": 0, "want": 1, "do": 2, "probe": 3, "interface": 4, "omit": 5}
REFUSED = "EMSGSIZE"  # what the number of these errors is called among a node's counters
SOL_PACKET, PACKET_VNET_HDR = 263, 15


@dataclass(frozen=True, slots=True)
class Traffic:
    """Packets of one flow.

    Args:
        what: ``udp``, ``echo``, ``tcp``, or raw ones: ``raw-udp``, ``raw-options``, ``esp``,
            ``later-fragment``, ``icmp-error``, ``stray-news``.
        node: label of the sending node.
        saddr: source address; raw traffic may come from an address that nobody has.
        daddr: destination address.
        length: octets of each IP packet; of each segment for ``tcp``; the MTU that ``stray-news``
            reports of packets that ``STRANGER`` sent.
        count: packets sent; super-packets for ``tcp``.
        df: whether DF is set, or, for IPv6, the kernel kept from making fragments.
        segments: segments in each super-packet of ``tcp``.
        sink: have a UDP socket at the destination, so that no ICMP port unreachable comes back.
        longer: by how much each ``udp`` packet is longer than the one before it.
        discover: the socket's path MTU discovery, one of ``PMTUDISC``, and nothing else set; None
            lets ``df`` choose.
        connect: connect the socket first.
        recverr: have errors queued on the socket.
        bind: device to bind the socket to.
        ttl: hops that packets of sockets may take; None for the kernel's choice.
        pinned: send all of them on the first CPU, so that one CPU's sockets answer them.
    """

    what: str
    node: str
    saddr: str
    daddr: str
    length: int = 1500
    count: int = COUNT
    df: bool = True
    segments: int = 1
    sink: bool = False
    longer: int = 0
    discover: str | None = None
    connect: bool = False
    recverr: bool = False
    bind: str | None = None
    ttl: int | None = None
    pinned: bool = False


def send(net: Net, traffic: Traffic) -> int:
    """Send all packets of a traffic; all have been handed to the kernel when this returns.

    Returns:
        How many of them the kernel refused to take, with EMSGSIZE.

    Raises:
        LabError: no such traffic is declared, or the kernel refused to send.
    """
    if traffic.what not in SENDERS:
        raise LabError(f"no such traffic: {traffic.what!r}", f"it is one of {', '.join(SENDERS)}")
    if traffic.sink:
        _sink(net, traffic)

    def sent() -> int:
        # The thread is this call's own, and so is where it runs.
        if traffic.pinned:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        return SENDERS[traffic.what](net, traffic)

    try:
        return net[traffic.node].run(sent)
    except OSError as error:
        raise LabError(
            f"{traffic.what} from {traffic.node} was not sent: {error.strerror}"
        ) from error


def _sink(net: Net, traffic: Traffic) -> None:
    """Bind a UDP socket at the destination until the lab is torn down."""
    node, _ = net.owner(traffic.daddr)

    def bound() -> socket.socket:
        receiver = socket.socket(packets.family(traffic.daddr), socket.SOCK_DGRAM)
        receiver.bind((traffic.daddr, DPORT))
        return receiver

    net.stack.enter_context(node.run(bound))


def _prepared(sender: socket.socket, traffic: Traffic) -> None:
    """Set what a traffic asks of its socket; by default, no path MTU that was learned counts."""
    six = sender.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    chosen = traffic.discover or ("probe" if traffic.df else "dont")
    sender.setsockopt(level, IPV6_MTU_DISCOVER if six else IP_MTU_DISCOVER, PMTUDISC[chosen])
    if six and traffic.discover is None:
        sender.setsockopt(level, IPV6_DONTFRAG, int(traffic.df))
    sender.setsockopt(level, IPV6_RECVERR if six else IP_RECVERR, int(traffic.recverr))
    if traffic.ttl:
        option = socket.IPV6_UNICAST_HOPS if six else socket.IP_TTL
        sender.setsockopt(level, option, traffic.ttl)
    if traffic.bind:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, traffic.bind.encode())


def _refused(sender: socket.socket, octets: bytes, address: tuple[str, int] | None) -> bool:
    """Send once, to where the socket is connected if no address is given; True for EMSGSIZE.

    A packet that dies in this very namespace says so at once.
    """
    try:
        if address:
            sender.sendto(octets, address)
        else:
            sender.send(octets)
    except OSError as error:
        if error.errno != errno.EMSGSIZE:
            raise
        return True
    return False


def _udp(_net: Net, traffic: Traffic) -> int:
    payload = bytes(traffic.length - packets.header_length(traffic.saddr) - 8)
    target = (traffic.daddr, DPORT)
    with socket.socket(packets.family(traffic.saddr), socket.SOCK_DGRAM) as sender:
        _prepared(sender, traffic)
        sender.bind((traffic.saddr, SPORT))
        if traffic.connect:
            sender.connect(target)
        address = None if traffic.connect else target
        return sum(
            _refused(sender, payload + bytes(number * traffic.longer), address)
            for number in range(traffic.count)
        )


def _leave_by(net: Net, sender: socket.socket, saddr: str) -> None:
    """Have multicast leave by the device that has this address."""
    node, port = net.owner(saddr)
    index = node.ifindexes[port.dev]
    if sender.family == socket.AF_INET:
        # struct ip_mreqn: group, address, ifindex; ip(7)
        chosen = struct.pack("4s4si", bytes(4), bytes(4), index)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, chosen)
    else:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)


def _echo(_net: Net, traffic: Traffic) -> int:
    family = packets.family(traffic.saddr)
    proto = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    length = traffic.length - packets.header_length(traffic.saddr)
    target = (traffic.daddr, 0)
    with socket.socket(family, socket.SOCK_RAW, proto) as sender:
        _prepared(sender, traffic)
        sender.bind((traffic.saddr, 0))
        return sum(
            _refused(sender, packets.echo_request(traffic.saddr, length, sequence), target)
            for sequence in range(traffic.count)
        )


def _raw(net: Net, packet: bytes, traffic: Traffic) -> int:
    """Send a packet with a header of our own (raw(7): IPPROTO_RAW implies IP_HDRINCL)."""
    with socket.socket(
        packets.family(traffic.saddr), socket.SOCK_RAW, socket.IPPROTO_RAW
    ) as sender:
        if ip_address(traffic.daddr).is_multicast:
            _leave_by(net, sender, traffic.saddr)
        if traffic.connect:
            sender.connect((traffic.daddr, 0))
        address = None if traffic.connect else (traffic.daddr, 0)
        return sum(_refused(sender, packet, address) for _ in range(traffic.count))


def _raw_udp(net: Net, traffic: Traffic) -> int:
    packet = packets.udp(traffic.saddr, traffic.daddr, traffic.length, SPORT, DPORT)
    return _raw(net, packet, traffic)


def _raw_options(net: Net, traffic: Traffic) -> int:
    packet = packets.short_record_route(traffic.saddr, traffic.daddr, traffic.length)
    return _raw(net, packet, traffic)


def _esp(net: Net, traffic: Traffic) -> int:
    packet = packets.esp(traffic.saddr, traffic.daddr, traffic.length, SPI)
    return _raw(net, packet, traffic)


def _later_fragment(net: Net, traffic: Traffic) -> int:
    packet = packets.later_fragment(traffic.saddr, traffic.daddr, traffic.length)
    return _raw(net, packet, traffic)


def _icmp_error(net: Net, traffic: Traffic) -> int:
    packet = packets.icmp_error(traffic.saddr, traffic.daddr, traffic.length)
    return _raw(net, packet, traffic)


def _stray_news(net: Net, traffic: Traffic) -> int:
    quoted = packets.udp(STRANGER, traffic.saddr, 1500, SPORT, DPORT)[:QUOTED]
    packet = packets.frag_needed(traffic.saddr, traffic.daddr, traffic.length, quoted)
    return _raw(net, packet, traffic)


def _tcp(net: Net, traffic: Traffic) -> int:
    """Put super-packets on the sender's cable, as a TCP socket or a guest's virtio queue would."""
    node, port = net.owner(traffic.saddr)
    frame = packets.ethernet(net.neighbour(node, traffic.daddr), node.macs[port.dev], traffic.saddr)
    packet = packets.tcp_segments(traffic.saddr, traffic.daddr, traffic.length, traffic.segments)
    header = packets.virtio_header(packet, traffic.length, len(frame))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sender.bind((port.dev, 0))
        for _ in range(traffic.count):
            sender.send(header + frame + packet)
    return 0


SENDERS: dict[str, Callable[[Net, Traffic], int]] = {
    "udp": _udp,
    "echo": _echo,
    "tcp": _tcp,
    "raw-udp": _raw_udp,
    "esp": _esp,
    "raw-options": _raw_options,
    "later-fragment": _later_fragment,
    "icmp-error": _icmp_error,
    "stray-news": _stray_news,
}
