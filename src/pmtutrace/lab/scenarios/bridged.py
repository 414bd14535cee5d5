"""Scenarios with a bridge and no tunnel: ``a -1500- [r: bridge] -1400- b``, all in one subnet."""

from __future__ import annotations

from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.scenarios.routed import MTU, WORDS, cidr, heard
from pmtutrace.lab.topology import Bridge, Port, Topology, Veth
from pmtutrace.lab.traffic import COUNT, Traffic

A, B = {4: "10.77.4.1", 6: "fd77:4::1"}, {4: "10.77.4.2", 6: "fd77:4::2"}


def bridged() -> Topology:
    """Return two hosts on a bridge whose ports have different MTUs."""
    return Topology(
        veths=(
            Veth((Port("a", "a0", cidr(A)), Port("r", "ra", bridge="br0"))),
            Veth((Port("r", "rb", mtu=MTU, bridge="br0"), Port("b", "b0", cidr(B), MTU))),
        ),
        bridges=(Bridge("r", "br0"),),
    )


def _silent(version: int, what: str) -> Scenario:
    return Scenario(
        f"bridge-v{version}-{what}",
        f"IPv{version} {WORDS[what]} bridged to a port with an MTU of {MTU}",
        bridged(),
        Traffic(what, "a", A[version], B[version]),
        Expected("br_dev_queue_push_xmit", "never_attempted", MTU, "rb"),
        # The bridge counts nothing: what came in and did not go out is all there is.
        (Evidence("r", "ra:rx_packets", COUNT, less="rb:tx_packets"), heard(version, 0)),
    )


def _passes(version: int, title: str, traffic: Traffic) -> Scenario:
    return Scenario(
        f"bridge-v{version}-{traffic.what}-passes",
        f"IPv{version} {title}",
        bridged(),
        traffic,
        None,
        (
            Evidence("r", "ra:rx_packets", 0, less="rb:tx_packets"),
            Evidence("b", "b0:rx_packets", COUNT),
        ),
    )


SCENARIOS = (
    *(_silent(version, what) for what in ("udp", "echo") for version in (4, 6)),
    *(
        _passes(
            version,
            "datagrams 4 octets above the MTU: room for a VLAN tag",
            Traffic("udp", "a", A[version], B[version], length=MTU + 4, sink=True),
        )
        for version in (4, 6)
    ),
    _passes(
        4,
        "TCP super-packets, which a bridge never measures",
        Traffic("tcp", "a", A[4], B[4], segments=3),
    ),
)
