"""Shared by the scenarios of tunnels: ``a -1500- r =tunnel= b``, routed into by r or bridged to.

r refuses packets inside the tunnel (by its own test, before the outer header is there), or outside
(the outer packet, on r's own underlay route). Either needs a device MTU above what the underlay
takes, else the router refuses the packet before the tunnel sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pmtutrace.lab.scenario import Evidence, Expected, Scenario, split
from pmtutrace.lab.scenarios.routed import R_TO_A, SITE, WORDS, A, cidr, heard, refused
from pmtutrace.lab.topology import Bridge, Encap, Port, Route, Topology, Tunnel, Veth
from pmtutrace.lab.traffic import COUNT, Traffic

R_UNDER, B_UNDER = {4: "192.0.2.1", 6: "2001:db8::1"}, {4: "192.0.2.2", 6: "2001:db8::2"}
R_INNER, B_INNER = {4: "10.77.3.1", 6: "fd77:3::1"}, {4: "10.77.3.2", 6: "fd77:3::2"}
A_BRIDGED, R_BRIDGED = {4: "10.77.3.3", 6: "fd77:3::3"}, {4: "10.77.3.254", 6: "fd77:3::fe"}
UNDER_MTU = 1400  # of the route to b's endpoint, where it is the underlay that is narrow
KEY = 77  # of packets whose route has to say one
IP_TUNNEL = "ip_tunnel_xmit"
READ = ("gre", "gretap", "ipip", "sit", "vxlan", "geneve")
FRAGMENT = {4: "ip_fragment", 6: "ip6_fragment"}
FAILS = {4: "IpFragFails", 6: "Ip6FragFails"}
SENT = {4: "IcmpOutDestUnreachs", 6: "Icmp6OutPktTooBigs"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A tunnel between r and b as scenarios name and build it.

    Args:
        name: how the names of its scenarios begin.
        type: one of :data:`pmtutrace.lab.devices.TUNNELS`.
        words: what titles call it.
        overhead: octets from the outer IP header to the inner one.
        dev: its device on both sides.
        under: version of the outer IP header.
        carries: versions of inner IP headers.
        sites: the functions that refuse inner packets, by IP version.
        counts: columns of its device that count what it refuses; see :mod:`pmtutrace.lab.mib`.
        counts_outer: the column that counts what was refused with an outer header.
        relays: whether it passes on to inner senders what is said about its outer packets.
        key, df, options, external: as of :class:`pmtutrace.lab.topology.Tunnel`.
    """

    name: str
    type: str
    words: str
    overhead: int
    dev: str = "g0"
    under: int = 4
    carries: tuple[int, ...] = (4, 6)
    sites: Mapping[int, str] = field(default_factory=lambda: dict.fromkeys((4, 6), IP_TUNNEL))
    counts: tuple[str, ...] = ("tx_errors",)
    counts_outer: str = "tx_dropped"
    relays: bool = False
    key: int | None = None
    df: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    external: bool = False

    def topology(
        self,
        under_mtu: int | None = UNDER_MTU,
        *,
        mtu: int = 1500,
        bridge: bool = False,
        addresses: tuple[str, ...] = (),
        locked: bool = False,
        **options: object,
    ) -> Topology:
        """Return hosts a and b and the router, or bridge, r between them, with the tunnel.

        Args:
            under_mtu: MTU of r's route to b's endpoint; None for that of the cable, 1500.
            mtu: MTU of the tunnel's devices.
            bridge: have a and the tunnel be ports of a bridge on r.
            addresses: of that bridge.
            locked: lock the MTU of that route.
            options: of the tunnel, besides its own.
        """
        ends = [
            Port("r", self.dev, () if bridge else cidr(R_INNER), mtu, "br0" if bridge else None),
            Port("b", self.dev, cidr(B_INNER), mtu),
        ]
        tunnel = Tunnel(
            self.type,
            (ends[0], ends[1]),
            (R_UNDER[self.under], B_UNDER[self.under]),
            key=self.key,
            df=self.df,
            options={**self.options, **options},
            external=self.external,
        )
        under = Veth((Port("r", "ru", cidr(R_UNDER)), Port("b", "bu", cidr(B_UNDER))))
        to_b = Route("r", B_UNDER[self.under], dev="ru", mtu=under_mtu, locked=locked)
        lower = (to_b,) if under_mtu else ()
        if bridge:
            near = (Port("a", "a0", cidr(A_BRIDGED)), Port("r", "ra", bridge="br0"))
            return Topology((Veth(near), under), (tunnel,), (Bridge("r", "br0", addresses),), lower)
        near = (Port("a", "a0", cidr(A)), Port("r", "ra", cidr(R_TO_A)))
        ways = (
            Route("a", "10.77.3.0/24", via=R_TO_A[4]),
            Route("a", "fd77:3::/64", via=R_TO_A[6]),
            Route("b", "10.77.1.0/24", via=R_INNER[4]),
            Route("b", "fd77:1::/64", via=R_INNER[6]),
        )
        return Topology((Veth(near), under), (tunnel,), routes=(*ways, *lower), routers=("r",))

    def mtu(self, under_mtu: int = UNDER_MTU) -> int:
        """Return what fits into the tunnel on an underlay of that MTU."""
        return under_mtu - self.overhead

    def counted(self, count: int) -> tuple[Evidence, ...]:
        """Return what r's device counts for inner packets that the tunnel refuses."""
        return tuple(Evidence("r", f"{self.dev}:{column}", count) for column in self.counts)


