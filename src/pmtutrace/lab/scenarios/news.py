"""Scenarios about the news itself: why it is not made, and how it dies after it was handed over.

The topology is that of :mod:`.routed`, or a tunnel to the sender, so that the news itself has to
go through it.
"""

from __future__ import annotations

from pmtutrace.lab import wire
from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.scenarios import tunnelled
from pmtutrace.lab.scenarios.routed import (
    MTU,
    R_TO_A,
    R_TO_B,
    SITE,
    STRANGER,
    A,
    B,
    cidr,
    heard,
    refused,
    routed,
)
from pmtutrace.lab.topology import Port, Queue, Route, Topology, Tunnel, Veth
from pmtutrace.lab.traffic import COUNT, Traffic

NOBODY = {4: "10.77.1.99", 6: "fd77:1::99"}  # an address of a's subnet
STRANGERS = {4: "198.51.100.0/24", 6: "2001:db8:ffff::/64"}
OVERHEAD = {4: 50, 6: 70}  # of VXLAN
VNI = 77
MANY = {4: "239.77.0.1", 6: "ff0e::77"}
MANY_NET = {4: "239.0.0.0/8", 6: "ff0e::/16"}
# A neighbour that does not answer three questions, 40 ms apart, is given up.
SILENT = (("retrans_time_ms", "40"), ("mcast_solicit", "3"))
DISCARDS = {4: "IpOutDiscards", 6: "Ip6OutDiscards"}
TICK_S = 64e-9  # the kernel's unit for how long a bucket takes to fill, 4.29 s at most
POSTROUTING = {
    4: "table ip lab {\n chain out {\n type filter hook postrouting priority 0\n"
    " icmp type destination-unreachable drop\n }\n}\n",
    6: "table ip6 lab {\n chain out {\n type filter hook postrouting priority 0\n"
    " icmpv6 type packet-too-big drop\n }\n}\n",
}


def _lost(
    name: str,
    version: int,
    title: str,
    topology: Topology,
    *more: Evidence,
    saddr: str | None = None,
    prelude: tuple[Traffic, ...] = (),
    targets: tuple[str, ...] = (),
) -> Scenario:
    """Return the scenario in which news is handed over and dies on the router."""
    what = "udp" if saddr is None else "raw-udp"
    return Scenario(
        f"news-v{version}-{name}",
        f"IPv{version} news {title}",
        topology,
        Traffic(what, "a", saddr or A[version], B[version], pinned=True),
        Expected(SITE[version], "lost", MTU, "rb"),
        (*refused(version), *more, heard(version, 0)),
        prelude=prelude,
        flush=bool(prelude),
        targets=targets,
    )


def _no_neighbour(version: int) -> Scenario:
    return _lost(
        "no-neighbour",
        version,
        "that waits for a neighbour which never answers",
        routed(resolves=True).having(
            routes=(Route("r", STRANGERS[version], via=NOBODY[version]),),
            sysctls=tuple(("r", f"ipv{version}.neigh.ra.{name}", v) for name, v in SILENT),
        ),
        saddr=STRANGER[version],
    )


def _queue_full(version: int) -> Scenario:
    return _lost(
        "queue-full",
        version,
        "for which the device's queue has no room",
        routed().having(queues=(Queue("r", "ra", "pfifo", {"limit": 0}),)),
        Evidence("r", DISCARDS[version], COUNT),
    )


def _closed(burst: int, rate: int) -> Queue:
    """Return a bucket that the first packet empties: the next one has to wait for seconds.

    Args:
        burst: octets that it holds, those of the first packet with its Ethernet header.
        rate: octets that come in each second. How long it takes to fill must be whole ticks: less
            than whole packets are never let through.
    """
    ticks = burst / rate / TICK_S
    if ticks >= 1 << 26 or abs(ticks - round(ticks)) > 1e-3:
        raise ValueError(f"a bucket of {burst} octets cannot be filled by {rate} a second")
    return Queue("r", "ra", "tbf", {"rate": rate, "limit": 1 << 20, "burst": burst})


def _queue_gone(version: int) -> Scenario:
    length = 600 if version == 4 else 1300
    return _lost(
        "queue-gone",
        version,
        "that waits in a device's queue until that is taken away",
        routed().having(queues=(_closed(length + 14, 200 if version == 4 else 400),)),
        Evidence("r", DISCARDS[version], 0),
        # Its answer takes what the bucket holds.
        prelude=(Traffic("echo", "a", A[version], R_TO_A[version], length, 1, pinned=True),),
        targets=("qdisc_enqueue",),
    )


def _postrouting(version: int) -> Scenario:
    return _lost(
        "postrouting",
        version,
        "that the router's own postrouting filter drops",
        routed().having(rules=(("r", POSTROUTING[version]),)),
        Evidence("r", DISCARDS[version], COUNT),
    )


def _append_failed(version: int) -> Scenario:
    errors, requests, replies = {
        4: ("IcmpOutErrors", "IcmpInEchos", "IcmpOutEchoReps"),
        6: ("Icmp6OutErrors", "Icmp6InEchos", "Icmp6OutEchoReplies"),
    }[version]
    return Scenario(
        f"news-v{version}-append-failed",
        f"IPv{version} news while answers to pings fill the ICMP socket",
        routed().having(queues=(_closed(1600, 400),)),
        Traffic("udp", "a", A[version], B[version], pinned=True),
        Expected(SITE[version], "suppressed", MTU, "rb", cause="append_failed"),
        (
            *refused(version, told=False),
            # Without the answers to pings that found no room either.
            Evidence("r", errors, COUNT, less=requests, plus=replies),
            heard(version, 0),
        ),
        prelude=(Traffic("echo", "a", A[version], R_TO_A[version], count=311, pinned=True),),
        targets=("ip_append_data",),
    )


