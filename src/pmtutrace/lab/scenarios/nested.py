"""VXLAN in ip6tnl: what the outer tunnel refuses is an outer packet of the inner one.

The flow is that of the innermost packet, the outer addresses are those of the outermost header that
there is when it is refused.
"""

from __future__ import annotations

from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.scenarios.ip6 import IP6TNL
from pmtutrace.lab.scenarios.routed import R_TO_A, A, cidr, heard
from pmtutrace.lab.scenarios.tunnelled import B_INNER, R_INNER
from pmtutrace.lab.topology import Port, Route, Topology, Tunnel
from pmtutrace.lab.traffic import COUNT, Traffic

R_VXLAN, B_VXLAN = {4: "10.77.5.1", 6: "fd77:5::1"}, {4: "10.77.5.2", 6: "fd77:5::2"}
MTU = 1450
LENGTH = 1400
VERSIONS = (4, 6)


def topology() -> Topology:
    """Return a router with an ip6tnl to b on a route MTU of 1400, and VXLAN with DF in that."""
    inner = Tunnel(
        "vxlan",
        (Port("r", "vx0", cidr(R_VXLAN), MTU), Port("b", "vx0", cidr(B_VXLAN), MTU)),
        (R_INNER[4], B_INNER[4]),
        key=77,
        df="set",
    )
    ways = (
        Route("a", "10.77.5.0/24", via=R_TO_A[4]),
        Route("a", "fd77:5::/64", via=R_TO_A[6]),
    )
    return IP6TNL.topology().having(tunnels=(inner,), routes=ways)


def _datagrams() -> Scenario:
    """Return the scenario in which the first refusal teaches the router a path MTU for VXLAN."""
    mtu = IP6TNL.mtu()
    return Scenario(
        "nested-v4-udp-forward",
        "IPv4 datagrams in VXLAN with DF in ip6tnl",
        topology(),
        Traffic("udp", "a", A[4], B_VXLAN[4], length=LENGTH),
        Expected("ip6_tnl_xmit", "told", mtu, "t0", count=1, tunnel="vx0", outer=True),
        (
            Evidence("r", "ra:rx_packets", COUNT),
            Evidence("r", "t0:tx_errors", 1),
            Evidence("r", "IpFragFails", COUNT - 1),
            Evidence("r", "IcmpOutDestUnreachs", COUNT),
            heard(4, node="r"),
            heard(4, 0),
        ),
        (Expected("ip_fragment", "told", mtu, "t0", count=COUNT - 1, tunnel="vx0", outer=True),),
    )


def _segments(version: int) -> Scenario:
    return Scenario(
        f"nested-v{version}-tcp-forward",
        f"IPv{version} TCP super-packet; its segments in VXLAN with DF in ip6tnl",
        topology(),
        Traffic("tcp", "a", A[version], B_VXLAN[version], length=LENGTH, count=1, segments=COUNT),
        Expected("ip6_tnl_xmit", "told", IP6TNL.mtu(), "t0", tunnel="vx0", outer=True),
        (
            Evidence("r", "t0:tx_errors", COUNT),
            Evidence("r", "IcmpOutDestUnreachs", COUNT),
            heard(4, node="r"),
            heard(version, 0),
        ),
    )


SCENARIOS = (
    _datagrams(),
    *(_segments(version) for version in VERSIONS),
)
