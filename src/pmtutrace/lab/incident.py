"""The incident of 2015, in compressed time: one declaration of what is built and what is true.

    web, shop, backup ── edge ══ tunnel t0 over hop ══ far ── world

Traffic to the world moves into a tunnel from edge to far. Then edge learns that far, the end of
that very tunnel, can be reached through the tunnel as well: its route to far gets a second way. The
kernel refuses to send a tunnel's own packets into that tunnel; but what it learns about the path to
an address, it notes on all ways of the route (6.1, not 5.10). So every packet to far's own address
that takes the way through the tunnel tells edge that what is inside can be only so large, and edge
believes it of what is outside: the tunnel shrinks by its own overhead with each packet, down to the
smallest path MTU that the kernel believes. That lasts for as long as an exception lives, and
comes back with the next packets to far.

VXLAN takes only packets for a reason that do not fit. So its underlay has a route MTU below what
the tunnel's device believes, as PPPoE would have: the first one that does not fit begins it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pmtutrace.lab.build import built
from pmtutrace.lab.machines import Connection, Job, Listener, Pings, Where
from pmtutrace.lab.ruler import Ruler
from pmtutrace.lab.topology import Leg, Port, Route, Topology, Tunnel, Veth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmtutrace.lab.net import Net

EDGE, FAR = "192.0.2.1", "198.51.100.1"
HOP = {"edge": "192.0.2.254", "far": "198.51.100.254"}
INSIDE = {"edge": "10.2.0.1", "far": "10.2.0.2"}
WORLD = "203.0.113.1"
CUSTOMERS = {"web": "10.1.1.1", "shop": "10.1.2.1", "backup": "10.1.9.1"}
FOLLOWS, IGNORES, BACKUP = "web", "shop", "backup"
TUNNEL, UNDERLAY = "t0", "eu"
MINIMUM = 552  # what the kernel believes at least: net.ipv4.route.min_pmtu
# What clouds and home routers do, and many servers: no ICMP from outside, not even this one.
DEAF = (
    "table ip lab {\n chain in {\n type filter hook input priority 0\n"
    " icmp type destination-unreachable drop\n }\n}\n"
)
CLAMP = (
    "table ip lab {{\n chain forward {{\n type filter hook forward priority 0\n"
    " tcp flags syn tcp option maxseg size set {mss}\n }}\n}}\n"
)
BACKUP_PORTS = 140  # the slide takes 39 packets by the one way, which half of all take by chance


@dataclass(frozen=True, slots=True)
class Incident:
    """What is built, what happens when, and what is true of it.

    Args:
        type: of the tunnel, one of :data:`pmtutrace.lab.devices.TUNNELS`.
        overhead: octets from the outer IP header to the inner one.
        mtu: of the tunnel's devices.
        backup_length: octets of what the backup machine sends to far.
        route_mtu: of edge's route to far; None for that of the cables, 1500.
        lifetime_s: seconds that a path MTU is believed for, 600 outside of the lab.
        period_s: seconds from one run of the backup to the next.
        gap_s: seconds from one packet of a run to the next.
    """

    type: str
    overhead: int
    mtu: int
    backup_length: int
    route_mtu: int | None = None
    lifetime_s: int = 2
    period_s: float = 8.0
    gap_s: float = 0.003

    @property
    def largest(self) -> int:
        """Return the largest packet that the tunnel carries in good times."""
        return (self.route_mtu or 1500) - self.overhead

    @property
    def smallest(self) -> int:
        """Return the largest packet that it carries in bad ones."""
        return MINIMUM - self.overhead

    @property
    def recursion(self) -> Route:
        """Return the route with which it begins."""
        legs = (Leg(UNDERLAY, HOP["edge"]), Leg(TUNNEL, INSIDE["far"]))
        return Route("edge", f"{FAR}/32", mtu=self.route_mtu, legs=legs)

    @property
    def fix(self) -> Route:
        """Return the route with which it ends: to far, and not through the tunnel."""
        return Route("edge", f"{FAR}/32", via=HOP["edge"], dev=UNDERLAY, mtu=self.route_mtu)

    @property
    def into_tunnel(self) -> tuple[Route, ...]:
        """Return the routes with which traffic moves into the tunnel."""
        return (
            Route("edge", "203.0.113.0/24", via=INSIDE["far"], dev=TUNNEL),
            Route("far", "10.1.0.0/16", via=INSIDE["edge"], dev=TUNNEL),
        )

    @property
    def topology(self) -> Topology:
        """Return what is built before anything happens: traffic does not use the tunnel yet."""
        ends = tuple(
            Port(node, TUNNEL, (f"{address}/24",), self.mtu) for node, address in INSIDE.items()
        )
        tunnel = Tunnel(
            self.type,
            (ends[0], ends[1]),
            (EDGE, FAR),
            key=77 if self.type == "vxlan" else None,
            links=(UNDERLAY, "fu"),
        )
        lifetime = ("ipv4.route.mtu_expires", str(self.lifetime_s))
        by_ports = ("edge", "ipv4.fib_multipath_hash_policy", "1")
        nodes = (*CUSTOMERS, "edge", "hop", "far", "world")
        return Topology(
            veths=(*map(_cable, CUSTOMERS), *_UNDERLAY),
            tunnels=(tunnel,),
            routes=(
                self.fix,
                *(Route(name, "0.0.0.0/0", via=f"{_net(name)}.254") for name in CUSTOMERS),
                Route("edge", "203.0.113.0/24", via=HOP["edge"]),
                Route("far", "192.0.2.0/24", via=HOP["far"]),
                Route("far", "10.1.0.0/16", via=HOP["far"]),
                Route("hop", "203.0.113.0/24", via=FAR),
                Route("hop", "10.1.0.0/16", via=EDGE),
                Route("world", "0.0.0.0/0", via="203.0.113.254"),
            ),
            routers=("edge", "hop", "far"),
            sysctls=(*((node, *lifetime) for node in nodes), by_ports),
            rules=((IGNORES, DEAF), ("edge", CLAMP.format(mss=self.largest - 40))),
        )


def _net(customer: str) -> str:
    return CUSTOMERS[customer].rpartition(".")[0]


def _cable(customer: str) -> Veth:
    address, net = CUSTOMERS[customer], _net(customer)
    return Veth(
        (
            Port(customer, "eth0", (f"{address}/24",)),
            Port("edge", f"e{customer}", (f"{net}.254/24",)),
        )
    )


_UNDERLAY = (
    Veth((Port("edge", UNDERLAY, (f"{EDGE}/24",)), Port("hop", "he", (f"{HOP['edge']}/24",)))),
    Veth((Port("hop", "hf", (f"{HOP['far']}/24",)), Port("far", "fu", (f"{FAR}/24",)))),
    Veth((Port("far", "fw", ("203.0.113.254/24",)), Port("world", "w0", (f"{WORLD}/24",)))),
)

GRE = Incident("gre", 24, 1476, backup_length=100)
VXLAN = Incident("vxlan", 50, 1450, backup_length=1450, route_mtu=1492)


class Happening:
    """The incident while it goes on: what is busy, and what can be done about it.

    ``connections`` and ``pings`` are by customer, ``backup`` and ``ruler`` begin with
    :meth:`recurse`, the ruler measures the path from edge to far.
    """

    def __init__(self, net: Net, incident: Incident, stack: contextlib.ExitStack) -> None:
        self.net = net
        self.incident = incident
        self._stack = stack
        stack.enter_context(Listener(net, WORLD))
        flows = {name: Where(name, CUSTOMERS[name], WORLD) for name in (FOLLOWS, IGNORES)}
        self.connections = {n: stack.enter_context(Connection(net, f)) for n, f in flows.items()}
        self.pings = {n: stack.enter_context(Pings(net, f)) for n, f in flows.items()}
        self.ruler = Ruler(net, Where("edge", EDGE, FAR), UNDERLAY)
        self.backup = Job(
            net,
            Where(BACKUP, CUSTOMERS[BACKUP], FAR),
            length=incident.backup_length,
            count=BACKUP_PORTS,
            gap_s=incident.gap_s,
            period_s=incident.period_s,
        )

    def move(self) -> None:
        """Move the customers' traffic into the tunnel."""
        self.net.reroute(*self.incident.into_tunnel)

    def recurse(self) -> None:
        """Give the route to the far end its second way; the backup goes on as it always did."""
        self._stack.enter_context(self.ruler)
        self.net.reroute(self.incident.recursion)
        self._stack.enter_context(self.backup)

    def repair(self) -> None:
        """Take the way through the tunnel out of the route to its far end."""
        self.net.reroute(self.incident.fix)


@contextlib.contextmanager
def happening(incident: Incident) -> Iterator[Happening]:
    """Build the lab and set its customers to work, until the context is left.

    Raises:
        PrivilegeError: namespaces cannot be made.
        NotSupported: this kernel cannot have the incident.
        LabError: it could not be built for another reason.
    """
    with built(incident.topology) as net, contextlib.ExitStack() as stack:
        yield Happening(net, incident, stack)


def faster(incident: Incident, period_s: float, lifetime_s: int) -> Incident:
    """Return the same incident with less time between its collapses."""
    return replace(incident, period_s=period_s, lifetime_s=lifetime_s)