def by_route(
    kind: Kind,
    under_mtu: int | None = UNDER_MTU,
    *,
    mtu: int = 1500,
    df: bool = False,
    options: tuple[tuple[int, int, str], ...] = (),
) -> Topology:
    """Return the topology of an external tunnel: routes say where its packets go, and how."""
    key = KEY if kind.key is None else kind.key
    encap = Encap(R_UNDER[kind.under], B_UNDER[kind.under], key, df, options)
    ways = (
        Route("r", f"{B_INNER[version]}/{32 if version == 4 else 128}", dev=kind.dev, encap=encap)
        for version in (4, 6)
    )
    return kind.topology(under_mtu, mtu=mtu).having(routes=tuple(ways))


def traffic(version: int, what: str, *, local: bool = False, **more: object) -> Traffic:
    """Return traffic to b through the tunnel, from a, or from r itself."""
    node, source = ("r", R_INNER) if local else ("a", A)
    return Traffic(what, node, source[version], B_INNER[version], **more)  # type: ignore[arg-type]


def inside(
    kind: Kind,
    version: int,
    name: str,
    title: str,
    sent: Traffic,
    *,
    verdict: str = "told",
    cause: str | None = None,
    topology: Topology | None = None,
    mtu: int | None = None,
    taught: bool | None = None,
    more: tuple[Evidence, ...] = (),
) -> Scenario:
    """Return the scenario in which the tunnel itself refuses packets, before it has wrapped them.

    Args:
        kind: the tunnel.
        version: IP version of the packets.
        name: what is appended to the names of tunnel and version.
        title: what is appended to the version.
        sent: the packets; at first refused for the MTU of the route to b.
        verdict: what becomes of the news.
        cause: why, where it was suppressed.
        topology: where not that of the kind.
        mtu: in force in the tunnel; None for what the underlay leaves.
        taught: the first packet lowers the route's MTU, so that ``ip6_fragment`` refuses the
            others, before the tunnel; None for whether a router does so. ``ip_forward`` does not
            look at what has been learned, ``ip6_finish_output`` does.
        more: evidence besides the usual.
    """
    local = sent.node == "r"
    if taught is None:
        taught = version == 6 and not local and sent.what != "tcp"
    at_tunnel = 1 if taught else COUNT
    mtu = kind.mtu() if mtu is None else mtu
    told = 0 if verdict == "suppressed" else COUNT
    refusing = Expected(
        kind.sites[version], verdict, mtu, kind.dev, cause, at_tunnel, tunnel=kind.dev
    )
    after = Expected(FRAGMENT[6], verdict, mtu, kind.dev, cause, COUNT - at_tunnel, tunnel=kind.dev)
    return Scenario(
        f"{kind.name}-v{version}-{name}",
        f"IPv{version} {title}",
        topology or kind.topology(),
        sent,
        refusing,
        (
            *kind.counted(at_tunnel),
            Evidence("r", FAILS[version], COUNT - at_tunnel),
            Evidence("r", SENT[version], told),
            heard(version, COUNT if verdict == "told" else 0, node=sent.node),
            *([] if local else [Evidence("r", "ra:rx_packets", sent.count)]),
            *more,
        ),
        (after,) if taught else (),
    )


