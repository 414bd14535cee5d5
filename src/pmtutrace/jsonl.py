"""The JSON form of events and of the summary: the public interface, described in docs/events.md."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pmtutrace.events import (
    Drop,
    Fragmented,
    IcmpLost,
    IcmpReceived,
    PathMtuChange,
    TunnelChange,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pmtutrace.events import CounterKey, Event, Flow, InnerMtu, Outer, TunnelRef

SCHEMA = 1

# IANA protocol numbers that people know by name, spelled as nft and iproute2 do.
PROTOCOLS = {
    1: "icmp",
    4: "ipip",
    6: "tcp",
    17: "udp",
    33: "dccp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmpv6",
    115: "l2tp",
    132: "sctp",
    136: "udplite",
}


def timestamp(ns: int) -> str:
    """Return nanoseconds since the Unix epoch as ISO 8601 in UTC with microseconds."""
    moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 1_000_000_000 // 1000:06d}Z"


def seconds(value: float | None) -> float | None:
    """Return seconds as exact as the kernel tells when a route expires."""
    return None if value is None else round(value, 2)


def protocol(number: int) -> str | int:
    """Return a protocol by name, else its number."""
    return PROTOCOLS.get(number, number)


def flow(value: Flow) -> dict[str, Any]:
    """Return a flow as an object."""
    return {
        "saddr": value.saddr,
        "daddr": value.daddr,
        "proto": protocol(value.proto),
        "sport": value.sport,
        "dport": value.dport,
    }


def spi(number: int) -> str:
    """Return an SPI of IPsec as ip-xfrm(8) writes it."""
    return f"{number:#010x}"


def _outer(value: Outer | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"saddr": value.saddr, "daddr": value.daddr, "proto": protocol(value.proto)}


def _tunnel(value: TunnelRef | None) -> dict[str, Any] | None:
    return None if value is None else asdict(value)


def inner(tunnels: Iterable[InnerMtu]) -> list[dict[str, Any]]:
    """Return tunnels and what a path MTU leaves inside them."""
    return [{"name": one.name, "type": one.type, "mtu": one.mtu} for one in tunnels]


def _behind(value: CounterKey | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"site": value.site, "flow": flow(value.flow), "outer": _outer(value.outer)}


def head(kind: str, ts: int, netns: str | int | None) -> dict[str, Any]:
    """Return the members that every line begins with."""
    return {"type": kind, "ts": timestamp(ts), "schema": SCHEMA, "netns": netns}


def _path(value: PathMtuChange) -> dict[str, Any]:
    return {
        "change": value.change,
        "family": value.family,
        "daddr": value.daddr,
        "saddr": value.saddr,
        "dev": value.dev or None,
        "gateway": value.gateway,
        "table": value.table or None,
        "old": value.old,
        "new": value.new,
        "locked": value.locked,
        "expires": seconds(value.expires),
        "via": value.via,
        "from": value.router,
        "quoted": None if value.quoted is None else flow(value.quoted),
        "tunnels": inner(value.tunnels),
    }


def _drop(value: Drop) -> dict[str, Any]:
    return {
        "site": value.site,
        "location": value.location,
        "reason": value.reason,
        "verdict": value.verdict,
        "cause": value.cause,
        "len": value.length,
        "mtu": value.mtu,
        "gso": value.gso,
        "df": value.df,
        "family": value.family,
        "dev": value.dev or None,
        "indev": value.indev or None,
        "tunnel": _tunnel(value.tunnel),
        "flow": flow(value.flow),
        "outer": _outer(value.outer),
        "spi": None if value.spi is None else spi(value.spi),
        "mark": value.mark,
        "count": value.count,
    }


def _received(value: IcmpReceived) -> dict[str, Any]:
    return {
        "family": value.family,
        "from": value.router,
        "to": value.to,
        "mtu": value.mtu,
        "quoted": flow(value.flow),
        "outer": _outer(value.outer),
        "tunnel": _tunnel(value.tunnel),
        "dev": value.dev or None,
        "outcome": value.outcome,
        "effective": value.effective,
    }


def event(value: Event, names: Mapping[int, str]) -> dict[str, Any]:
    """Return an event as an object.

    Args:
        value: the event.
        names: network namespaces by inode; one without a name is given as its inode.
    """
    netns = names.get(value.netns, value.netns)
    match value:
        case Drop():
            return head("drop", value.ts, netns) | _drop(value)
        case IcmpLost():
            return head("icmp_lost", value.ts, netns) | {
                "site": value.site,
                "location": value.location,
                "reason": value.reason,
                "family": value.family,
                "to": value.to,
                "mtu": value.mtu,
                "quoted": flow(value.flow),
                "hook": value.hook,
                "drop": _behind(value.drop),
            }
        case IcmpReceived():
            return head("icmp_received", value.ts, netns) | _received(value)
        case Fragmented():
            return head("fragmented", value.ts, netns) | {
                "dev": value.dev,
                "mtu": value.mtu,
                "len": value.length,
                "tunnel": _tunnel(value.tunnel),
                "flow": flow(value.flow),
                "outer": _outer(value.outer),
                "count": value.count,
            }
        case TunnelChange():
            return head("tunnel", value.ts, netns) | {
                "change": value.what,
                "name": value.name,
                "kind": value.type,
                "mtu": value.mtu,
            }
        case PathMtuChange():
            return head("pmtu", value.ts, netns) | _path(value)