def _back_by_tunnel(version: int, length: int, under_mtu: int) -> Topology:
    """Return a router to which a tunnel leads from a; back to a it takes little at a time."""
    near, far = tunnelled.R_UNDER[version], tunnelled.B_UNDER[version]
    back = f"{tunnelled.B_INNER[version]}/{32 if version == 4 else 128}"
    return Topology(
        veths=(
            Veth(
                (Port("a", "au", cidr(tunnelled.B_UNDER)), Port("r", "ru", cidr(tunnelled.R_UNDER)))
            ),
            Veth((Port("r", "rb", cidr(R_TO_B), MTU), Port("b", "b0", cidr(B), MTU))),
        ),
        tunnels=(
            Tunnel(
                "vxlan",
                (
                    Port("r", "vx0", cidr(tunnelled.R_INNER), length),
                    Port("a", "vx0", cidr(tunnelled.B_INNER), length),
                ),
                (near, far),
                key=VNI,
                df="set" if version == 4 else None,
            ),
        ),
        routes=(
            Route("a", "10.77.2.0/24", via=tunnelled.R_INNER[4]),
            Route("a", "fd77:2::/64", via=tunnelled.R_INNER[6]),
            Route("r", far, dev="ru", mtu=under_mtu),
            # Without the lock the tunnel would make the next message smaller.
            Route("r", back, dev="vx0", mtu=length, locked=True),
        ),
        routers=("r",),
    )


def _busy(version: int) -> Scenario:
    """Return the scenario in which the news is too big for the tunnel that it has to take.

    The router refuses the packet that carries it while it is still at sending it.
    """
    under_mtu = {4: 600, 6: 1300}[version]
    length = 1500 - OVERHEAD[version]
    fails, site, sent = {
        4: ("IpFragFails", "ip_fragment", "IcmpOutDestUnreachs"),
        6: ("Ip6FragFails", "ip6_fragment", "Icmp6OutPktTooBigs"),
    }[version]
    return Scenario(
        f"news-v{version}-socket-busy",
        f"IPv{version} news that does not fit into the tunnel to its sender",
        _back_by_tunnel(version, length, under_mtu),
        Traffic("udp", "a", tunnelled.B_INNER[version], B[version], length=length),
        Expected(SITE[version], "lost", MTU, "rb"),
        (
            Evidence("r", sent, COUNT),
            Evidence("r", fails, 2 * COUNT),
            heard(version, 0),
            heard(version, 0, node="r"),
        ),
        then=(
            Expected(
                site,
                "suppressed",
                under_mtu,
                "ru",
                cause="icmp_socket_busy",
                tunnel="vx0",
                outer=True,
                ends=(tunnelled.R_INNER[version], tunnelled.B_INNER[version]),
            ),
        ),
    )


def _multicast(version: int) -> Scenario:
    """Return the scenario of a router's own multicast, too big for its route."""
    told = version == 6
    # The kernel's own route to all groups is in the local table.
    table = wire.LOCAL_TABLE if version == 6 else None
    sent = "IcmpOutDestUnreachs" if version == 4 else "Icmp6OutPktTooBigs"
    return Scenario(
        f"news-v{version}-multicast",
        f"IPv{version} packets to many: {'answered' if told else 'no ICMP error answers these'}",
        routed(1500).having(
            routes=(Route("r", MANY_NET[version], dev="rb", mtu=MTU, table=table),)
        ),
        Traffic("raw-udp", "r", R_TO_B[version], MANY[version]),
        Expected(
            "ip_fragment" if version == 4 else "ip6_fragment",
            "told" if told else "suppressed",
            MTU,
            "rb",
            cause=None if told else "broadcast_or_multicast",
        ),
        (
            Evidence("r", "IpFragFails" if version == 4 else "Ip6FragFails", COUNT),
            Evidence("r", sent, COUNT if told else 0),
            heard(version, COUNT if told else 0, node="r"),
        ),
    )


SCENARIOS = (
    *(_no_neighbour(version) for version in (4, 6)),
    *(_queue_full(version) for version in (4, 6)),
    *(_queue_gone(version) for version in (4, 6)),
    *(_postrouting(version) for version in (4, 6)),
    *(_append_failed(version) for version in (4, 6)),
    *(_multicast(version) for version in (4, 6)),
    *(_busy(version) for version in (4, 6)),
    Scenario(
        "news-v4-options-invalid",
        "IPv4 packets with an option that cannot be echoed",
        routed(),
        Traffic("raw-options", "a", A[4], B[4]),
        Expected("ip_forward", "suppressed", MTU, "rb", cause="options_invalid"),
        (*refused(4, told=False), heard(4, 0)),
    ),
    Scenario(
        "news-v6-from-nobody",
        "IPv6 packets of the router's own with no source address",
        routed(1500).having(routes=(Route("r", f"{B[6]}/128", dev="rb", mtu=MTU),)),
        Traffic("raw-udp", "r", "::", B[6]),
        Expected("ip6_fragment", "suppressed", MTU, "rb", cause="broadcast_or_multicast"),
        (Evidence("r", "Ip6FragFails", COUNT), Evidence("r", "Icmp6OutPktTooBigs", 0)),
    ),
    Scenario(
        "news-v6-later-fragment",
        "IPv6 fragments, not the first ones: these are answered",
        routed(),
        Traffic("later-fragment", "a", A[6], B[6]),
        Expected("ip6_forward", "told", MTU, "rb"),
        (*refused(6), heard(6)),
    ),
)
