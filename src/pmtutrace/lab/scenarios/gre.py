"""GRE: plain, with a key, with checksum and sequence number. See :mod:`.tunnelled`."""

from __future__ import annotations

from pmtutrace.lab.scenario import Scenario
from pmtutrace.lab.scenarios.tunnelled import (
    Kind,
    inside,
    told,
    traffic,
)

GRE = Kind("gre", "gre", "GRE", 24)
KEY = Kind("gre-key", "gre", "GRE with a key", 28, key=77)
FULL = Kind(
    "gre-seq", "gre", "GRE with all options", 36, key=77, options={"csum": True, "seq": True}
)
FIRST = 1477  # of 23 lengths, of which the longest is one short of the cable's 1500


def _lengths() -> Scenario:
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


SCENARIOS = (
    _lengths(),
    *(told(GRE, version, what) for what in ("udp", "echo") for version in (4, 6)),
)
