"""What was dropped, in the words of an expectation; and whether it is what was expected."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypedDict

from pmtutrace.jsonl import protocol
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from pmtutrace.events import Counter, CounterKey, Outer
    from pmtutrace.lab import Net, Node

Value = str | int | bool | None


class Words(TypedDict, total=False):
    """What a test can expect of drops; what it does not name may be anything.

    ``node`` is the label of a node, ``dev`` the device that the packet was to leave by, ``tunnel``
    the name of its tunnel. ``site``, ``verdict`` and ``cause`` are those of events. ``mtu`` is the
    MTU in force, in octets, the last one where it changed. ``family`` is 4 or 6. ``outer`` says
    whether the packet had its outer header already. ``saddr``, ``daddr``, ``proto`` (by name, or
    the IANA number), ``sport`` and ``dport`` are those of the innermost flow. None expects that
    there is no such thing.
    """

    node: str
    dev: str
    tunnel: str | None
    site: str
    verdict: str
    cause: str | None
    mtu: int
    family: int
    outer: bool
    saddr: str
    daddr: str
    proto: str | int
    sport: int | None
    dport: int | None


@dataclass(frozen=True, slots=True)
class Dropped:
    """One counter: its key, its sums, and both in the words of an expectation.

    ``tunnels`` are the tunnels that it may have been in: two tunnels can have the same endpoints.
    """

    key: CounterKey
    counter: Counter
    words: Mapping[str, Value]
    tunnels: tuple[str, ...]

    def matches(self, expected: Mapping[str, Value]) -> bool:
        """Say whether it is as expected, in each word that is given."""
        return all(
            value in self.tunnels if name == "tunnel" and value else self.words[name] == value
            for name, value in expected.items()
        )


def normal(words: Words) -> dict[str, Value]:
    """Return an expectation with addresses and protocols spelled as in counters.

    Raises:
        TypeError: something is expected that drops do not have.
        ValueError: an address is none.
    """
    unknown = words.keys() - Words.__annotations__.keys()
    if unknown:
        known = ", ".join(Words.__annotations__)
        raise TypeError(f"drops have no {', '.join(sorted(unknown))}; they have {known}")
    found: dict[str, Value] = {}
    for name, value in words.items():
        if name in ("saddr", "daddr"):
            found[name] = str(ip_address(str(value)))
        elif name == "proto" and isinstance(value, int):
            found[name] = protocol(value)
        else:
            found[name] = value if value is None or isinstance(value, int) else str(value)
    return found


def describe(net: Net | None, key: CounterKey, counter: Counter) -> Dropped:
    """Put a counter in words; ``net`` is the lab that it is of, None where nobody knows."""
    node = next((node for node in net or () if node.inum == key.netns), None)
    dev = device(node, key.ifindex) if node else ""
    tunnels = in_tunnels(net, node, dev, key.outer) if net and node else ()
    words: dict[str, Value] = {
        "node": node.label if node else "",
        "dev": dev,
        "tunnel": "/".join(tunnels) or None,
        "site": key.site,
        "verdict": key.verdict,
        "cause": key.cause,
        "mtu": counter.mtu,
        "family": key.family,
        "outer": key.outer is not None,
        "saddr": key.flow.saddr,
        "daddr": key.flow.daddr,
        "proto": protocol(key.flow.proto),
        "sport": key.flow.sport,
        "dport": key.flow.dport,
    }
    return Dropped(key, counter, words, tunnels)


def device(node: Node, ifindex: int) -> str:
    """Return the name of a node's device, an empty string where it is gone.

    Names that a test made up itself are not in the topology; they are escaped, as they may be
    anything.
    """
    for name, index in node.ifindexes.items():
        if index == ifindex:
            return name
    try:
        return printable(node.run(lambda: socket.if_indextoname(ifindex)))
    except OSError:
        return ""


def in_tunnels(net: Net, node: Node, dev: str, outer: Outer | None) -> tuple[str, ...]:
    """Return the tunnels of the topology that a packet at a device of a node may have been in.

    A packet that has its outer header already is in one with those endpoints, any other in the one
    whose device it was to leave by.
    """
    found = []
    for tunnel in net.topology.tunnels:
        for near, port in enumerate(tunnel.ends):
            if outer:
                ends = tunnel.endpoints[near], tunnel.endpoints[1 - near]
                inside = ends == (outer.saddr, outer.daddr)
            else:
                inside = port.dev == dev
            if inside and port.node == node.label:
                found.append(port.dev)
    return tuple(found)
