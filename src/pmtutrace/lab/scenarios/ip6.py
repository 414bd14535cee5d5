"""Tunnels with an outer IPv6 header: ip6tnl, ip6gre, ip6gretap, ip6erspan. See :mod:`.tunnelled`.

Unlike those over IPv4 they refuse what is too long whether it has DF or not.
"""

from __future__ import annotations

from dataclasses import replace

from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.scenarios.routed import DROP_NEWS, STRANGER, WORDS, heard
from pmtutrace.lab.scenarios.tunnelled import (
    A_BRIDGED,
    B_INNER,
    R_INNER,
    UNDER_MTU,
    Kind,
    before,
    fits,
    inside,
    segments,
    told,
    traffic,
)
from pmtutrace.lab.traffic import COUNT, Traffic

IP6TNL = Kind(
    "ip6tnl",
    "ip6tnl",
    "ip6tnl",
    48,
    dev="t0",
    under=6,
    sites={4: "ip6_tnl_xmit", 6: "ip6_tnl_xmit"},
    counts=("tx_errors", "tx_dropped"),
    counts_outer="tx_errors",
    relays=True,
)
# Flag 1: no option that limits how deep tunnels nest, which takes 8 octets.
BARE = replace(
    IP6TNL, name="ip6tnl-nolimit", words="ip6tnl, no limit", overhead=40, options={"flags": 1}
)
IP6GRE = replace(
    IP6TNL, name="ip6gre", type="ip6gre", words="ip6gre", overhead=52, dev="g0", relays=False
)
FULL = replace(
    IP6GRE,
    name="ip6gre-seq",
    words="full ip6gre",
    overhead=64,
    key=77,
    options={"csum": True, "seq": True},
)
IP6GRETAP = replace(IP6GRE, name="ip6gretap", type="ip6gretap", words="ip6gretap", overhead=66)
# The kernel forgets the 8 octets of the ERSPAN header.
IP6ERSPAN = replace(
    IP6GRE,
    name="ip6erspan",
    type="ip6erspan",
    words="ip6erspan",
    overhead=70,
    key=77,
    options={"seq": True, "erspan_ver": 1, "erspan_index": 23},
)
MASQUERADE = (
    "table ip lab {{\n chain post {{\n type nat hook postrouting priority 100\n"
    " oifname {} masquerade\n }}\n}}\n"
)
VERSIONS = (4, 6)


def _suppressed(kind: Kind, version: int, what: str, cause: str, title: str) -> Scenario:
    source = STRANGER if cause == "no_route_back" else {4: "10.77.1.1", 6: "fd77:1::1"}
    sent = Traffic(what, "a", source[version], B_INNER[version])
    name = cause.replace("_", "-").removesuffix("-inside")
    came = (Evidence("r", "ra:rx_packets", COUNT),)
    return inside(kind, version, name, title, sent, verdict="suppressed", cause=cause, more=came)


def _lost(kind: Kind, version: int) -> Scenario:
    return inside(
        kind,
        version,
        "news-filtered",
        f"datagrams into {kind.words}; the router's output filter drops the news",
        traffic(version, "udp"),
        verdict="lost",
        topology=kind.topology().having(rules=(("r", DROP_NEWS[version]),)),
    )


def _bridged(kind: Kind, version: int) -> Scenario:
    """Return the scenario of a bridge, whose packets have no route on which news could go."""
    return Scenario(
        f"{kind.name}-bridge-v{version}-udp",
        f"IPv{version} datagrams bridged to {kind.words}; route MTU {UNDER_MTU}",
        kind.topology(bridge=True),
        Traffic("udp", "a", A_BRIDGED[version], B_INNER[version]),
        Expected(
            "ip6_tnl_xmit",
            "suppressed",
            kind.mtu(),
            kind.dev,
            {4: "no_route_on_skb", 6: "no_route_back"}[version],
            tunnel=kind.dev,
        ),
        (*kind.counted(COUNT), Evidence("r", "ru:tx_packets", 0), heard(version, 0)),
    )


def _masqueraded(kind: Kind) -> Scenario:
    """Return the scenario of a tunnel that sees packets after NAT, and tells their true sender."""
    refused = inside(
        kind,
        4,
        "udp-masqueraded",
        f"datagrams that the router masquerades into {kind.words}",
        traffic(4, "udp"),
        topology=kind.topology().having(rules=(("r", MASQUERADE.format(kind.dev)),)),
    )
    drops = tuple(replace(drop, saddr=R_INNER[4]) for drop in refused.drops)
    return replace(refused, expected=drops[0])


SCENARIOS = (
    *(told(IP6TNL, version, what) for what in ("udp", "echo") for version in VERSIONS),
    *(
        told(kind, version, "udp")
        for kind in (BARE, IP6GRE, FULL, IP6GRETAP, IP6ERSPAN)
        for version in VERSIONS
    ),
    *(
        told(kind, version, "udp", local=True)
        for kind in (IP6TNL, IP6GRE, IP6GRETAP)
        for version in VERSIONS
    ),
    *(segments(kind, version) for kind in (IP6TNL, IP6GRE, IP6GRETAP) for version in VERSIONS),
    *(before(IP6TNL, version, what, 1452) for what in WORDS for version in VERSIONS),
    *(
        fits(kind, version)
        for kind in (IP6TNL, BARE, IP6GRE, FULL, IP6GRETAP)
        for version in VERSIONS
    ),
    inside(
        IP6TNL,
        4,
        "udp-no-df",
        "datagrams without DF, which ip6tnl refuses all the same",
        traffic(4, "udp", df=False),
        # Else the sender makes fragments after the first news.
        topology=IP6TNL.topology().having(sysctls=(("a", "ipv4.ip_no_pmtu_disc", "2"),)),
    ),
    *(
        _suppressed(IP6TNL, version, what, cause, f"{title} into ip6tnl")
        for what, cause, title in (
            ("raw-udp", "no_route_back", "datagrams from where the router has no route,"),
            ("icmp-error", "icmp_error_inside", "ICMP errors"),
        )
        for version in VERSIONS
    ),
    *(_masqueraded(kind) for kind in (IP6TNL, IP6GRE)),
    *(_lost(IP6TNL, version) for version in VERSIONS),
    *(_bridged(IP6GRETAP, version) for version in VERSIONS),
)
