"""The way to a destination, as routes and devices have it, without what was learned of it.

Asked with RTM_F_FIB_MATCH, the kernel answers with the route itself, all nexthops of it, and not
with the one that the hash of a flow would choose, nor with an exception (rtnetlink(7)).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmtutrace.kernel import links, netlink
from pmtutrace.pmtu import exceptions
from pmtutrace.pmtu.exceptions import FAMILIES, METRICS, MTU, NUMBER, ROUTE, RTM_GETROUTE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

RTM_NEWROUTE = exceptions.RTM_NEWROUTE
RTM_F_FIB_MATCH = 0x2000
RTA_MULTIPATH = 9
NEXTHOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, hops (weight - 1), ifindex
LONGEST = 65535  # octets of an IP packet, whatever the MTU of lo


@dataclass(frozen=True, slots=True)
class Leg:
    """One nexthop: the device, its MTU in octets, and the gateway, None on the link itself."""

    dev: str
    ifindex: int
    gateway: str | None
    mtu: int


@dataclass(frozen=True, slots=True)
class Way:
    """The route to an address and its nexthops.

    ``saddr`` and ``oif`` are what was asked with, as a tunnel asks; None where nothing. ``mtu`` is
    what an administrator gave the route, None where nothing; ``locked`` if for good.
    """

    daddr: str
    legs: tuple[Leg, ...]
    mtu: int | None = None
    locked: bool = False
    saddr: str | None = None
    oif: int | None = None

    def limit(self, but: Collection[int] = ()) -> int | None:
        """Return the MTU without anything learned: the narrowest nexthop's, or the route's own.

        Args:
            but: devices whose nexthops do not count, by ifindex; None comes of it if all are.
        """
        mtus = [leg.mtu for leg in self.legs if leg.ifindex not in but]
        return min([*mtus, *([self.mtu] if self.mtu else [])]) if mtus else None


def way(daddr: str, saddr: str | None = None, oif: int | None = None) -> Way | None:
    """Ask the calling thread's namespace; None where there is no way.

    Args:
        daddr: the destination.
        saddr: the source that packets have; None where routing chooses it.
        oif: the device that they must leave by; None where routing chooses it.
    """
    with netlink.opened() as asked:
        asked.send(_request(daddr, saddr, oif))
        for kind, _, _, payload in netlink.messages(asked.recv(netlink.RECEIVED_AT_MOST)):
            if kind == RTM_NEWROUTE:
                return _read(payload, asked, (daddr, saddr, oif))
    return None  # refused: no route, an address that is not ours, a device that is gone


def _request(daddr: str, saddr: str | None, oif: int | None) -> bytes:
    family = FAMILIES[6 if ":" in daddr else 4]
    bits = 128 if family == socket.AF_INET6 else 32
    attributes = [(exceptions.DST, socket.inet_pton(family, daddr))]
    if saddr:
        attributes.append((exceptions.SRC, socket.inet_pton(family, saddr)))
    if oif:
        attributes.append((exceptions.OIF, NUMBER.pack(oif)))
    body = ROUTE.pack(family, bits, bits if saddr else 0, 0, 0, 0, 0, 0, RTM_F_FIB_MATCH)
    for kind, value in attributes:
        body += netlink.ATTRIBUTE.pack(netlink.ATTRIBUTE.size + len(value), kind) + value
    length = netlink.HEADER.size + len(body)
    return netlink.HEADER.pack(length, RTM_GETROUTE, netlink.REQUEST, 1, 0) + body


def _read(
    payload: bytes, asked: socket.socket, question: tuple[str, str | None, int | None]
) -> Way | None:
    """Read the body of an RTM_NEWROUTE message; None where it is no way for packets.

    Raises:
        OSError: EBADMSG, it ends too early or its parts do not fit together.
    """
    try:
        family = ROUTE.unpack_from(payload)[0]
        told = netlink.attributes(payload[ROUTE.size :])
        metrics = netlink.attributes(told.get(METRICS, b""))
        legs = tuple(
            Leg(name, index, exceptions.gateway(family, hop), min(mtu, LONGEST))
            for index, hop in _hops(told)
            for name, mtu in [(links.name(asked, index), links.mtu(asked, index))]
            if name and mtu
        )
    except (struct.error, ValueError) as error:
        raise OSError(errno.EBADMSG, f"netlink: {os.strerror(errno.EBADMSG)}") from error
    if not legs:
        return None  # blackhole, unreachable, or its device has just gone
    locked = bool(exceptions.number(metrics.get(exceptions.LOCK)) & 1 << MTU)
    daddr, saddr, oif = question
    return Way(daddr, legs, exceptions.number(metrics.get(MTU)) or None, locked, saddr, oif)


def _hops(told: dict[int, bytes]) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Yield device and attributes of each nexthop."""
    if RTA_MULTIPATH not in told:
        if exceptions.OIF in told:
            yield exceptions.number(told[exceptions.OIF]), told
        return
    rest = told[RTA_MULTIPATH]
    while rest:
        length, _, _, index = NEXTHOP.unpack_from(rest)
        if not NEXTHOP.size <= length <= len(rest):
            raise ValueError
        yield index, netlink.attributes(rest[NEXTHOP.size : length])
        rest = rest[(length + 3) & ~3 :]
