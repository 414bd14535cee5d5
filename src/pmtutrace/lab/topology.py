"""Topologies as data: nodes (namespaces), the links, bridges and tunnels between them, and routes.

A node exists because something in the declaration names it. Neighbours need no declaration: whoever
shares a subnet knows the others' link-layer addresses for good, so no ARP or neighbour discovery
is ever sent and device counters count nothing but the traffic of the scenario.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


ANYBODY = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a link: a device of a node.

    ``addresses`` are in CIDR notation, both versions mixed; ``bridge`` is the bridge device of the
    node that it belongs to. ``mtu`` None leaves the kernel's choice. One that ``resolves`` asks for
    neighbours that it does not know, by ARP or neighbour discovery.
    """

    node: str
    dev: str
    addresses: tuple[str, ...] = ()
    mtu: int | None = 1500
    bridge: str | None = None
    resolves: bool = False


@dataclass(frozen=True, slots=True)
class Veth:
    """A cable between two nodes."""

    ends: tuple[Port, Port]


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel between two nodes, given the addresses of its endpoints in the order of its ends.

    ``type`` is one of :data:`pmtutrace.lab.devices.TUNNELS`. ``key`` is the VNI or GRE key, ``df``
    the option of that name (``unset``, ``set``, ``inherit``), ``options`` are further ones: those
    that the type has a word for, else link attributes without the prefix of their type. An
    ``external`` one has neither endpoints nor key of its own: routes carry them. ``far`` are
    members that are different at the second end. ``links`` are the devices, one at each end, by
    which its packets must leave; None where routes may choose.
    """

    type: str
    ends: tuple[Port, Port]
    endpoints: tuple[str, str]
    key: int | None = None
    df: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    external: bool = False
    far: Mapping[str, Any] = field(default_factory=dict)
    links: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Security:
    """IPsec in tunnel mode between two nodes, given their addresses in the order of ``nodes``.

    ``behind`` are the networks behind each of them that are protected, both IP versions mixed; only
    those of the same version meet. ``mark`` and ``if_id`` tie it to a device. ``states`` False sets
    up policies without any association, ``block`` policies that let nothing pass.
    """

    nodes: tuple[str, str]
    endpoints: tuple[str, str]
    behind: tuple[tuple[str, ...], tuple[str, ...]] = (ANYBODY, ANYBODY)
    mark: int | None = None
    if_id: int | None = None
    states: bool = True
    block: bool = False

    def pairs(self, end: int) -> tuple[tuple[str, str], ...]:
        """Return the pairs of networks behind one end and behind the other."""
        return tuple(
            (near, far)
            for near, far in itertools.product(self.behind[end], self.behind[1 - end])
            if (":" in near) == (":" in far)
        )


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge device that joins the ports of its node that name it.

    ``type`` is ``bridge`` or ``openvswitch``, which joins two.
    """

    node: str
    dev: str
    addresses: tuple[str, ...] = ()
    type: str = "bridge"

    @property
    def port(self) -> Port:
        """Return the device itself."""
        return Port(self.node, self.dev, self.addresses, mtu=None)


@dataclass(frozen=True, slots=True)
class Encap:
    """What a route tells an external tunnel about each packet: endpoints, key, DF of its header.

    ``options`` are those of a Geneve header: class, type, a multiple of four octets in hexadecimal.
    """

    local: str
    remote: str
    key: int
    df: bool = False
    options: tuple[tuple[int, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Leg:
    """One of the ways of a route that has several."""

    dev: str
    via: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A route of a node, in the main table if no other is named.

    ``mtu`` is the route's own, below that of the device; one that is ``locked`` does not change
    with what is learned of the path. ``encap`` is for a device that is an external tunnel. One that
    has ``legs`` has no way besides.
    """

    node: str
    to: str
    via: str | None = None
    dev: str | None = None
    mtu: int | None = None
    locked: bool = False
    encap: Encap | None = None
    table: int | None = None
    legs: tuple[Leg, ...] = ()


@dataclass(frozen=True, slots=True)
class Queue:
    """The queueing discipline of a device, with its options in pyroute2's spelling."""

    node: str
    dev: str
    kind: str
    options: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Topology:
    """What is built for a scenario.

    ``routers`` forward both IP versions. ``sysctls`` are (node, name below ``net.``, value), those
    of devices are set once these are there. ``rules`` are (node, nft script).
    """

    veths: tuple[Veth, ...]
    tunnels: tuple[Tunnel, ...] = ()
    bridges: tuple[Bridge, ...] = ()
    routes: tuple[Route, ...] = ()
    routers: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str, str], ...] = ()
    rules: tuple[tuple[str, str], ...] = ()
    security: tuple[Security, ...] = ()
    queues: tuple[Queue, ...] = ()

    @property
    def ports(self) -> tuple[Port, ...]:
        """Return every end of every link, in order."""
        links: tuple[Veth | Tunnel, ...] = (*self.veths, *self.tunnels)
        return tuple(end for link in links for end in link.ends)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return the names of all nodes, in order."""
        return tuple(dict.fromkeys(port.node for port in self.ports))

    def having(self, **more: tuple[object, ...]) -> Topology:
        """Return this topology with more of something: ``having(routes=(Route(…),))``."""
        return replace(
            self, **{name: (*getattr(self, name), *extra) for name, extra in more.items()}
        )
