"""Geneve between r and b, and VXLAN whose endpoints routes carry. See :mod:`.tunnelled`.

Like VXLAN they measure nothing that is routed into them: the device's MTU does, and then the
underlay's, if the outer packets have DF.
"""

from __future__ import annotations

from dataclasses import replace

from pmtutrace.lab.scenario import Scenario
from pmtutrace.lab.scenarios.tunnelled import Kind, before, fragmented, passes, traffic
from pmtutrace.lab.scenarios.vxlan import LENGTH, MTU, UNDER_MTU, topology, turned, wrapped

GENEVE = Kind("geneve", "geneve", "Geneve", 50, dev="gn0", key=77)
DF = replace(GENEVE, name="geneve-df", words="Geneve with DF", df="set")
GENEVE6 = replace(GENEVE, name="geneve6", under=6, overhead=70, counts_outer="tx_errors")
VERSIONS = (4, 6)

SCENARIOS: tuple[Scenario, ...] = (
    *(before(GENEVE, version, "udp", MTU, "forward") for version in VERSIONS),
    *(
        wrapped(kind, version, what)
        for kind in (DF, GENEVE6)
        for what in ("udp", "tcp")
        for version in VERSIONS
    ),
    *(wrapped(kind, version, "echo", local=True) for kind in (DF, GENEVE6) for version in VERSIONS),
    *(
        turned(kind, version, what, looped="tx_errors")
        for kind in (GENEVE, GENEVE6)
        for what in ("udp", "echo")
        for version in VERSIONS
    ),
    *(turned(GENEVE, version, "tcp", looped="tx_errors") for version in VERSIONS),
    *(
        passes(
            GENEVE,
            version,
            "udp-fits",
            f"datagrams of exactly {MTU} octets, the MTU of the tunnel",
            traffic(version, "udp", length=MTU, sink=True),
            topology(GENEVE),
        )
        for version in VERSIONS
    ),
    fragmented(
        GENEVE,
        4,
        "udp-fragmented",
        f"datagrams in Geneve without DF; route MTU {UNDER_MTU}",
        traffic(4, "udp", length=LENGTH, sink=True),
        topology(GENEVE, UNDER_MTU),
    ),
)
