"""A path MTU exception of the kernel, and the netlink messages that tell of it.

A dump of routes (RTM_GETROUTE) that asks for RTM_F_CLONED, under strict checking, is answered with
exceptions and nothing else, from 5.3 on. An IPv4 one that no packet has met yet has no route
attached, and the kernel leaves it out (net/ipv4/route.c: fnhe_dump_bucket()); that somebody asks
for the route is enough to attach one. Of an IPv6 route with several nexthops it leaves out what was
learned of any but the first (net/ipv6/ip6_fib.c: fib6_dump_node()), but says so when asked for it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import NamedTuple

from pmtutrace.kernel import netlink

RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_F_CLONED = 0x200
RTCF_REDIRECTED = 0x40000  # linux/in_route.h
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
# linux/rtnetlink.h: struct rtmsg is family, lengths of destination and source, TOS, table,
# protocol, scope, type, flags; struct rta_cacheinfo begins with references, last use, expiry.
ROUTE = struct.Struct("=8BI")
CACHE = struct.Struct("=IIi")
NUMBER = struct.Struct("=I")
DST, SRC, OIF, GATEWAY, METRICS, CACHEINFO, TABLE, VIA = 1, 2, 4, 5, 8, 12, 15, 18  # RTA_*
LOCK, MTU = 1, 2  # RTAX_*
USER_HZ = 100  # what the kernel tells times in, on every architecture that has BPF

Key = tuple[int, str, str | None, int, str | None, int]
Way = tuple[str, int, str | None, int]


class PathMtu(NamedTuple):
    """What the kernel has learned of the path to one destination by one nexthop.

    ``family`` is 4 or 6. ``saddr`` is None but where IPv6 routes depend on the source. ``gateway``
    is None on the link itself. ``table`` is the number of the routing table, 0 where it is not
    known. ``mtu`` is in octets; of a ``locked`` one the kernel takes no news until it expires, and
    tunnels stop setting DF. ``expires`` is in seconds from the reading on; None for never.
    ``redirected`` says of IPv4 that a redirect leads to its gateway, and not the route.
    """

    family: int
    daddr: str
    saddr: str | None
    ifindex: int
    gateway: str | None
    table: int
    mtu: int
    locked: bool
    expires: float | None
    redirected: bool = False

    @property
    def key(self) -> Key:
        """Return what stays the same while the exception lives."""
        return self.family, self.daddr, self.saddr, self.ifindex, self.gateway, self.table

    @property
    def way(self) -> Way:
        """Return where packets to it go: destination, device, gateway and table."""
        return self.daddr, self.ifindex, self.gateway, self.table


def request(family: int, sequence: int) -> bytes:
    """Return the request for all exceptions of IP version 4 or 6."""
    body = ROUTE.pack(FAMILIES[family], 0, 0, 0, 0, 0, 0, 0, RTM_F_CLONED)
    flags = netlink.REQUEST | netlink.DUMP
    length = netlink.HEADER.size + len(body)
    return netlink.HEADER.pack(length, RTM_GETROUTE, flags, sequence, 0) + body


def in_force(payload: bytes) -> tuple[int, int, bool]:
    """Read a route: its device's index, its MTU as it is in force or 0, and whether that is locked.

    Raises:
        OSError: EBADMSG, it ends too early or its parts do not fit together.
    """
    told = netlink.attributes(payload[ROUTE.size :])
    metrics = netlink.attributes(told.get(METRICS, b""))
    try:
        locked = bool(number(metrics.get(LOCK)) & 1 << MTU)
        return number(told.get(OIF)), number(metrics.get(MTU)), locked
    except struct.error as error:
        raise OSError(errno.EBADMSG, f"netlink: {os.strerror(errno.EBADMSG)}") from error


def way(payload: bytes) -> Way:
    """Read where the route that the kernel chose for one address leads.

    Raises:
        OSError: EBADMSG, it ends too early or its parts do not fit together.
    """
    try:
        family, _, _, _, table, *_ = ROUTE.unpack_from(payload)
        told = netlink.attributes(payload[ROUTE.size :])
        daddr = socket.inet_ntop(family, told[DST])
        table = number(told.get(TABLE)) or table
        return daddr, number(told.get(OIF)), gateway(family, told), table
    except (struct.error, ValueError, KeyError) as error:
        raise OSError(errno.EBADMSG, f"netlink: {os.strerror(errno.EBADMSG)}") from error


def exception(payload: bytes) -> PathMtu | None:
    """Read the body of an RTM_NEWROUTE message; None where it is no path MTU exception.

    Raises:
        OSError: EBADMSG, it ends too early or its parts do not fit together.
    """
    try:
        return _exception(payload)
    except (struct.error, ValueError) as error:
        raise OSError(errno.EBADMSG, f"netlink: {os.strerror(errno.EBADMSG)}") from error


def _exception(payload: bytes) -> PathMtu | None:
    family, _, _, _, table, *_, flags = ROUTE.unpack_from(payload)
    version = next((v for v, value in FAMILIES.items() if value == family), None)
    if version is None or not flags & RTM_F_CLONED:
        return None
    told = netlink.attributes(payload[ROUTE.size :])
    metrics = netlink.attributes(told.get(METRICS, b""))
    if DST not in told or MTU not in metrics:
        return None  # a redirect that is no more than that
    left = CACHE.unpack_from(told[CACHEINFO])[2] if CACHEINFO in told else 0
    if not left and version == 4:
        return None  # the route's own MTU, after a flush or a redirect; or the last instant
    expires = left / USER_HZ if left else None
    return PathMtu(
        family=version,
        daddr=socket.inet_ntop(family, told[DST]),
        saddr=socket.inet_ntop(family, told[SRC]) if SRC in told else None,
        ifindex=number(told.get(OIF)),
        gateway=gateway(family, told),
        table=number(told.get(TABLE)) or table,
        mtu=number(metrics[MTU]),
        locked=bool(number(metrics.get(LOCK)) & 1 << MTU),
        expires=expires,
        redirected=version == 4 and bool(flags & RTCF_REDIRECTED),
    )


def gateway(family: int, told: dict[int, bytes]) -> str | None:
    """Return the gateway that the attributes of a route name; None on the link itself."""
    if GATEWAY in told:
        return socket.inet_ntop(family, told[GATEWAY])
    if VIA not in told:
        return None
    # struct rtvia: the gateway of an IPv4 route may be an IPv6 address (5.2, d15662682db2).
    (other,) = struct.unpack_from("=H", told[VIA])
    if other not in FAMILIES.values():
        return None
    return socket.inet_ntop(other, told[VIA][2:])


def number(value: bytes | None) -> int:
    """Return an attribute of 32 bits, 0 where there is none."""
    found: int = NUMBER.unpack_from(value)[0] if value is not None else 0
    return found
