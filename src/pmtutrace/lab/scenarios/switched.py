"""Scenarios with Open vSwitch between a and b, ``a -1500- [r: datapath] -1400- b``."""

from __future__ import annotations

from dataclasses import replace

from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.scenarios import bridged
from pmtutrace.lab.scenarios.routed import MTU, WORDS, heard
from pmtutrace.lab.topology import Bridge, Topology
from pmtutrace.lab.traffic import COUNT, Traffic

VERSIONS = (4, 6)


def switched() -> Topology:
    """Return two hosts on a datapath whose ports have different MTUs."""
    return replace(bridged.bridged(), bridges=(Bridge("r", "br0", type="openvswitch"),))


def _silent(version: int, what: str) -> Scenario:
    return Scenario(
        f"ovs-v{version}-{what}",
        f"IPv{version} {WORDS[what]} that Open vSwitch sends to a port with an MTU of {MTU}",
        switched(),
        Traffic(what, "a", bridged.A[version], bridged.B[version]),
        Expected("ovs_vport_send", "never_attempted", MTU, "rb"),
        (Evidence("r", "ra:rx_packets", COUNT, less="rb:tx_packets"), heard(version, 0)),
    )


def _passes(version: int, title: str, traffic: Traffic) -> Scenario:
    return Scenario(
        f"ovs-v{version}-{traffic.what}-passes",
        f"IPv{version} {title}",
        switched(),
        traffic,
        None,
        (Evidence("b", "b0:rx_packets", COUNT),),
    )


SCENARIOS = (
    *(_silent(version, what) for what in ("udp", "echo") for version in VERSIONS),
    *(
        _passes(
            version,
            f"datagrams of exactly {MTU} octets, the MTU of the port",
            Traffic("udp", "a", bridged.A[version], bridged.B[version], length=MTU, sink=True),
        )
        for version in VERSIONS
    ),
    *(
        _passes(
            version,
            "TCP super-packets, which Open vSwitch never measures",
            Traffic("tcp", "a", bridged.A[version], bridged.B[version], segments=3),
        )
        for version in VERSIONS
    ),
)
