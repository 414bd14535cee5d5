"""Read a frag-needed or packet-too-big message and the flow that it quotes.

RFC 792 and 1191 (type 3 code 4, next-hop MTU in octets 6 and 7), RFC 4443 section 3.2.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from pmtutrace.events import Flow

_WITH_PORTS = frozenset({6, 17, 33, 132, 136})
_ECHO = {1: (b"\x08", b"\0"), 58: (b"\x80", b"\x81")}  # request and reply, by protocol


class Message(NamedTuple):
    """Whom a message is for, which MTU it reports (0 if cut off), and the packet that it quotes."""

    family: int
    to: str
    mtu: int
    quoted: Flow


def read_message(packet: bytes) -> Message:
    """Read a message from its IP header on; what is cut off is left empty."""
    if packet[:1] and packet[0] >> 4 == 6:
        to = _address(packet[24:40]) if len(packet) >= 40 else ""
        (mtu,) = struct.unpack("!I", packet[44:48].ljust(4, b"\0"))
        return Message(6, to, mtu, _flow6(packet[48:]))
    header = (packet[0] & 15) * 4 if packet else 20
    (mtu,) = struct.unpack("!H", packet[header + 6 : header + 8].ljust(2, b"\0"))
    return Message(4, _address(packet[16:20]), mtu, _flow4(packet[header + 8 :]))


def _address(octets: bytes) -> str:
    if len(octets) == 4:
        return socket.inet_ntop(socket.AF_INET, octets)
    return socket.inet_ntop(socket.AF_INET6, octets) if len(octets) == 16 else ""


def _flow4(quoted: bytes) -> Flow:
    if len(quoted) < 20:
        return Flow("", "", 0)
    header = (quoted[0] & 15) * 4
    whole = header >= 20 and not quoted[6] & 0x1F and not quoted[7]
    upper = quoted[header:] if whole else b""
    return _flow(_address(quoted[12:16]), _address(quoted[16:20]), quoted[9], upper)


def _flow6(quoted: bytes) -> Flow:
    if len(quoted) < 40:
        return Flow("", "", 0)
    return _flow(_address(quoted[8:24]), _address(quoted[24:40]), quoted[6], quoted[40:])


def _flow(saddr: str, daddr: str, proto: int, upper: bytes) -> Flow:
    if proto in _WITH_PORTS and len(upper) >= 4:
        return Flow(saddr, daddr, proto, *struct.unpack("!HH", upper[:4]))
    if upper[:1] in _ECHO.get(proto, ()) and len(upper) >= 6:
        return Flow(saddr, daddr, proto, *struct.unpack("!H", upper[4:6]))
    return Flow(saddr, daddr, proto)
