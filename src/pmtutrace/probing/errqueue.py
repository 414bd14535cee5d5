"""What a socket with IP_RECVERR is told about its packets: ip(7), ipv6(7), linux/errqueue.h."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass

IP_RECVERR, IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h; Python has no names for these
LOCAL, ICMP, ICMP6 = 1, 2, 3  # SO_EE_ORIGIN_*
PORT_UNREACHABLE = {ICMP: (3, 3), ICMP6: (1, 4)}  # type and code
# struct sock_extended_err: errno, origin, type, code, padding, info, data. Native byte order.
EXTENDED = struct.Struct("=IBBBxII")
ANCILLARY = 512
QUOTED = 64  # octets wanted of the packet that the error is about


@dataclass(frozen=True, slots=True)
class SocketError:
    """One entry of an error queue.

    ``by`` is who sent the ICMP message, None for errors of this kernel's own. ``mtu`` is None where
    the message names none. ``port`` is the destination port of the packet, ``quoted`` what of it
    comes after its IP header (ICMP) or its UDP header; neither is there for local errors.
    """

    code: int
    by: str | None
    mtu: int | None
    port: int
    quoted: bytes
    port_unreachable: bool


def read(sock: socket.socket) -> SocketError | None:
    """Take one entry off a socket's error queue; None where it is empty."""
    flags = socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
    try:
        quoted, ancillary, _, address = sock.recvmsg(QUOTED, ANCILLARY, flags)
    except BlockingIOError:
        return None
    for level, kind, data in ancillary:
        if (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
            return parse(data, quoted, address[1] if address else 0)
    return SocketError(0, None, None, 0, quoted, False)  # of another kind: nothing to learn from


def parse(data: bytes, quoted: bytes, port: int) -> SocketError:
    """Make sense of a sock_extended_err and the sockaddr of its sender behind it."""
    code, origin, kind, subcode, info, _ = EXTENDED.unpack_from(data)
    return SocketError(
        code,
        _offender(data[EXTENDED.size :]) if origin in (ICMP, ICMP6) else None,
        info or None if code == errno.EMSGSIZE else None,
        port,
        quoted if origin != LOCAL else b"",
        PORT_UNREACHABLE.get(origin) == (kind, subcode),
    )


def _offender(sockaddr: bytes) -> str | None:
    """Return the address of a sockaddr_in or sockaddr_in6; None where there is none."""
    (family,) = struct.unpack_from("=H", sockaddr.ljust(2, b"\0"))
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(sockaddr[4:8]))
    if family == socket.AF_INET6:
        return str(ipaddress.IPv6Address(sockaddr[8:24]))
    return None
