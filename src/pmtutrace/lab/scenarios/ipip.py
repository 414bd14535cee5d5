"""IPv4 in IPv4, in a bare header or in one of UDP around it (FOU, GUE). See :mod:`.tunnelled`."""

from __future__ import annotations

from pmtutrace.lab.scenario import Scenario
from pmtutrace.lab.scenarios.routed import DROP_NEWS, STRANGER
from pmtutrace.lab.scenarios.tunnelled import (
    B_INNER,
    Kind,
    before,
    fits,
    fragmented,
    inside,
    outside,
    segments,
    told,
    traffic,
)
from pmtutrace.lab.traffic import Traffic

IPIP = Kind("ipip", "ipip", "IPIP", 20)
FOU = Kind("ipip-fou", "ipip", "IPIP in FOU", 28, options={"encap": "fou"})
GUE = Kind("ipip-gue", "ipip", "IPIP in GUE", 32, options={"encap": "gue"})
GRE_FOU = Kind("gre-fou", "gre", "GRE in FOU", 32, options={"encap": "fou"})
GRE_GUE = Kind("gre-gue", "gre", "GRE in GUE", 36, options={"encap": "gue"})

SCENARIOS: tuple[Scenario, ...] = (
    *(told(IPIP, 4, what) for what in ("udp", "echo")),
    told(IPIP, 4, "udp", local=True),
    segments(IPIP, 4),
    before(IPIP, 4, "udp", IPIP.mtu(1500)),
    inside(
        IPIP,
        4,
        "no-route-back",
        "packets for IPIP from an address to which there is no route",
        Traffic("raw-udp", "a", STRANGER[4], B_INNER[4]),
        verdict="suppressed",
        cause="no_route_back",
    ),
    inside(
        IPIP,
        4,
        "news-filtered",
        "news about packets for IPIP that the router's own filter drops",
        traffic(4, "udp"),
        verdict="lost",
        topology=IPIP.topology().having(rules=(("r", DROP_NEWS[4]),)),
    ),
    outside(
        IPIP,
        4,
        "udp-no-df",
        "IPv4 datagrams without DF, to which IPIP gives it; route MTU 1400",
        traffic(4, "udp", df=False),
    ),
    inside(
        IPIP,
        4,
        "nopmtudisc-df",
        "datagrams with DF into IPIP that sets none itself",
        traffic(4, "udp"),
        topology=IPIP.topology(pmtudisc=0),
    ),
    fragmented(
        IPIP,
        4,
        "nopmtudisc",
        "datagrams without DF into IPIP that sets none either",
        traffic(4, "udp", df=False, sink=True),
        IPIP.topology(pmtudisc=0),
    ),
    fits(IPIP, 4),
    *(told(kind, 4, "udp") for kind in (FOU, GUE, GRE_FOU, GRE_GUE)),
    told(GRE_GUE, 6, "udp"),
    *(segments(kind, 4) for kind in (FOU, GUE, GRE_FOU)),
    segments(GRE_GUE, 6),
    *(fits(kind, 4) for kind in (FOU, GUE, GRE_FOU)),
    fits(GRE_GUE, 6),
)
