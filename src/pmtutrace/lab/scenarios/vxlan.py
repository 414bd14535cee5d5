"""Scenarios with a VXLAN tunnel between r and b: routed into by r, or bridged to by r.

``routed``: ``a -1500- r =vx0 1450= b``. Where the underlay has a route with a lower MTU than the
tunnel believes, and the outer packets have DF (or are IPv6, which routers never fragment), it is
the outer packets that die, on r itself, and r tells itself.
"""

from __future__ import annotations

from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.scenarios.routed import R_TO_A, SITE, WORDS, A, cidr, heard, passed, refused
from pmtutrace.lab.topology import Bridge, Port, Route, Topology, Tunnel, Veth
from pmtutrace.lab.traffic import COUNT, Traffic

R_UNDER, B_UNDER = {4: "192.0.2.1", 6: "2001:db8::1"}, {4: "192.0.2.2", 6: "2001:db8::2"}
R_INNER, B_INNER = {4: "10.77.3.1", 6: "fd77:3::1"}, {4: "10.77.3.2", 6: "fd77:3::2"}
A_BRIDGED = {4: "10.77.3.3", 6: "fd77:3::3"}
OVERHEAD = {4: 50, 6: 70}  # outer IP, UDP, VXLAN and Ethernet
UNDER_MTU = 1300
LENGTH = 1400  # of inner packets that the tunnel's device takes and the underlay does not
VNI = 77


def routed(under: int = 4, df: str | None = None, under_mtu: int | None = None) -> Topology:
    """Return a router with a tunnel to b over that IP version, on a route with that MTU."""
    mtu = 1500 - OVERHEAD[under]
    lower = Route("r", B_UNDER[under], dev="ru", mtu=under_mtu)
    return Topology(
        veths=(
            Veth((Port("a", "a0", cidr(A)), Port("r", "ra", cidr(R_TO_A)))),
            _underlay(),
        ),
        tunnels=(
            Tunnel(
                "vxlan",
                (Port("r", "vx0", cidr(R_INNER), mtu), Port("b", "vx0", cidr(B_INNER), mtu)),
                (R_UNDER[under], B_UNDER[under]),
                key=VNI,
                df=df,
            ),
        ),
        routes=(
            Route("a", "10.77.3.0/24", via=R_TO_A[4]),
            Route("a", "fd77:3::/64", via=R_TO_A[6]),
            Route("b", "10.77.1.0/24", via=R_INNER[4]),
            Route("b", "fd77:1::/64", via=R_INNER[6]),
            *([lower] if under_mtu else []),
        ),
        routers=("r",),
    )


def bridged(under: int = 4, df: str | None = None, under_mtu: int | None = None) -> Topology:
    """Return a bridge with a and the tunnel to b as its ports."""
    mtu = 1500 - OVERHEAD[under]
    lower = Route("r", B_UNDER[under], dev="ru", mtu=under_mtu)
    return Topology(
        veths=(
            Veth((Port("a", "a0", cidr(A_BRIDGED)), Port("r", "ra", bridge="br0"))),
            _underlay(),
        ),
        tunnels=(
            Tunnel(
                "vxlan",
                (Port("r", "vx0", mtu=mtu, bridge="br0"), Port("b", "vx0", cidr(B_INNER), mtu)),
                (R_UNDER[under], B_UNDER[under]),
                key=VNI,
                df=df,
            ),
        ),
        bridges=(Bridge("r", "br0"),),
        routes=(lower,) if under_mtu else (),
    )


def _underlay() -> Veth:
    return Veth((Port("r", "ru", cidr(R_UNDER)), Port("b", "bu", cidr(B_UNDER))))


def _forwarded(version: int, what: str) -> Scenario:
    return Scenario(
        f"vxlan-v{version}-{what}-forward",
        f"IPv{version} {WORDS[what]} forwarded into a tunnel with an MTU of 1450",
        routed(),
        Traffic(what, "a", A[version], B_INNER[version], segments=3 if what == "tcp" else 1),
        Expected(SITE[version], "told", 1450, "vx0", tunnel="vx0"),
        (*refused(version), heard(version)),
    )


def _outer(under: int, version: int, what: str, *, local: bool = False) -> Scenario:
    """Return the scenario in which r refuses the packets that its own tunnel made."""
    source, node = (R_INNER, "r") if local else (A, "a")
    offload = what == "tcp"
    where = "local" if local else "forward"
    df = " with DF" if under == 4 else ""
    whose = "its own" if local else "forwarded"
    fails, sent, counted = {
        4: ("IpFragFails", "IcmpOutDestUnreachs", "vx0:tx_dropped"),
        6: ("Ip6FragFails", "Icmp6OutPktTooBigs", "vx0:tx_errors"),
    }[under]
    return Scenario(
        f"vxlan{'-df' if under == 4 else '6'}-v{version}-{what}-{where}",
        f"outer IPv{under}{df} around {whose} IPv{version} {WORDS[what]}; MTU {UNDER_MTU}",
        routed(under, "set" if under == 4 else None, UNDER_MTU),
        Traffic(
            what,
            node,
            source[version],
            B_INNER[version],
            length=LENGTH,
            count=1 if offload else COUNT,
            segments=COUNT if offload else 1,
        ),
        Expected(
            "ip_fragment" if under == 4 else "ip6_fragment",
            "told",
            UNDER_MTU,
            "ru",
            tunnel="vx0",
            outer=True,
        ),
        (
            Evidence("r", fails, COUNT),
            Evidence("r", sent, COUNT),
            Evidence("r", counted, 1 if offload else COUNT),
            heard(under, node="r"),
            *([] if local else [heard(version, 0)]),
        ),
    )


