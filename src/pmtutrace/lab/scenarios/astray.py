"""Packets in tunnels that are refused for another reason than their size: nothing is counted.

Each could be taken for too big: it is, or it just fits.
"""

from __future__ import annotations

from pmtutrace.lab.scenario import Evidence, Scenario
from pmtutrace.lab.scenarios.gre import GRE, KEY
from pmtutrace.lab.scenarios.gretap import GRETAP
from pmtutrace.lab.scenarios.ipip import IPIP
from pmtutrace.lab.scenarios.sit import SIT
from pmtutrace.lab.scenarios.tunnelled import B_INNER, FAILS, SENT, Kind, traffic
from pmtutrace.lab.topology import Port, Route, Topology, Veth
from pmtutrace.lab.traffic import COUNT, Traffic

GRE_CSUM = 0x8000
C_FAR, B_FAR = "10.77.5.1", "10.77.5.254"
DROP_FORWARDED = (
    "table inet lab {\n chain forward {\n type filter hook forward priority 0\n"
    ' oifname "g0" drop\n }\n}\n'
)
DROP_OUTER = (
    "table ip lab {\n chain out {\n type filter hook output priority 0\n"
    " ip protocol { 4, 41, 47 } drop\n }\n}\n"
)
TIME_EXCEEDED = {4: "IcmpOutTimeExcds", 6: "Icmp6OutTimeExcds"}
UNREACHABLE = {4: "IcmpInDestUnreachs", 6: "Icmp6InDestUnreachs"}


def _unlimited(node: str) -> tuple[tuple[str, str, str], ...]:
    """Return what has every packet answered, and not a few in each second."""
    return ((node, "ipv4.icmp_ratelimit", "0"), (node, "ipv6.icmp.ratelimit", "0"))


def _none(
    kind: Kind,
    version: int,
    name: str,
    title: str,
    sent: Traffic,
    topology: Topology,
    *kernel: Evidence,
) -> Scenario:
    nothing: tuple[Evidence, ...] = (Evidence("r", FAILS[version], 0),)
    if version == 6:
        nothing += (Evidence("r", SENT[6], 0),)
    return Scenario(
        f"{kind.name}-v{version}-{name}",
        f"IPv{version} {title}",
        topology,
        sent,
        None,
        (*kernel, *nothing),
    )


def _last_hop(kind: Kind, version: int) -> Scenario:
    return _none(
        kind,
        version,
        "ttl",
        f"datagrams too big for {kind.words} that have no hop left",
        traffic(version, "udp", ttl=1),
        kind.topology().having(sysctls=_unlimited("r")),
        Evidence("r", TIME_EXCEEDED[version], COUNT),
        Evidence("r", f"{kind.dev}:tx_errors", 0),
    )


def _filtered(kind: Kind, version: int) -> Scenario:
    return _none(
        kind,
        version,
        "filtered",
        f"datagrams too big for {kind.words} that a filter drops before it",
        traffic(version, "udp"),
        kind.topology().having(rules=(("r", DROP_FORWARDED),)),
        Evidence("r", "ra:rx_packets", COUNT),
        Evidence("r", f"{kind.dev}:tx_errors", 0),
    )


def _filtered_outside(kind: Kind, version: int) -> Scenario:
    return _none(
        kind,
        version,
        "outer-filtered",
        f"datagrams too big on the outside that a filter drops in {kind.words}",
        traffic(version, "udp", df=version == 6),
        kind.topology(1400 if version == 4 else 1300).having(rules=(("r", DROP_OUTER),)),
        Evidence("r", f"{kind.dev}:tx_dropped", COUNT),
    )


def _closed(kind: Kind, version: int) -> Scenario:
    return _none(
        kind,
        version,
        "closed-port",
        f"datagrams that just fit {kind.words} to a port that nobody has",
        traffic(version, "udp", length=kind.mtu()),
        kind.topology().having(sysctls=_unlimited("b")),
        Evidence("a", UNREACHABLE[version], COUNT),
    )


def _not_forwarded() -> Scenario:
    """Return the far side that is no router: a third host behind it."""
    beyond = GRE.topology().having(
        veths=(Veth((Port("b", "bc", (f"{B_FAR}/24",)), Port("c", "c0", (f"{C_FAR}/24",)))),),
        routes=(
            Route("a", "10.77.5.0/24", via="10.77.1.254"),
            Route("r", "10.77.5.0/24", via=B_INNER[4]),
        ),
    )
    return _none(
        GRE,
        4,
        "not-forwarded",
        "datagrams that just fit GRE, whose far side does not forward",
        Traffic("udp", "a", "10.77.1.1", C_FAR, length=GRE.mtu()),
        beyond,
        Evidence("b", "g0:rx_packets", COUNT),
        Evidence("c", "c0:rx_packets", 0),
    )


SCENARIOS = (
    *(_last_hop(kind, version) for kind in (GRE, SIT) for version in (4, 6)),
    _last_hop(IPIP, 4),
    *(_filtered(kind, version) for kind in (GRE, GRETAP) for version in (4, 6)),
    _filtered(SIT, 6),
    *(_filtered_outside(GRE, version) for version in (4, 6)),
    _filtered_outside(IPIP, 4),
    *(_closed(kind, version) for kind in (GRE, GRETAP) for version in (4, 6)),
    _closed(IPIP, 4),
    _closed(SIT, 6),
    _not_forwarded(),
    _none(
        KEY,
        4,
        "other-key",
        "datagrams that just fit GRE, whose far side wants another key",
        traffic(4, "udp", length=KEY.mtu()),
        KEY.topology(ikey=78).having(sysctls=_unlimited("b")),
        Evidence("b", "IcmpOutDestUnreachs", COUNT),
        Evidence("b", "g0:rx_packets", 0),
    ),
    _none(
        GRE,
        4,
        "no-checksum",
        "datagrams that just fit GRE, whose far side wants a checksum",
        traffic(4, "udp", length=GRE.mtu()),
        GRE.topology(iflags=GRE_CSUM),
        Evidence("b", "g0:rx_errors", COUNT),
        Evidence("b", "g0:rx_packets", 0),
    ),
)
