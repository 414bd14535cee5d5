"""Tunnels that learn their path's MTU: ``a - r =tunnel= b`` with ``r -1500- m -1400- b`` below.

m refuses the first packet and tells r; from then on the tunnel refuses packets by what it learned.
"""

from __future__ import annotations

from dataclasses import replace

from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.scenarios.gre import GRE, KEY
from pmtutrace.lab.scenarios.gretap import GRETAP
from pmtutrace.lab.scenarios.ipip import IPIP
from pmtutrace.lab.scenarios.routed import heard
from pmtutrace.lab.scenarios.sit import SIT
from pmtutrace.lab.scenarios.tunnelled import R_UNDER, SENT, UNDER_MTU, Kind, traffic
from pmtutrace.lab.topology import Port, Route, Topology, Veth
from pmtutrace.lab.traffic import COUNT

M_TO_R, M_TO_B, B_FAR = "192.0.2.254", "203.0.113.254", "203.0.113.2"


def _topology(kind: Kind) -> Topology:
    """Return the kind's own topology with a router in the underlay."""
    direct = kind.topology(None, mtu=kind.mtu(1500))
    tunnel = replace(direct.tunnels[0], endpoints=(R_UNDER[4], B_FAR))
    near = Veth((Port("r", "ru", (f"{R_UNDER[4]}/24",)), Port("m", "mr", (f"{M_TO_R}/24",))))
    far = Veth(
        (
            Port("m", "mb", (f"{M_TO_B}/24",), UNDER_MTU),
            Port("b", "bu", (f"{B_FAR}/24",), UNDER_MTU),
        )
    )
    ways = (Route("r", "203.0.113.0/24", via=M_TO_R), Route("b", "192.0.2.0/24", via=M_TO_B))
    return replace(
        direct,
        veths=(direct.veths[0], near, far),
        tunnels=(tunnel,),
        routes=(*direct.routes, *ways),
        routers=("r", "m"),
    )


def _learned(kind: Kind, version: int) -> Scenario:
    dev, mtu = kind.dev, kind.mtu()
    # A router looks at what was learned for IPv6, so the tunnel refuses one packet only.
    at_tunnel = COUNT - 1 if version == 4 else 1
    site = kind.sites[version]
    rest = COUNT - 1 - at_tunnel
    then = [Expected(site, "told", mtu, dev, count=at_tunnel, tunnel=dev)]
    if rest:
        then.append(Expected("ip6_fragment", "told", mtu, dev, count=rest, tunnel=dev))
    return Scenario(
        f"{kind.name}-v{version}-udp-learned",
        f"IPv{version} datagrams in {kind.words}, one of which teaches it the path's MTU",
        _topology(kind),
        traffic(version, "udp", length=kind.mtu(1500)),
        Expected("ip_forward", "told", UNDER_MTU, "mb", count=1, node="m", tunnel=dev, outer=True),
        (
            Evidence("r", "ra:rx_packets", COUNT),
            Evidence("m", "IpFragFails", 1),
            Evidence("m", "IcmpOutDestUnreachs", 1),
            Evidence("r", "IcmpInDestUnreachs", 1),
            *kind.counted(at_tunnel),
            Evidence("r", SENT[version], COUNT - 1),
            heard(version, COUNT - 1),
        ),
        tuple(then),
    )


SCENARIOS = (
    *(_learned(kind, version) for kind in (GRE, KEY, GRETAP, SIT) for version in (4, 6)),
    _learned(IPIP, 4),
)
