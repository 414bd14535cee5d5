"""L2TP between r and b. It never refuses a packet: what is too long leaves as outer fragments."""

from __future__ import annotations

from dataclasses import replace

from pmtutrace.lab.scenario import Scenario
from pmtutrace.lab.scenarios.tunnelled import UNDER_MTU, Kind, before, fits, fragmented, traffic

# IP, UDP, 8 octets of header and 4 for the layer below Ethernet.
UDP = Kind("l2tp", "l2tp", "L2TP", 54, dev="l2tp0")
IP = replace(UDP, name="l2tp-ip", words="L2TP over IP", overhead=42, options={"over": "ip"})
UDP6 = replace(UDP, name="l2tp6", under=6, overhead=74)
VERSIONS = (4, 6)

SCENARIOS: tuple[Scenario, ...] = (
    *(before(UDP, version, "udp", UDP.mtu(1500)) for version in VERSIONS),
    *(fits(UDP, version) for version in VERSIONS),
    *(
        fragmented(
            kind,
            version,
            "udp-fragmented",
            f"datagrams of 1400 octets in {kind.words}; route MTU {UNDER_MTU}",
            traffic(version, "udp", length=1400, sink=True),
            kind.topology(),
        )
        for kind in (UDP, IP, UDP6)
        for version in VERSIONS
    ),
)
