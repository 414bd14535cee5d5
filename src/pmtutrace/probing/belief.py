"""What this kernel believes of a path, as ``ip route get`` shows it: rtnetlink(7)."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RTAX_MTU = 2
RTM_F_FIB_MATCH = 0x2000  # linux/rtnetlink.h: the route itself, without what was learned
CLOCK_TICKS = 100  # USER_HZ, the unit of rta_expires on every architecture that matters here
LONGEST = 65535  # octets of an IP packet, whatever the MTU of lo


@dataclass(frozen=True, slots=True)
class Belief:
    """The route to an address, and the path MTU in force on it.

    ``expires`` is in seconds, None where the MTU is not a learned one: then it is the device's, or
    that of the route. ``locked`` means that the kernel does not go below it, and sends without DF.
    ``route_mtu`` is what an administrator gave the route, None where nothing; ``source`` is the
    address that packets leave with.
    """

    dev: str
    ifindex: int
    dev_mtu: int
    mtu: int
    locked: bool = False
    expires: float | None = None
    route_mtu: int | None = None
    source: str | None = None

    @property
    def learned(self) -> bool:
        """Say whether the MTU comes from a message, and says less than the route does."""
        return self.expires is not None and self.mtu != self.route_mtu


def believed(address: str, oif: int | None = None) -> Belief:
    """Ask the kernel of the calling thread's namespace.

    Args:
        address: IPv4 or IPv6 address, with %scope where it has one.
        oif: ifindex of the device that packets must leave by, None where routing chooses it.

    Raises:
        OSError: there is no way to it, in the kernel's words.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    bare, _, scope = address.partition("%")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    chosen: dict[str, Any] = {"family": family, "dst": bare}
    if oif or scope:
        chosen["oif"] = oif or socket.if_nametoindex(scope)
    try:
        with IPRoute() as netlink:
            (route,) = netlink.route("get", **chosen)
            (given,) = netlink.route("get", flags=RTM_F_FIB_MATCH, **chosen)
            (link,) = netlink.get_links(route.get_attr("RTA_OIF"))
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error
    except ValueError as error:
        raise OSError(0, "the kernel knows no route to it") from error
    return _read(route, given, link, family)


def _read(
    route: Any,  # noqa: ANN401 -- pyroute2 has no types
    given: Any,  # noqa: ANN401
    link: Any,  # noqa: ANN401
    family: int,
) -> Belief:
    """Make a Belief of two RTM_NEWROUTE and an RTM_NEWLINK message."""
    dev = os.fsdecode(link.get_attr("IFLA_IFNAME"))
    dev_mtu = min(link.get_attr("IFLA_MTU"), LONGEST)
    mtu, lock = _metric(route, "RTAX_MTU"), _metric(route, "RTAX_LOCK")
    cache = route.get_attr("RTA_CACHEINFO")
    ticks = cache["rta_expires"] if cache else 0
    return Belief(
        dev=dev,
        ifindex=link["index"],
        dev_mtu=dev_mtu,
        mtu=min(mtu or _default(dev, family, dev_mtu), dev_mtu),
        locked=bool(mtu and lock and lock & 1 << RTAX_MTU),
        # Routes that a router advertised expire as well, but have no MTU of their own.
        expires=ticks / CLOCK_TICKS if mtu and ticks > 0 else None,
        route_mtu=_metric(given, "RTAX_MTU"),
        source=route.get_attr("RTA_PREFSRC"),
    )


def _metric(route: Any, name: str) -> int | None:  # noqa: ANN401
    metrics = route.get_attr("RTA_METRICS")
    return metrics.get_attr(name) if metrics else None


def _default(dev: str, family: int, dev_mtu: int) -> int:
    """Return the MTU of routes without one: IPv6 has its own, which routers may advertise."""
    if family == socket.AF_INET6 and "/" not in dev:
        try:
            return int(Path(f"/proc/sys/net/ipv6/conf/{dev}/mtu").read_text())
        except (OSError, ValueError):
            return dev_mtu
    return dev_mtu
