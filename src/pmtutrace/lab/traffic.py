"""Traffic as data, and the senders that make exactly that many packets of it.

Each sender opens its socket inside the node's namespace. None of them waits for an answer, and none
is stopped by a path MTU that the kernel has learned: every packet is sent at full length.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmtutrace.errors import LabError
from pmtutrace.lab import packets

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmtutrace.lab.net import Net

COUNT = 23  # a prime: no accident doubles or halves it
SPORT, DPORT = 2323, 9
# linux/in.h, linux/in6.h, linux/if_packet.h; Python has no names for these.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IPV6_DONTFRAG = 10, 23, 62
PMTUDISC_DONT, PMTUDISC_PROBE = 0, 3
SOL_PACKET, PACKET_VNET_HDR = 263, 15


@dataclass(frozen=True, slots=True)
class Traffic:
    """Packets of one flow.

    Args:
        what: ``udp``, ``echo``, ``tcp``, or raw ones: ``raw-udp``, ``later-fragment``,
        ``icmp-error``. node: label of the sending node. saddr: source address; raw traffic may come
        from an address that nobody has. daddr: destination address. length: octets of each IP
        packet; of each segment for ``tcp``. count: packets sent; super-packets for ``tcp``. df:
        whether DF is set, or, for IPv6, the kernel kept from making fragments. segments: segments
        in each super-packet of ``tcp``. sink: have a UDP socket at the destination, so that no ICMP
        port unreachable comes back.
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


def send(net: Net, traffic: Traffic) -> None:
    """Send all packets of a traffic; all have been handed to the kernel when this returns.

    Raises:
        LabError: no such traffic is declared, or the kernel refused to send.
    """
    if traffic.what not in SENDERS:
        raise LabError(f"no such traffic: {traffic.what!r}", f"it is one of {', '.join(SENDERS)}")
    if traffic.sink:
        _sink(net, traffic)
    try:
        net[traffic.node].run(lambda: SENDERS[traffic.what](net, traffic))
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


def _discover(sender: socket.socket, *, df: bool) -> None:
    """Set or clear DF on a socket, without regard to what the kernel has learned of the path."""
    mode = PMTUDISC_PROBE if df else PMTUDISC_DONT
    if sender.family == socket.AF_INET:
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, mode)
    else:
        sender.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, mode)
        sender.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, int(df))


def _sent(sender: socket.socket, octets: bytes, address: tuple[str, int]) -> None:
    """Send once; a packet that dies in this very namespace says so at once, by EMSGSIZE."""
    try:
        sender.sendto(octets, address)
    except OSError as error:
        if error.errno != errno.EMSGSIZE:
            raise


def _udp(_net: Net, traffic: Traffic) -> None:
    payload = bytes(traffic.length - packets.header_length(traffic.saddr) - 8)
    with socket.socket(packets.family(traffic.saddr), socket.SOCK_DGRAM) as sender:
        _discover(sender, df=traffic.df)
        sender.bind((traffic.saddr, SPORT))
        for number in range(traffic.count):
            more = bytes(number * traffic.longer)
            _sent(sender, payload + more, (traffic.daddr, DPORT))


def _echo(_net: Net, traffic: Traffic) -> None:
    family = packets.family(traffic.saddr)
    proto = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    length = traffic.length - packets.header_length(traffic.saddr)
    with socket.socket(family, socket.SOCK_RAW, proto) as sender:
        _discover(sender, df=traffic.df)
        sender.bind((traffic.saddr, 0))
        for sequence in range(traffic.count):
            _sent(sender, packets.echo_request(traffic.saddr, length, sequence), (traffic.daddr, 0))


def _raw(packet: bytes, traffic: Traffic) -> None:
    """Send a packet with a header of our own (raw(7): IPPROTO_RAW implies IP_HDRINCL)."""
    with socket.socket(
        packets.family(traffic.saddr), socket.SOCK_RAW, socket.IPPROTO_RAW
    ) as sender:
        for _ in range(traffic.count):
            _sent(sender, packet, (traffic.daddr, 0))


def _raw_udp(_net: Net, traffic: Traffic) -> None:
    _raw(packets.udp(traffic.saddr, traffic.daddr, traffic.length, SPORT, DPORT), traffic)


def _later_fragment(_net: Net, traffic: Traffic) -> None:
    _raw(packets.later_fragment(traffic.saddr, traffic.daddr, traffic.length), traffic)


def _icmp_error(_net: Net, traffic: Traffic) -> None:
    _raw(packets.icmp_error(traffic.saddr, traffic.daddr, traffic.length), traffic)


def _tcp(net: Net, traffic: Traffic) -> None:
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


SENDERS: dict[str, Callable[[Net, Traffic], None]] = {
    "udp": _udp,
    "echo": _echo,
    "tcp": _tcp,
    "raw-udp": _raw_udp,
    "later-fragment": _later_fragment,
    "icmp-error": _icmp_error,
}
