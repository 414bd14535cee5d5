"""GRE that carries Ethernet, routed into or bridged to, and ERSPAN, which mirrors frames over it.

A bridge gives packets no route, and without one IPv4 sends no frag-needed; IPv6 does, if the
router can reach the sender in another way.
"""

from __future__ import annotations

from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.scenarios.routed import WORDS, cidr, heard
from pmtutrace.lab.scenarios.tunnelled import (
    A_BRIDGED,
    B_INNER,
    R_BRIDGED,
    UNDER_MTU,
    Kind,
    before,
    fits,
    fragmented,
    inside,
    outside,
    passes,
    segments,
    told,
    traffic,
)
from pmtutrace.lab.traffic import COUNT, Traffic

GRETAP = Kind("gretap", "gretap", "GRETAP", 38)
BRIDGED = Kind("gretap-bridge", "gretap", "GRETAP", 38)
ERSPAN = Kind("erspan", "erspan", "ERSPAN", 50, key=77, options={"seq": True, "erspan_ver": 1})
ERSPAN2 = Kind(
    "erspan2", "erspan", "ERSPAN III", 54, key=77, options={"seq": True, "erspan_ver": 2}
)


def _from_a(version: int, what: str, **more: object) -> Traffic:
    """Return traffic to b from a on the bridge."""
    return Traffic(what, "a", A_BRIDGED[version], B_INNER[version], **more)  # type: ignore[arg-type]


def _suppressed(version: int, what: str) -> Scenario:
    return inside(
        BRIDGED,
        version,
        what,
        f"{WORDS[what]} bridged to GRETAP on a route MTU of {UNDER_MTU}",
        _from_a(version, what),
        verdict="suppressed",
        cause="no_route_on_skb" if version == 4 else "no_route_back",
        topology=BRIDGED.topology(bridge=True),
        taught=False,
    )


def _told_by_bridge() -> Scenario:
    return inside(
        BRIDGED,
        6,
        "udp-told",
        "datagrams bridged to GRETAP by a router that reaches their sender",
        _from_a(6, "udp"),
        topology=BRIDGED.topology(bridge=True, addresses=cidr(R_BRIDGED)),
        taught=False,
    )


def _silent(version: int) -> Scenario:
    mtu = GRETAP.mtu(1500)
    return Scenario(
        f"gretap-bridge-v{version}-udp-device",
        f"IPv{version} datagrams bridged to GRETAP with a device MTU of {mtu}",
        BRIDGED.topology(None, mtu=mtu, bridge=True),
        _from_a(version, "udp"),
        Expected("br_dev_queue_push_xmit", "never_attempted", mtu, "g0", tunnel="g0"),
        (
            Evidence("r", "ra:rx_packets", COUNT),
            Evidence("r", "g0:tx_packets", 0),
            Evidence("r", "g0:tx_errors", 0),
            heard(version, 0),
        ),
    )


SCENARIOS = (
    *(told(GRETAP, version, what) for what in ("udp", "echo") for version in (4, 6)),
    *(told(GRETAP, version, "udp", local=True) for version in (4, 6)),
    *(segments(GRETAP, version) for version in (4, 6)),
    *(before(GRETAP, version, "udp", GRETAP.mtu(1500)) for version in (4, 6)),
    fragmented(
        GRETAP,
        4,
        "nopmtudisc",
        "datagrams without DF into GRETAP that sets none either",
        traffic(4, "udp", df=False, sink=True),
        GRETAP.topology(pmtudisc=0),
    ),
    *(fits(GRETAP, version) for version in (4, 6)),
    *(_suppressed(version, what) for what in ("udp", "echo") for version in (4, 6)),
    _told_by_bridge(),
    *(_silent(version) for version in (4, 6)),
    *(
        outside(
            BRIDGED,
            version,
            "tcp",
            f"IPv{version} TCP super-packet bridged: segments in GRETAP, MTU {UNDER_MTU}",
            _from_a(version, "tcp", count=1, segments=COUNT),
            topology=BRIDGED.topology(bridge=True),
        )
        for version in (4, 6)
    ),
    *(
        passes(
            BRIDGED,
            version,
            "udp-fits",
            f"datagrams of {BRIDGED.mtu()} octets bridged to GRETAP that takes them",
            _from_a(version, "udp", length=BRIDGED.mtu(), sink=True),
            BRIDGED.topology(bridge=True),
        )
        for version in (4, 6)
    ),
    *(told(ERSPAN, version, what) for what in ("udp", "tcp") for version in (4, 6)),
    *(told(ERSPAN2, version, "udp") for version in (4, 6)),
    *(fits(kind, version) for kind in (ERSPAN, ERSPAN2) for version in (4, 6)),
)