def told(
    kind: Kind,
    version: int,
    what: str,
    *,
    local: bool = False,
    topology: Topology | None = None,
) -> Scenario:
    """Return the scenario in which the tunnel refuses packets and says so."""
    where = "of its own" if local else "forwarded"
    cut: dict[str, object] = {"count": 1, "segments": COUNT} if what == "tcp" else {}
    return inside(
        kind,
        version,
        f"{what}-{'local' if local else 'forward'}",
        f"{WORDS[what]} {where}; {kind.words} on a route MTU of {UNDER_MTU}",
        traffic(version, what, local=local, **cut),
        topology=topology,
    )


def before(kind: Kind, version: int, what: str, mtu: int, name: str = "device") -> Scenario:
    """Return the scenario in which the router refuses what is longer than the tunnel's device."""
    return Scenario(
        f"{kind.name}-v{version}-{what}-{name}",
        f"IPv{version} {WORDS[what]} forwarded to {kind.words} with a device MTU of {mtu}",
        kind.topology(None, mtu=mtu),
        traffic(version, what, segments=3 if what == "tcp" else 1),
        Expected(SITE[version], "told", mtu, kind.dev, tunnel=kind.dev),
        (*refused(version), heard(version)),
    )


def outside(
    kind: Kind,
    version: int,
    name: str,
    title: str,
    sent: Traffic,
    *,
    under_mtu: int = UNDER_MTU,
    topology: Topology | None = None,
) -> Scenario:
    """Return the scenario in which r refuses the packets that its own tunnel made.

    r tells itself; the sender of what is inside hears nothing, unless it is r, or the tunnel
    relays.
    """
    under = kind.under
    relayed = COUNT if kind.relays else 0
    quiet = under == version and sent.node == "r"
    return Scenario(
        f"{kind.name}-v{version}-{name}",
        title,
        topology or kind.topology(under_mtu),
        sent,
        Expected(FRAGMENT[under], "told", under_mtu, "ru", tunnel=kind.dev, outer=True),
        (
            Evidence("r", FAILS[under], COUNT),
            Evidence("r", SENT[under], COUNT + (relayed if version == under else 0)),
            Evidence("r", f"{kind.dev}:{kind.counts_outer}", sent.count),
            heard(under, node="r"),
            *([] if quiet else [heard(version, relayed, node=sent.node)]),
        ),
    )


def segments(kind: Kind, version: int, topology: Topology | None = None) -> Scenario:
    """Return the scenario of a TCP super-packet, which no tunnel measures: its segments die."""
    return outside(
        kind,
        version,
        "tcp-forward",
        f"IPv{version} TCP super-packet: segments in {kind.words}, MTU {UNDER_MTU}",
        traffic(version, "tcp", count=1, segments=COUNT),
        topology=topology,
    )


def passes(
    kind: Kind,
    version: int,
    name: str,
    title: str,
    sent: Traffic,
    topology: Topology,
    more: tuple[Evidence, ...] = (),
) -> Scenario:
    """Return a control: all packets arrive through the tunnel and nothing is dropped."""
    return Scenario(
        f"{kind.name}-v{version}-{name}",
        f"IPv{version} {title}",
        topology,
        sent,
        None,
        (
            Evidence("b", f"{kind.dev}:rx_packets", COUNT),
            Evidence("r", FAILS[version], 0),
            heard(version, 0, node=sent.node),
            *more,
        ),
    )


def fits(kind: Kind, version: int) -> Scenario:
    """Return the control of packets that just fit."""
    return passes(
        kind,
        version,
        "udp-fits",
        f"datagrams of exactly {kind.mtu()} octets, what {kind.words} takes",
        traffic(version, "udp", length=kind.mtu(), sink=True),
        kind.topology(),
    )


def fragmented(
    kind: Kind, version: int, name: str, title: str, sent: Traffic, topology: Topology
) -> Scenario:
    """Return a control: the outer packets go as fragments, and b puts them together."""
    table = "Ip" if kind.under == 4 else "Ip6"
    more = (
        Evidence("r", f"{table}FragOKs", COUNT),
        Evidence("r", f"{table}FragCreates", 2 * COUNT),
        # Where conntrack joins fragments of IPv6, nothing counts that.
        *([Evidence("b", "IpReasmOKs", COUNT)] if kind.under == 4 else []),
    )
    lower = (route.mtu for route in topology.routes if route.node == "r" and route.dev == "ru")
    mtu = next((mtu for mtu in lower if mtu), 1500)
    control = passes(kind, version, name, title, sent, topology, more)
    # Where the outer header is not looked into, nobody knows it for a tunnel's.
    read = kind.type in READ
    return replace(control, fragments=split(mtu, "ru", kind.dev) if read else None)
