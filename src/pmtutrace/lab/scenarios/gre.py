"""GRE that carries IP: plain, with a key, with all options, and to where a route says."""

from __future__ import annotations

from pmtutrace.lab.scenario import Scenario
from pmtutrace.lab.scenarios.routed import DROP_NEWS, STRANGER, A
from pmtutrace.lab.scenarios.tunnelled import (
    B_INNER,
    Kind,
    before,
    by_route,
    fits,
    fragmented,
    inside,
    outside,
    segments,
    told,
    traffic,
)
from pmtutrace.lab.traffic import Traffic

GRE = Kind("gre", "gre", "GRE", 24)
KEY = Kind("gre-key", "gre", "GRE with a key", 28, key=77)
FULL = Kind("gre-seq", "gre", "GRE with all", 36, key=77, options={"csum": True, "seq": True})
EXTERNAL = Kind(
    "gre-md",
    "gre",
    "external GRE",
    28,
    sites=dict.fromkeys((4, 6), "ip_md_tunnel_xmit"),
    external=True,
)
FIRST = 1477  # of 23 lengths, of which the longest is one short of the cable's 1500
NO_PMTUDISC = GRE.topology(pmtudisc=0)


def _headline() -> Scenario:
    """Return the drop that gives no reason: ip_tunnel_xmit with nothing narrow but the cable."""
    return inside(
        GRE,
        4,
        "udp-1477-to-1499",
        "datagrams of 1477 to 1499 octets into GRE on a cable of 1500",
        traffic(4, "udp", length=FIRST, longer=1),
        topology=GRE.topology(None),
        mtu=GRE.mtu(1500),
    )


def _suppressed(version: int, name: str, title: str, cause: str, sent: Traffic) -> Scenario:
    return inside(GRE, version, name, title, sent, verdict="suppressed", cause=cause)


def _lost(version: int) -> Scenario:
    return inside(
        GRE,
        version,
        "news-filtered",
        "news about packets for GRE that the router's own filter drops",
        traffic(version, "udp"),
        verdict="lost",
        topology=GRE.topology().having(rules=(("r", DROP_NEWS[version]),)),
    )


SCENARIOS = (
    _headline(),
    *(told(GRE, version, what) for what in ("udp", "echo") for version in (4, 6)),
    *(told(GRE, version, "udp", local=True) for version in (4, 6)),
    *(told(kind, version, "udp") for kind in (KEY, FULL) for version in (4, 6)),
    # A device that numbers its packets has segments made before they come to it.
    *(told(FULL, version, "tcp") for version in (4, 6)),
    *(segments(kind, version) for kind in (GRE, KEY) for version in (4, 6)),
    *(before(GRE, version, "udp", GRE.mtu(1500)) for version in (4, 6)),
    *(
        _suppressed(
            version,
            "no-route-back",
            "packets for GRE from an address to which there is no route",
            "no_route_back",
            Traffic("raw-udp", "a", STRANGER[version], B_INNER[version]),
        )
        for version in (4, 6)
    ),
    *(
        _suppressed(
            version,
            "icmp-error",
            "ICMP errors that are too big for GRE",
            "icmp_error_inside",
            Traffic("icmp-error", "a", A[version], B_INNER[version]),
        )
        for version in (4, 6)
    ),
    _suppressed(
        4,
        "later-fragment",
        "fragments for GRE, not the first ones, with DF set",
        "non_first_fragment",
        Traffic("later-fragment", "a", A[4], B_INNER[4]),
    ),
    *(_lost(version) for version in (4, 6)),
    outside(
        GRE,
        4,
        "udp-no-df",
        "IPv4 datagrams without DF, to which GRE gives it; route MTU 1400",
        traffic(4, "udp", df=False),
    ),
    outside(
        GRE,
        6,
        "udp-below-minimum",
        "IPv6 datagrams into GRE that takes less than 1280 octets",
        traffic(6, "udp"),
        under_mtu=1300,
    ),
    inside(
        GRE,
        4,
        "nopmtudisc-df",
        "datagrams with DF into GRE that sets none itself",
        traffic(4, "udp"),
        topology=NO_PMTUDISC,
    ),
    fragmented(
        GRE,
        4,
        "nopmtudisc",
        "datagrams without DF into GRE that sets none either",
        traffic(4, "udp", df=False, sink=True),
        NO_PMTUDISC,
    ),
    fragmented(
        GRE,
        6,
        "nopmtudisc",
        "datagrams into GRE that sets no DF",
        traffic(6, "udp", sink=True),
        NO_PMTUDISC,
    ),
    fragmented(
        GRE,
        4,
        "ignore-df",
        "datagrams with DF into GRE that ignores it",
        traffic(4, "udp", sink=True),
        GRE.topology(pmtudisc=0, ignore_df=1),
    ),
    fragmented(
        GRE,
        4,
        "locked",
        "datagrams without DF; GRE sets none on a locked route MTU",
        traffic(4, "udp", df=False, sink=True),
        GRE.topology(locked=True),
    ),
    *(fits(kind, version) for kind in (GRE, FULL) for version in (4, 6)),
    *(told(EXTERNAL, version, "udp", topology=by_route(EXTERNAL, df=True)) for version in (4, 6)),
    told(EXTERNAL, 4, "udp", local=True, topology=by_route(EXTERNAL, df=True)),
    *(segments(EXTERNAL, version, by_route(EXTERNAL, df=True)) for version in (4, 6)),
    *(
        fragmented(
            EXTERNAL,
            version,
            "udp-no-df",
            "datagrams into external GRE whose route asks for no DF",
            traffic(version, "udp", sink=True),
            by_route(EXTERNAL),
        )
        for version in (4, 6)
    ),
)
