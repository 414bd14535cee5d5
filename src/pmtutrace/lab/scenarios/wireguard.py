"""WireGuard, which refuses nothing for its size: its outer packets may be fragmented.

What is refused is what its device's own MTU does not take. See :mod:`.tunnelled`.
"""

from __future__ import annotations

from pmtutrace.lab.scenario import Evidence, Scenario
from pmtutrace.lab.scenarios.local import through_tunnel
from pmtutrace.lab.scenarios.tunnelled import (
    FAILS,
    UNDER_MTU,
    Kind,
    before,
    traffic,
)
from pmtutrace.lab.traffic import COUNT

WIREGUARD = Kind("wireguard", "wireguard", "WireGuard", 60, dev="wg0")
WIREGUARD6 = Kind("wireguard6", "wireguard", "WireGuard", 80, dev="wg0", under=6)
KINDS = (WIREGUARD, WIREGUARD6)
ECHOS = {4: "IcmpInEchos", 6: "Icmp6InEchos"}
FRAGMENTED = {4: ("IpFragOKs", "IpReasmOKs"), 6: ("Ip6FragOKs", "Ip6ReasmOKs")}


def _control(
    kind: Kind, version: int, name: str, title: str, length: int, under_mtu: int | None = None
) -> Scenario:
    """Return a control of pings that all arrive."""
    split, joined = FRAGMENTED[kind.under]
    pieces = COUNT if under_mtu else 0
    return Scenario(
        f"{kind.name}-v{version}-echo-{name}",
        f"IPv{version} pings {title}",
        kind.topology(under_mtu, mtu=kind.mtu(1500)),
        traffic(version, "echo", length=length),
        None,
        (
            Evidence("b", ECHOS[version], COUNT),
            Evidence("r", split, pieces),
            Evidence("b", joined, pieces),
            Evidence("r", FAILS[4], 0),
            Evidence("r", FAILS[6], 0),
        ),
    )


def _no_peer(version: int) -> Scenario:
    return Scenario(
        f"wireguard-v{version}-no-peer",
        f"IPv{version} packets into WireGuard that no peer is for",
        WIREGUARD.topology(mtu=1500, peer=False),
        traffic(version, "udp"),
        None,
        (Evidence("r", "wg0:tx_errors", COUNT), Evidence("r", FAILS[version], 0)),
    )


SCENARIOS = (
    *(
        before(kind, version, what, kind.mtu(1500))
        for kind in KINDS
        for what in ("udp", "tcp", "echo")
        for version in (4, 6)
    ),
    *(through_tunnel(WIREGUARD, version, "udp") for version in (4, 6)),
    *(
        _control(
            kind,
            version,
            "fits",
            f"just fitting into {kind.words} over IPv{kind.under}",
            kind.mtu(1500),
        )
        for kind in KINDS
        for version in (4, 6)
    ),
    *(
        _control(
            kind,
            version,
            "fragmented",
            f"in {kind.words}, fragmented as IPv{kind.under}; route MTU {UNDER_MTU}",
            1400,
            UNDER_MTU,
        )
        for kind in KINDS
        for version in (4, 6)
    ),
    *(_no_peer(version) for version in (4, 6)),
)
