"""Controls: packets too long for the tunnel, refused for another reason: none is counted.

The router has to look at something else before their length, or the tunnel never gets that far.
"""

from __future__ import annotations

from dataclasses import replace

from pmtutrace.lab.scenario import Evidence, Scenario
from pmtutrace.lab.scenarios import external, geneve, gre, ip6, vxlan
from pmtutrace.lab.scenarios.tunnelled import B_UNDER, R_UNDER, Kind, traffic
from pmtutrace.lab.topology import Topology
from pmtutrace.lab.traffic import COUNT, Traffic

NOBODY = {4: "192.0.2.99", 6: "2001:db8::99"}
NOWHERE = {4: "203.0.113.1", 6: "2001:db8:ffff::1"}
TABLE = {4: "ip", 6: "ip6"}
HEADER_ERRORS = {4: "IpInHdrErrors", 6: "Ip6InHdrErrors"}
LAST_HOP = {4: "ip ttl set 1", 6: "ip6 hoplimit set 1"}
PORTS = {"geneve": 6081, "vxlan": 4789}
VERSIONS = (4, 6)


def _chain(table: str, hook: str, rule: str) -> tuple[tuple[str, str], ...]:
    chain = f"chain one {{\n type filter hook {hook} priority 0\n {rule}\n }}"
    return (("r", f"table {table} lab {{\n {chain}\n}}\n"),)


def _control(
    kind: Kind,
    version: int,
    name: str,
    title: str,
    topology: Topology,
    *evidence: Evidence,
    sent: Traffic | None = None,
) -> Scenario:
    came = Evidence("r", "ra:rx_packets", COUNT)
    return Scenario(
        f"{kind.name}-v{version}-{name}",
        f"IPv{version} datagrams for {kind.words}; {title}",
        topology,
        sent or traffic(version, "udp"),
        None,
        (came, *evidence),
    )


def _ends(topology: Topology, local: str, remote: str) -> Topology:
    (tunnel,) = topology.tunnels
    return replace(topology, tunnels=(replace(tunnel, endpoints=(local, remote)),))


def _own_address_missing(kind: Kind, version: int) -> Scenario:
    """Return the control in which the tunnel frees packets where it frees those too long."""
    return _control(
        kind,
        version,
        "no-local-address",
        "its own endpoint is nobody's address",
        _ends(kind.topology(), NOBODY[6], B_UNDER[6]),
        *kind.counted(COUNT),
    )


def _no_route(kind: Kind, version: int) -> Scenario:
    return _control(
        kind,
        version,
        "no-route",
        "no route leads to its other endpoint",
        _ends(kind.topology(), R_UNDER[kind.under], NOWHERE[kind.under]),
        Evidence("r", f"{kind.dev}:tx_errors", COUNT),
        Evidence("r", "ru:tx_packets", 0),
    )


def _last_hop(kind: Kind, version: int) -> Scenario:
    rule = _chain(TABLE[version], "prerouting", LAST_HOP[version])
    return _control(
        kind,
        version,
        "hop-limit",
        "the router is their last hop",
        kind.topology().having(rules=rule),
        Evidence("r", HEADER_ERRORS[version], COUNT),
        Evidence("r", f"{kind.dev}:tx_errors", 0),
    )


def _filtered(kind: Kind, version: int) -> Scenario:
    rule = _chain("inet", "forward", "meta length > 1000 drop")
    return _control(
        kind,
        version,
        "filtered",
        "the router's filter drops them",
        kind.topology().having(rules=rule),
        Evidence("r", f"{kind.dev}:tx_errors", 0),
        Evidence("r", "ru:tx_packets", 0),
    )


def _outer_filtered(kind: Kind, version: int) -> Scenario:
    rule = _chain("inet", "output", f"udp dport {PORTS[kind.type]} drop")
    return _control(
        kind,
        version,
        "outer-filtered",
        "a filter drops the outer ones",
        vxlan.topology(kind, vxlan.UNDER_MTU).having(rules=rule),
        Evidence("r", "IpFragFails", 0),
        Evidence("r", "ru:tx_packets", 0),
        sent=traffic(version, "udp", length=vxlan.LENGTH),
    )


def _no_metadata(kind: Kind, version: int) -> Scenario:
    """Return the control of an external tunnel into which a route leads that says no endpoint."""
    return _control(
        kind,
        version,
        "no-metadata",
        "their route says no endpoint",
        kind.topology(),
        Evidence("r", f"{kind.dev}:tx_dropped", COUNT),
        Evidence("r", "ru:tx_packets", 0),
    )


def _other_key(kind: Kind, version: int) -> Scenario:
    topology = kind.topology(None)
    (tunnel,) = topology.tunnels
    return _control(
        kind,
        version,
        "other-key",
        "the far end has another key",
        replace(topology, tunnels=(replace(tunnel, far={"key": 78}),)),
        Evidence("r", "ru:tx_packets", COUNT),
        Evidence("b", f"{kind.dev}:rx_packets", 0),
        sent=traffic(version, "udp", length=kind.mtu(1500)),
    )


SCENARIOS = (
    *(_own_address_missing(kind, v) for kind in (ip6.IP6TNL, ip6.IP6GRE) for v in VERSIONS),
    *(_no_route(kind, v) for kind in (ip6.IP6TNL, geneve.GENEVE) for v in VERSIONS),
    *(_no_metadata(kind, v) for kind in (external.IP6TNL, gre.EXTERNAL) for v in VERSIONS),
    *(_last_hop(kind, v) for kind in (ip6.IP6TNL, ip6.IP6GRETAP) for v in VERSIONS),
    *(_filtered(kind, v) for kind in (ip6.IP6TNL, ip6.IP6GRE) for v in VERSIONS),
    *(_outer_filtered(kind, v) for kind in (vxlan.DF, geneve.DF) for v in VERSIONS),
    *(_other_key(kind, v) for kind in (vxlan.VXLAN, geneve.GENEVE, ip6.FULL) for v in VERSIONS),
)
