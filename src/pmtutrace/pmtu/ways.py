"""The way to a destination, as routes and devices have it, without what was learned of it.

Asked with RTM_F_FIB_MATCH, the kernel answers with the route itself, all nexthops of it, and not
with the one that the hash of a flow would choose, nor with an exception (rtnetlink(7)).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.kernel import links, netlink
from pmtutrace.pmtu import exceptions
from pmtutrace.pmtu.exceptions import FAMILIES, METRICS, MTU, NUMBER, ROUTE, RTM_GETROUTE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

RTM_NEWROUTE = exceptions.RTM_NEWROUTE
RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x1000, 0x2000
RTA_MULTIPATH = 9
NEXTHOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, hops (weight - 1), ifindex
LONGEST = 65535  # octets of an IP packet, whatever the MTU of lo


class Leg(NamedTuple):
    """One nexthop: the device, its MTU in octets, and the gateway, None on the link itself.

    ``now`` is the MTU in force on that way, with what was learned of it; None where there is but
    one way, or where several leave by the same device, of which the kernel would choose.
    """

    dev: str
    ifindex: int
    gateway: str | None
    mtu: int
    now: int | None = None


class Way(NamedTuple):
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
    question = daddr, saddr, oif
    with netlink.opened() as asked:
        payload = _asked(asked, question, RTM_F_FIB_MATCH)
        if payload is None:
            return None  # refused: no route, an address that is not ours, a device that is gone
        found = _read(payload, asked, question)
        if found and oif is None and len({leg.ifindex for leg in found.legs}) > 1:
            legs = tuple(leg._replace(now=_now(asked, found, leg)) for leg in found.legs)
            found = found._replace(legs=legs)
        return found


def _asked(
    asked: socket.socket, question: tuple[str, str | None, int | None], flags: int
) -> bytes | None:
    """Return the body of the route that the kernel answers with; None where it refuses."""
    asked.send(request(*question, flags))
    for kind, _, _, payload in netlink.messages(asked.recv(netlink.RECEIVED_AT_MOST)):
        if kind == RTM_NEWROUTE:
            return payload
    return None


def _now(asked: socket.socket, found: Way, leg: Leg) -> int | None:
    """Return the MTU in force by way of one nexthop.

    A dump of exceptions does not tell: it leaves out those that no packet has met yet.
    """
    if sum(other.ifindex == leg.ifindex for other in found.legs) > 1:
        return None
    payload = _asked(asked, (found.daddr, found.saddr, leg.ifindex), 0)
    if payload is None:
        return None
    told = netlink.attributes(payload[ROUTE.size :])
    metrics = netlink.attributes(told.get(METRICS, b""))
    return exceptions.number(metrics.get(MTU)) or leg.mtu


def request(
    daddr: str, saddr: str | None = None, oif: int | None = None, flags: int = 0, sequence: int = 0
) -> bytes:
    """Return the question for a route; one with a number is acknowledged after the answer."""
    family = FAMILIES[6 if ":" in daddr else 4]
    bits = 128 if family == socket.AF_INET6 else 32
    attributes = [(exceptions.DST, socket.inet_pton(family, daddr))]
    if saddr:
        attributes.append((exceptions.SRC, socket.inet_pton(family, saddr)))
    if oif:
        attributes.append((exceptions.OIF, NUMBER.pack(oif)))
    body = ROUTE.pack(family, bits, bits if saddr else 0, 0, 0, 0, 0, 0, flags)
    for kind, value in attributes:
        body += netlink.ATTRIBUTE.pack(netlink.ATTRIBUTE.size + len(value), kind) + value
    length = netlink.HEADER.size + len(body)
    ask = netlink.REQUEST | (netlink.ACK if sequence else 0)
    return netlink.HEADER.pack(length, RTM_GETROUTE, ask, sequence, 0) + body


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
