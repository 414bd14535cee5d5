"""Names and MTUs of devices, asked one by one (netdevice(7))."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING

from pmtutrace.printable import printable

if TYPE_CHECKING:
    import socket

SIOCGIFNAME, SIOCGIFMTU = 0x8910, 0x8921  # linux/sockios.h
IFREQ = struct.Struct("=16si20x")  # struct ifreq: name, then index or MTU


def name(asked: socket.socket, ifindex: int) -> str:
    """Return the name of a device of a socket's namespace, empty where it has just gone."""
    return printable(os.fsdecode(_name(asked, ifindex)))


def mtu(asked: socket.socket, ifindex: int) -> int:
    """Return the MTU of a device of a socket's namespace, 0 where it has just gone."""
    try:
        answer = fcntl.ioctl(asked, SIOCGIFMTU, IFREQ.pack(_name(asked, ifindex), 0))
    except OSError:
        return 0
    found: int = IFREQ.unpack(answer)[1]
    return found


def _name(asked: socket.socket, ifindex: int) -> bytes:
    try:
        answer = fcntl.ioctl(asked, SIOCGIFNAME, IFREQ.pack(b"", ifindex))
    except OSError:
        return b""
    found: bytes = IFREQ.unpack(answer)[0]
    return found.partition(b"\0")[0]
