"""Tunnels whose endpoints come with each packet, from its route (``ip route … encap``).

GRE of this kind is in :mod:`.gre`.
"""

from __future__ import annotations

from dataclasses import replace

from pmtutrace.lab.scenario import Scenario
from pmtutrace.lab.scenarios import geneve, ip6, vxlan
from pmtutrace.lab.scenarios.routed import WORDS
from pmtutrace.lab.scenarios.tunnelled import (
    Kind,
    by_route,
    fragmented,
    inside,
    outside,
    passes,
    traffic,
)
from pmtutrace.lab.scenarios.vxlan import LENGTH, MTU, UNDER_MTU
from pmtutrace.lab.traffic import COUNT

VXLAN = replace(vxlan.VXLAN, name="vxlan-md", words="external VXLAN", external=True)
GENEVE = replace(geneve.GENEVE, name="geneve-md", words="external Geneve", external=True)
GENEVE6 = replace(geneve.GENEVE6, name="geneve6-md", words="external Geneve", external=True)
# No encapsulation limit; the kernel forgets the key in what it tells.
IP6TNL = replace(ip6.IP6TNL, name="ip6tnl-md", words="external ip6tnl", overhead=40, external=True)
IP6GRE = replace(ip6.IP6GRE, name="ip6gre-md", words="external ip6gre", overhead=44, external=True)
# Class 0x0102 is for experiments; 12 and 4 octets, so 24 in the header.
OPTIONS = ((0x0102, 0x80, "00112233445566778899aabb"), (0x0102, 0x81, "706d7475"))
VERSIONS = (4, 6)


def _outer(kind: Kind, version: int, what: str, *, options: bool = False) -> Scenario:
    """Return the scenario in which r refuses the packets that an external tunnel made."""
    offload = what == "tcp"
    return outside(
        kind,
        version,
        f"{what}-{'options' if options else 'forward'}",
        f"IPv{version} {WORDS[what]} in {kind.words}{', options' * options}; MTU {UNDER_MTU}",
        traffic(
            version,
            what,
            length=LENGTH,
            count=1 if offload else COUNT,
            segments=COUNT if offload else 1,
        ),
        under_mtu=UNDER_MTU,
        topology=by_route(
            kind,
            UNDER_MTU,
            mtu=kind.mtu(1500) - 24 * options,
            df=True,
            options=OPTIONS if options else (),
        ),
    )


def _inside(kind: Kind, version: int, what: str) -> Scenario:
    return inside(
        kind,
        version,
        f"{what}-forward",
        f"{WORDS[what]} forwarded; {kind.words} on a route MTU of 1400",
        traffic(version, what),
        topology=by_route(kind),
    )


SCENARIOS = (
    *(_outer(VXLAN, version, what) for what in ("udp", "tcp") for version in VERSIONS),
    *(
        _outer(kind, version, "udp", options=True)
        for kind in (GENEVE, GENEVE6)
        for version in VERSIONS
    ),
    *(_outer(GENEVE, version, "tcp", options=True) for version in VERSIONS),
    *(_inside(kind, version, "udp") for kind in (IP6TNL, IP6GRE) for version in VERSIONS),
    *(
        passes(
            kind,
            version,
            "udp-fits",
            f"datagrams of exactly {MTU} octets, the MTU of the tunnel",
            traffic(version, "udp", length=MTU, sink=True),
            by_route(kind, None, mtu=MTU, df=True),
        )
        for kind in (VXLAN, GENEVE)
        for version in VERSIONS
    ),
    fragmented(
        VXLAN,
        4,
        "udp-fragmented",
        f"datagrams in external VXLAN without DF; route MTU {UNDER_MTU}",
        traffic(4, "udp", length=LENGTH, sink=True),
        by_route(VXLAN, UNDER_MTU, mtu=MTU),
    ),
)
