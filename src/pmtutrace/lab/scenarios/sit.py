"""IPv6 in IPv4 (SIT), which can carry IPv4 too. See :mod:`.tunnelled`.

SIT never takes less than 1280 octets: on an underlay that is narrower, it goes without DF.
"""

from __future__ import annotations

from pmtutrace.lab.scenario import Scenario
from pmtutrace.lab.scenarios.routed import DROP_NEWS, STRANGER, A
from pmtutrace.lab.scenarios.tunnelled import (
    B_INNER,
    IP_TUNNEL,
    Kind,
    before,
    fits,
    fragmented,
    inside,
    segments,
    told,
    traffic,
)
from pmtutrace.lab.traffic import Traffic

SIT = Kind(
    "sit",
    "sit",
    "SIT",
    20,
    sites={4: IP_TUNNEL, 6: "ipip6_tunnel_xmit"},
    options={"proto": 0},  # IPv4 as well as IPv6
)
FOU = Kind("sit-fou", "sit", "SIT in FOU", 28, sites=SIT.sites, options={"encap": "fou"})
NARROW, LEAST = 1290, 1280


def _suppressed(name: str, title: str, cause: str, sent: Traffic) -> Scenario:
    return inside(SIT, 6, name, title, sent, verdict="suppressed", cause=cause)


SCENARIOS: tuple[Scenario, ...] = (
    *(told(SIT, version, what) for what in ("udp", "echo") for version in (4, 6)),
    *(told(SIT, version, "udp", local=True) for version in (4, 6)),
    *(segments(SIT, version) for version in (4, 6)),
    *(before(SIT, version, "udp", SIT.mtu(1500)) for version in (4, 6)),
    _suppressed(
        "no-route-back",
        "packets for SIT from an address to which there is no route",
        "no_route_back",
        Traffic("raw-udp", "a", STRANGER[6], B_INNER[6]),
    ),
    _suppressed(
        "icmp-error",
        "ICMP errors that are too big for SIT",
        "icmp_error_inside",
        Traffic("icmp-error", "a", A[6], B_INNER[6]),
    ),
    inside(
        SIT,
        6,
        "news-filtered",
        "news about packets for SIT that the router's own filter drops",
        traffic(6, "udp"),
        verdict="lost",
        topology=SIT.topology().having(rules=(("r", DROP_NEWS[6]),)),
    ),
    inside(
        SIT,
        6,
        "udp-local-minimum",
        "datagrams of its own; SIT on a route MTU that leaves less than 1280",
        traffic(6, "udp", local=True, length=LEAST + 1),
        topology=SIT.topology(NARROW),
        mtu=LEAST,
    ),
    fragmented(
        SIT,
        6,
        "minimum",
        "datagrams of 1280 octets; SIT on a route MTU that leaves less",
        traffic(6, "udp", length=LEAST, sink=True),
        SIT.topology(NARROW),
    ),
    *(
        fragmented(
            SIT,
            version,
            "nopmtudisc",
            "datagrams without DF into SIT that sets none either",
            traffic(version, "udp", df=version == 6, sink=True),
            SIT.topology(pmtudisc=0),
        )
        for version in (4, 6)
    ),
    *(fits(SIT, version) for version in (4, 6)),
    told(FOU, 6, "udp"),
    segments(FOU, 6),
    fits(FOU, 6),
)
