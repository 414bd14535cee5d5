"""The little of netlink(7) that is needed too often, or in too many places, for a library.

Messages and attributes are in host byte order and padded to four octets (linux/netlink.h).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
CODE = struct.Struct("=i")  # a negative errno
TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK: without the flags "nested" and "network byte order"
ERROR, DONE = 2, 3  # NLMSG_*
REQUEST, ACK, DUMP, INTERRUPTED = 0x1, 0x4, 0x300, 0x10  # NLM_F_*
SOL_NETLINK = 270
ADD_MEMBERSHIP, GET_STRICT_CHECK = 1, 12  # NETLINK_*
LINK, IPV4_ADDRESS, IPV4_ROUTE, IPV6_ADDRESS, IPV6_ROUTE, NEXTHOP = 1, 5, 7, 9, 11, 32  # RTNLGRP_*
RECEIVED_AT_MOST = 65536  # twice the longest message of a dump
HEARD_AT_MOST = 1024  # more than a socket has room for, unless somebody has made it more


def messages(octets: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield type, flags, sequence number and payload of each message.

    Raises:
        OSError: EBADMSG, a message ends beyond the octets or within its own header.
    """
    at = 0
    while at < len(octets):
        if len(octets) - at < HEADER.size:
            raise _malformed()
        length, kind, flags, sequence, _ = HEADER.unpack_from(octets, at)
        if not HEADER.size <= length <= len(octets) - at:
            raise _malformed()
        yield kind, flags, sequence, octets[at + HEADER.size : at + length]
        at += _padded(length)


def attributes(octets: bytes) -> dict[int, bytes]:
    """Return attributes by type; of several of one type, the last.

    Raises:
        OSError: EBADMSG, an attribute ends beyond the octets or within its own header.
    """
    found = {}
    at = 0
    while at < len(octets):
        if len(octets) - at < ATTRIBUTE.size:
            raise _malformed()
        length, kind = ATTRIBUTE.unpack_from(octets, at)
        if not ATTRIBUTE.size <= length <= len(octets) - at:
            raise _malformed()
        found[kind & TYPE_MASK] = octets[at + ATTRIBUTE.size : at + length]
        at += _padded(length)
    return found


def outcome(payload: bytes) -> int:
    """Return the errno of an ERROR or DONE message, 0 where all went well.

    Raises:
        OSError: EBADMSG, it holds none.
    """
    if len(payload) < CODE.size:
        raise _malformed()
    code: int = CODE.unpack_from(payload)[0]
    return -code


def opened(groups: Iterable[int] = ()) -> socket.socket:
    """Return a NETLINK_ROUTE socket in the calling thread's namespace that hears these groups.

    It keeps that namespace alive.
    """
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        made.bind((0, 0))
        for group in groups:
            made.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
    except OSError:
        made.close()
        raise
    return made


def heard(bell: socket.socket) -> Iterator[bytes]:
    """Yield what a socket has heard, without waiting; nothing at all for what it had no room for.

    Its messages are of any length, so one at a time. They may come faster than they are taken: what
    is more than a thousand is left for the next time.
    """
    for _ in range(HEARD_AT_MOST):
        try:
            yield bell.recv(RECEIVED_AT_MOST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield b""


def _padded(length: int) -> int:
    return length + 3 & ~3


def _malformed() -> OSError:
    return OSError(errno.EBADMSG, f"netlink: {os.strerror(errno.EBADMSG)}")