def _bridged(under: int, version: int, what: str) -> Scenario:
    mtu = 1390 - OVERHEAD[under]
    return Scenario(
        f"vxlan{'' if under == 4 else '6'}-bridge-v{version}-{what}",
        f"IPv{version} {WORDS[what]} bridged to a tunnel; IPv{under} route MTU 1390",
        bridged(under, None, 1390),
        Traffic(
            what,
            "a",
            A_BRIDGED[version],
            B_INNER[version],
            length=LENGTH,
            segments=3 if what == "tcp" else 1,
        ),
        Expected("skb_tunnel_check_pmtu", "told", mtu, "vx0", tunnel="vx0"),
        # Built in place of the packet itself: r's ICMP counters do not move, and the tunnel counts
        # it as sent and received.
        (
            heard(version),
            Evidence("r", "vx0:rx_packets", COUNT),
            Evidence("r", "ru:tx_packets", 0),
            Evidence("r", "IcmpOutMsgs" if version == 4 else "Icmp6OutMsgs", 0),
        ),
    )


def _fits(version: int) -> Scenario:
    return Scenario(
        f"vxlan-v{version}-udp-fits",
        f"IPv{version} datagrams of exactly 1450 octets, the MTU of the tunnel",
        routed(),
        Traffic("udp", "a", A[version], B_INNER[version], length=1450, sink=True),
        None,
        (
            Evidence("b", "vx0:rx_packets", COUNT),
            Evidence("r", "IpFragFails", 0),
            Evidence("r", "Ip6FragFails", 0),
            heard(version, 0),
        ),
    )


SCENARIOS = (
    *(_forwarded(version, what) for what in WORDS for version in (4, 6)),
    *(_outer(under, version, what) for under in (4, 6) for what in WORDS for version in (4, 6)),
    *(_outer(under, version, "echo", local=True) for under in (4, 6) for version in (4, 6)),
    Scenario(
        "vxlan-v6-udp-learned",
        "IPv6 datagrams after one that taught the router a path MTU of 1300",
        routed(4, None, 1350),
        # The first goes through as two outer fragments and leaves an exception, at which
        # ip6_forward does not look, but ip6_fragment does.
        Traffic("udp", "a", A[6], B_INNER[6], length=LENGTH, count=COUNT + 1, sink=True),
        Expected("ip6_fragment", "told", 1300, "vx0", tunnel="vx0"),
        (
            Evidence("r", "Ip6FragFails", COUNT),
            Evidence("r", "Ip6InTooBigErrors", 0),
            Evidence("r", "Icmp6OutPktTooBigs", COUNT),
            Evidence("r", "IpFragOKs", 1),
            heard(6),
        ),
    ),
    *(
        _bridged(under, version, what)
        for under in (4, 6)
        for what in ("udp", "echo")
        for version in (4, 6)
    ),
    *(_bridged(4, version, "tcp") for version in (4, 6)),
    Scenario(
        "vxlan-df-bridge-v6-below-minimum",
        "IPv6 datagrams bridged to a tunnel that takes less than 1280 octets",
        bridged(4, "set", UNDER_MTU),
        Traffic("udp", "a", A_BRIDGED[6], B_INNER[6], length=LENGTH),
        Expected("ip_fragment", "told", UNDER_MTU, "ru", tunnel="vx0", outer=True),
        (
            Evidence("r", "IpFragFails", COUNT),
            Evidence("r", "IcmpOutDestUnreachs", COUNT),
            heard(4, node="r"),
            heard(6, 0),
        ),
    ),
    *(_fits(version) for version in (4, 6)),
    Scenario(
        "vxlan-v4-udp-fragmented",
        "IPv4 datagrams in a tunnel without DF; route MTU 1300",
        routed(4, None, UNDER_MTU),
        Traffic("udp", "a", A[4], B_INNER[4], length=LENGTH, sink=True),
        None,
        (
            Evidence("r", "IpFragOKs", COUNT),
            Evidence("r", "IpFragCreates", 2 * COUNT),
            Evidence("b", "IpReasmOKs", COUNT),
            Evidence("b", "vx0:rx_packets", COUNT),
            Evidence("r", "IpFragFails", 0),
        ),
    ),
    Scenario(
        "vxlan-bridge-v4-udp-fits",
        "IPv4 datagrams bridged to a tunnel that takes them",
        bridged(),
        Traffic("udp", "a", A_BRIDGED[4], B_INNER[4], length=1450, sink=True),
        None,
        (*passed(4)[1:], Evidence("b", "vx0:rx_packets", COUNT)),
    ),
)
