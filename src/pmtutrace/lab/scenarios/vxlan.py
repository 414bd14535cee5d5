"""Scenarios with a VXLAN tunnel between r and b: routed into by r, or bridged to by r.

Where the underlay has a route with a lower MTU than the tunnel believes, and the outer packets have
DF (or are IPv6, which routers never fragment), it is the outer packets that die, on r itself, and r
tells itself. See :mod:`.tunnelled`.
"""

from __future__ import annotations

from pmtutrace.lab.scenario import Evidence, Expected, Scenario, split
from pmtutrace.lab.scenarios.routed import WORDS, A, heard, passed
from pmtutrace.lab.scenarios.tunnelled import A_BRIDGED, B_INNER, Kind, before, outside, traffic
from pmtutrace.lab.topology import Topology
from pmtutrace.lab.traffic import COUNT, Traffic

UNDER_MTU = 1300
LENGTH = 1400  # of inner packets that the tunnel's device takes and the underlay does not
MTU = 1450
VXLAN = Kind("vxlan", "vxlan", "VXLAN", 50, dev="vx0", key=77)
DF = Kind("vxlan-df", "vxlan", "VXLAN with DF", 50, dev="vx0", key=77, df="set")
VXLAN6 = Kind("vxlan6", "vxlan", "VXLAN", 70, dev="vx0", under=6, counts_outer="tx_errors", key=77)


def topology(kind: Kind, under_mtu: int | None = None, *, bridge: bool = False) -> Topology:
    """Return a topology with the MTU that the kernel itself would give the tunnel."""
    return kind.topology(under_mtu, mtu=kind.mtu(1500), bridge=bridge)


def wrapped(kind: Kind, version: int, what: str, *, local: bool = False) -> Scenario:
    """Return the scenario in which r refuses the packets that its own tunnel made."""
    offload = what == "tcp"
    df = " with DF" if kind.df else ""
    whose = "its own" if local else "forwarded"
    return outside(
        kind,
        version,
        f"{what}-{'local' if local else 'forward'}",
        f"outer IPv{kind.under}{df} around {whose} IPv{version} {WORDS[what]}; MTU {UNDER_MTU}",
        traffic(
            version,
            what,
            local=local,
            length=LENGTH,
            count=1 if offload else COUNT,
            segments=COUNT if offload else 1,
        ),
        under_mtu=UNDER_MTU,
        topology=topology(kind, UNDER_MTU),
    )


def turned(kind: Kind, version: int, what: str, *, looped: str = "rx_packets") -> Scenario:
    """Return the scenario in which a bridged tunnel turns packets into their own news.

    ``looped`` is the column of its device that counts those.
    """
    return Scenario(
        f"{kind.name}-bridge-v{version}-{what}",
        f"IPv{version} {WORDS[what]} bridged to a tunnel; IPv{kind.under} route MTU 1390",
        topology(kind, 1390, bridge=True),
        Traffic(
            what,
            "a",
            A_BRIDGED[version],
            B_INNER[version],
            length=LENGTH,
            segments=3 if what == "tcp" else 1,
        ),
        Expected("skb_tunnel_check_pmtu", "told", kind.mtu(1390), kind.dev, tunnel=kind.dev),
        # Built in place of the packet itself: r's ICMP counters do not move, and the tunnel counts
        # it as sent and received.
        (
            heard(version),
            Evidence("r", f"{kind.dev}:{looped}", COUNT),
            Evidence("r", "ru:tx_packets", 0),
            Evidence("r", "IcmpOutMsgs" if version == 4 else "Icmp6OutMsgs", 0),
        ),
    )


def _fits(version: int) -> Scenario:
    return Scenario(
        f"vxlan-v{version}-udp-fits",
        f"IPv{version} datagrams of exactly {MTU} octets, the MTU of the tunnel",
        topology(VXLAN),
        Traffic("udp", "a", A[version], B_INNER[version], length=MTU, sink=True),
        None,
        (
            Evidence("b", "vx0:rx_packets", COUNT),
            Evidence("r", "IpFragFails", 0),
            Evidence("r", "Ip6FragFails", 0),
            heard(version, 0),
        ),
    )


SCENARIOS = (
    *(before(VXLAN, version, what, MTU, "forward") for what in WORDS for version in (4, 6)),
    *(
        wrapped(kind, version, what)
        for kind in (DF, VXLAN6)
        for what in WORDS
        for version in (4, 6)
    ),
    *(wrapped(kind, version, "echo", local=True) for kind in (DF, VXLAN6) for version in (4, 6)),
    Scenario(
        "vxlan-v6-udp-learned",
        "IPv6 datagrams after one that taught the router a path MTU of 1300",
        topology(VXLAN, 1350),
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
        fragments=split(1350, "ru", "vx0", 1),
    ),
    *(
        turned(kind, version, what)
        for kind in (VXLAN, VXLAN6)
        for what in ("udp", "echo")
        for version in (4, 6)
    ),
    *(turned(VXLAN, version, "tcp") for version in (4, 6)),
    Scenario(
        "vxlan-df-bridge-v6-below-minimum",
        "IPv6 datagrams bridged to a tunnel that takes less than 1280 octets",
        topology(DF, UNDER_MTU, bridge=True),
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
        topology(VXLAN, UNDER_MTU),
        Traffic("udp", "a", A[4], B_INNER[4], length=LENGTH, sink=True),
        None,
        (
            Evidence("r", "IpFragOKs", COUNT),
            Evidence("r", "IpFragCreates", 2 * COUNT),
            Evidence("b", "IpReasmOKs", COUNT),
            Evidence("b", "vx0:rx_packets", COUNT),
            Evidence("r", "IpFragFails", 0),
        ),
        fragments=split(UNDER_MTU, "ru", "vx0"),
    ),
    Scenario(
        "vxlan-bridge-v4-udp-fits",
        "IPv4 datagrams bridged to a tunnel that takes them",
        topology(VXLAN, bridge=True),
        Traffic("udp", "a", A_BRIDGED[4], B_INNER[4], length=MTU, sink=True),
        None,
        (*passed(4)[1:], Evidence("b", "vx0:rx_packets", COUNT)),
    ),
)
