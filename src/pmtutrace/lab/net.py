"""A topology that has been built: its nodes, and what can be asked of them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pmtutrace.errors import LabError
from pmtutrace.kernel import netns
from pmtutrace.lab import mib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import FileIO

    from pmtutrace.lab.topology import Port, Route, Topology

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Node:
    """One namespace of a lab.

    ``label`` is its name in the topology, ``name`` that in ``/run/netns``; ``ifindexes`` and
    ``macs`` are by device.
    """

    label: str
    name: str
    inum: int
    ifindexes: Mapping[str, int]
    macs: Mapping[str, str]

    @property
    def path(self) -> Path:
        """Return the file that stands for the namespace."""
        return netns.RUN / self.name

    def run(self, function: Callable[[], T]) -> T:
        """Run a function inside, in a thread of its own; its sockets and processes stay inside."""
        return netns.run_in(self.path, function)

    def counters(self) -> dict[str, int]:
        """Return the kernel's counters of this namespace; see :mod:`pmtutrace.lab.mib`."""
        return self.run(mib.read)


@dataclass(frozen=True, slots=True)
class Net:
    """The nodes of a lab by label, and what lives until it is torn down.

    ``files`` are those of TUN and TAP devices: what is read are the packets that these have sent.
    None of them blocks.
    """

    topology: Topology
    nodes: Mapping[str, Node]
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    files: Mapping[Port, FileIO] = field(default_factory=dict)

    def __getitem__(self, label: str) -> Node:
        try:
            return self.nodes[label]
        except KeyError:
            known = ", ".join(self.nodes)
            raise LabError(f"the lab has no node {label!r}", f"its nodes: {known}") from None

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def flush(self) -> None:
        """Take the queueing disciplines away, and with them what waits in their queues.

        Can be called again.
        """
        from pyroute2 import IPRoute

        from pmtutrace.lab import wire

        for queue in self.topology.queues:
            with netns.entered(self[queue.node].path), contextlib.closing(IPRoute()) as route:
                wire.unqueue(route, queue.dev)

    def reroute(self, *wanted: Route, command: str = "replace") -> None:
        """Put routes in the place of those to the same destinations, one after the other.

        Args:
            wanted: the routes, as in a topology.
            command: what to do instead: ``add`` or ``del``.
        """
        from pyroute2 import IPRoute

        from pmtutrace.lab import wire

        for route in wanted:
            with netns.entered(self[route.node].path), contextlib.closing(IPRoute()) as netlink:
                wire.way(netlink, route, command)

    def resize(self, node: str, dev: str, mtu: int) -> None:
        """Give a device another MTU."""
        from pyroute2 import IPRoute

        ifindex = self[node].ifindexes[dev]
        with netns.entered(self[node].path), contextlib.closing(IPRoute()) as netlink:
            netlink.link("set", index=ifindex, mtu=mtu)

    def owner(self, address: str) -> tuple[Node, Port]:
        """Return the node and the port that have this address.

        Raises:
            LabError: nobody has.
        """
        for port in self.topology.ports:
            if any(str(ip_interface(own).ip) == address for own in port.addresses):
                return self[port.node], port
        raise LabError(f"no node of the lab has the address {address}")

    def neighbour(self, node: Node, address: str) -> str:
        """Return the link-layer address that a node sends to for an IP address.

        It is that of the address itself, or of the gateway on the way to it.

        Raises:
            LabError: the node's subnets and routes do not lead there.
        """
        target = ip_interface(address)
        for port in self.topology.ports:
            if port.node == node.label and any(
                target in ip_interface(own).network for own in port.addresses
            ):
                owner, there = self.owner(address)
                return owner.macs[there.dev]
        for route in self.topology.routes:
            if route.node == node.label and route.via and target in ip_network(route.to):
                owner, there = self.owner(route.via)
                return owner.macs[there.dev]
        raise LabError(f"{node.label} has no way to {address}")
