"""Scenarios in which frames die, not packets, mostly without a word to anybody.

At a veth whose other end takes less, on a bridge that shows its packets to netfilter, and at TUN
and TAP devices, behind which is user space.
"""

from __future__ import annotations

from dataclasses import replace

from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.scenarios import bridged, routed
from pmtutrace.lab.scenarios.routed import MTU, WORDS, heard
from pmtutrace.lab.scenarios.tunnelled import A_BRIDGED, B_INNER, Kind, before, traffic
from pmtutrace.lab.topology import Topology, Veth
from pmtutrace.lab.traffic import COUNT, Traffic

VERSIONS = (4, 6)
TUN = Kind("tun", "tun", "a TUN", 0, dev="tun0")
TAP = Kind("tap", "tap", "a TAP", 14, dev="tap0")
RING = 500  # packets, of a TUN that nobody reads
SHOWN = (
    ("r", "bridge.bridge-nf-call-iptables", "1"),
    ("r", "bridge.bridge-nf-call-ip6tables", "1"),
)
TRACKED = (
    "table ip lab {\n chain in {\n type filter hook prerouting priority 0\n"
    " ct state invalid drop\n }\n}\n"
)


def uneven() -> Topology:
    """Return a router whose cable to b has an MTU of 1500 here and a smaller one at b's end."""
    near, (mine, theirs) = (veth.ends for veth in routed.routed(1500).veths)
    return replace(routed.routed(), veths=(Veth(near), Veth((mine, replace(theirs, mtu=MTU)))))


def shown() -> Topology:
    """Return a bridge that shows its packets to netfilter."""
    return replace(bridged.bridged(), sysctls=SHOWN)


def _veth(version: int, what: str) -> Scenario:
    return Scenario(
        f"veth-v{version}-{what}",
        f"IPv{version} {WORDS[what]} onto a veth whose other end has an MTU of {MTU}",
        uneven(),
        Traffic(what, "a", routed.A[version], routed.B[version]),
        Expected("__dev_forward_skb", "never_attempted", MTU, "rb"),
        (
            Evidence("r", "rb:tx_dropped", COUNT),
            Evidence("b", "b0:rx_dropped", COUNT),
            heard(version, 0),
        ),
    )


def _to_b(version: int, what: str = "udp", **more: object) -> Traffic:
    return Traffic(what, "a", bridged.A[version], bridged.B[version], **more)  # type: ignore[arg-type]


SHOWN_TO_NETFILTER = (
    *(
        Scenario(
            f"bridge-nf-v4-{what}",
            f"IPv4 {WORDS[what]} that a bridge shows to netfilter; port MTU {MTU}",
            shown(),
            _to_b(4, what),
            Expected("br_nf_ip_fragment", "never_attempted", MTU, "rb"),
            (Evidence("r", "IpFragFails", COUNT), heard(4, 0)),
        )
        for what in ("udp", "echo")
    ),
    Scenario(
        "bridge-nf-v4-joined",
        f"fragments of 1500 octets, joined by conntrack on a bridge; port MTU {MTU}",
        shown().having(rules=(("r", TRACKED),)),
        _to_b(4, length=2900, df=False),
        Expected("br_nf_ip_fragment", "never_attempted", MTU, "rb"),
        (Evidence("r", "IpFragFails", COUNT), heard(4, 0)),
    ),
    Scenario(
        "bridge-nf-v6-udp",
        "IPv6 datagrams that a bridge without an address shows to netfilter",
        shown(),
        _to_b(6),
        Expected("ip6_fragment", "suppressed", MTU, "br0", "no_route_back"),
        (Evidence("r", "Ip6FragFails", COUNT), heard(6, 0)),
    ),
    Scenario(
        "bridge-nf-v4-udp-fragmented",
        "IPv4 datagrams without DF that a bridge shows to netfilter, and cuts",
        shown(),
        _to_b(4, df=False, sink=True),
        None,
        (
            Evidence("r", "IpFragOKs", COUNT),
            Evidence("b", "IpReasmOKs", COUNT),
            Evidence("r", "IpFragFails", 0),
            heard(4, 0),
        ),
    ),
    Scenario(
        "bridge-nf-v4-tcp-passes",
        "IPv4 TCP super-packets, which netfilter on a bridge does not measure",
        shown(),
        _to_b(4, "tcp", segments=3),
        None,
        (Evidence("b", "b0:rx_packets", COUNT), Evidence("r", "IpFragFails", 0)),
    ),
)

USER_SPACE = (
    *(before(TUN, version, what, MTU) for what in WORDS for version in VERSIONS),
    *(before(TAP, version, "udp", MTU) for version in VERSIONS),
    *(
        Scenario(
            f"tap-bridge-v{version}-udp",
            f"IPv{version} datagrams bridged to a TAP with an MTU of {MTU}",
            TAP.topology(None, mtu=MTU, bridge=True),
            Traffic("udp", "a", A_BRIDGED[version], B_INNER[version]),
            Expected("br_dev_queue_push_xmit", "never_attempted", MTU, "tap0"),
            (Evidence("r", "ra:rx_packets", COUNT, less="tap0:tx_packets"), heard(version, 0)),
        )
        for version in VERSIONS
    ),
    *(
        Scenario(
            f"tun-v{version}-ring-full",
            f"IPv{version} datagrams that fit, {COUNT} more than a TUN has room for",
            TUN.topology(None, mtu=MTU),
            traffic(version, "udp", length=MTU, count=RING + COUNT),
            None,
            (Evidence("r", "tun0:tx_dropped", COUNT), heard(version, 0)),
        )
        for version in VERSIONS
    ),
)

SCENARIOS = (
    *(_veth(version, what) for what in ("udp", "echo") for version in VERSIONS),
    *(
        Scenario(
            f"veth-v{version}-tcp-passes",
            f"IPv{version} TCP super-packets, which a veth never measures",
            uneven(),
            Traffic("tcp", "a", routed.A[version], routed.B[version], segments=3),
            None,
            (Evidence("b", "b0:rx_packets", COUNT), Evidence("b", "b0:rx_dropped", 0)),
        )
        for version in VERSIONS
    ),
    *SHOWN_TO_NETFILTER,
    *USER_SPACE,
)
