"""Scenarios without a tunnel: a router r between a and b, ``a -1500- r -1400- b``."""

from __future__ import annotations

from pmtutrace.lab import traffic
from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.topology import Port, Route, Topology, Veth
from pmtutrace.lab.traffic import COUNT, Traffic

MTU = 1400
A, R_TO_A, R_TO_B, B = (
    {4: "10.77.1.1", 6: "fd77:1::1"},
    {4: "10.77.1.254", 6: "fd77:1::fe"},
    {4: "10.77.2.254", 6: "fd77:2::fe"},
    {4: "10.77.2.1", 6: "fd77:2::1"},
)
STRANGER = {4: traffic.STRANGER, 6: "2001:db8:ffff::1"}
SITE = {4: "ip_forward", 6: "ip6_forward"}
WORDS = {"udp": "UDP datagrams", "tcp": "TCP super-packets", "echo": "pings"}
# The kernel exempts packet-too-big by this mask. A new destination has 60 s to its credit: with a
# limit of one message in ten minutes, not even the first one is sent.
LIMIT_HOST = (("r", "ipv6.icmp.ratemask", "0-127"), ("r", "ipv6.icmp.ratelimit", "600000"))
LIMIT_GLOBAL = (
    ("r", "ipv6.icmp.ratemask", "0-127"),
    ("r", "ipv4.icmp_msgs_per_sec", "0"),
    ("r", "ipv4.icmp_msgs_burst", "0"),
)
DROP_NEWS = {
    4: "table ip lab {\n chain out {\n type filter hook output priority 0\n"
    " icmp type destination-unreachable drop\n }\n}\n",
    6: "table ip6 lab {\n chain out {\n type filter hook output priority 0\n"
    " icmpv6 type packet-too-big drop\n }\n}\n",
}


def cidr(addresses: dict[int, str]) -> tuple[str, ...]:
    """Return both addresses with the prefix lengths that the lab uses."""
    return (f"{addresses[4]}/24", f"{addresses[6]}/64")


def routed(mtu: int = MTU, *, resolves: bool = False) -> Topology:
    """Return two hosts and a router between them, the second cable with this MTU."""
    return Topology(
        veths=(
            Veth((Port("a", "a0", cidr(A)), Port("r", "ra", cidr(R_TO_A), resolves=resolves))),
            Veth((Port("r", "rb", cidr(R_TO_B), mtu), Port("b", "b0", cidr(B), mtu))),
        ),
        routes=(
            Route("a", "10.77.2.0/24", via=R_TO_A[4]),
            Route("a", "fd77:2::/64", via=R_TO_A[6]),
            Route("b", "10.77.1.0/24", via=R_TO_B[4]),
            Route("b", "fd77:1::/64", via=R_TO_B[6]),
        ),
        routers=("r",),
    )


def refused(version: int, *, told: bool = True) -> tuple[Evidence, ...]:
    """Return what a router counts for packets that it refuses, and whether it said so."""
    sent = COUNT if told else 0
    if version == 4:
        return (Evidence("r", "IpFragFails", COUNT), Evidence("r", "IcmpOutDestUnreachs", sent))
    return (
        Evidence("r", "Ip6InTooBigErrors", COUNT),
        Evidence("r", "Ip6FragFails", COUNT),
        Evidence("r", "Icmp6OutPktTooBigs", sent),
    )


def heard(version: int, count: int = COUNT, node: str = "a") -> Evidence:
    """Return what a sender counts when the news arrives."""
    return Evidence(node, "IcmpInDestUnreachs" if version == 4 else "Icmp6InPktTooBigs", count)


def passed(version: int, packets: int = COUNT) -> tuple[Evidence, ...]:
    """Return what the receiver counts where nothing is too big."""
    return (
        Evidence("b", "IpInDelivers" if version == 4 else "Ip6InDelivers", packets),
        Evidence("r", "IpFragFails" if version == 4 else "Ip6FragFails", 0),
        heard(version, 0),
    )


def _forwarded(version: int, what: str) -> Scenario:
    segments = 3 if what == "tcp" else 1
    return Scenario(
        f"route-v{version}-{what}-forward",
        f"IPv{version} {WORDS[what]} forwarded onto a link with an MTU of {MTU}",
        routed(),
        Traffic(what, "a", A[version], B[version], segments=segments),
        Expected(SITE[version], "told", MTU, "rb"),
        (*refused(version), heard(version)),
    )


def _local(version: int) -> Scenario:
    length = {4: 32, 6: 128}[version]
    sent = "IcmpOutDestUnreachs" if version == 4 else "Icmp6OutPktTooBigs"
    fails = "IpFragFails" if version == 4 else "Ip6FragFails"
    return Scenario(
        f"route-v{version}-udp-local",
        f"IPv{version} packets of the router's own; route MTU below device MTU",
        routed(1500).having(routes=(Route("r", f"{B[version]}/{length}", dev="rb", mtu=MTU),)),
        Traffic("raw-udp", "r", R_TO_B[version], B[version]),
        Expected("ip_fragment" if version == 4 else "ip6_fragment", "told", MTU, "rb"),
        (Evidence("r", fails, COUNT), Evidence("r", sent, COUNT), heard(version, node="r")),
    )


def _suppressed(
    name: str,
    version: int,
    title: str,
    cause: str,
    traffic: Traffic,
    more: tuple[Evidence, ...] = (),
    topology: Topology | None = None,
    *,
    blind: str | None = None,
) -> Scenario:
    return Scenario(
        f"route-v{version}-{name}",
        f"IPv{version} {title}",
        topology or routed(),
        traffic,
        Expected(SITE[version], "suppressed", MTU, "rb", cause=cause, blind=blind),
        (*refused(version, told=False), *more, heard(version, 0)),
    )


def _lost(version: int) -> Scenario:
    discards = "IpOutDiscards" if version == 4 else "Ip6OutDiscards"
    return Scenario(
        f"route-v{version}-news-filtered",
        f"IPv{version} news that the router's own output filter drops",
        routed().having(rules=(("r", DROP_NEWS[version]),)),
        Traffic("udp", "a", A[version], B[version]),
        Expected(SITE[version], "lost", MTU, "rb"),
        (*refused(version), Evidence("r", discards, COUNT), heard(version, 0)),
    )


def _fits(version: int) -> Scenario:
    return Scenario(
        f"route-v{version}-udp-fits",
        f"IPv{version} datagrams of exactly {MTU} octets, the MTU of the link",
        routed(),
        Traffic("udp", "a", A[version], B[version], length=MTU, sink=True),
        None,
        passed(version),
    )


def _segments_fit(version: int) -> Scenario:
    return Scenario(
        f"route-v{version}-tcp-fits",
        f"IPv{version} TCP super-packets whose segments are {MTU} octets",
        routed(),
        Traffic("tcp", "a", A[version], B[version], length=MTU, segments=3),
        None,
        (*passed(version), Evidence("b", "TcpInSegs", COUNT)),
    )


SCENARIOS = (
    *(_forwarded(version, what) for what in WORDS for version in (4, 6)),
    *(_local(version) for version in (4, 6)),
    *(
        _suppressed(
            "no-route-back",
            version,
            "packets from an address to which the router has no route",
            "no_route_back",
            Traffic("raw-udp", "a", STRANGER[version], B[version]),
        )
        for version in (4, 6)
    ),
    *(
        _suppressed(
            "icmp-error",
            version,
            "ICMP errors that are too big themselves",
            "icmp_error_inside",
            Traffic("icmp-error", "a", A[version], B[version]),
        )
        for version in (4, 6)
    ),
    _suppressed(
        "later-fragment",
        4,
        "fragments, not the first ones, with DF set",
        "non_first_fragment",
        Traffic("later-fragment", "a", A[4], B[4]),
    ),
    _suppressed(
        "no-room",
        4,
        "packets to whose sender news has no room: its route MTU is 48",
        "no_room",
        Traffic("udp", "a", A[4], B[4]),
        topology=routed().having(routes=(Route("r", f"{A[4]}/32", dev="ra", mtu=48),)),
    ),
    _suppressed(
        "rate-limited-host",
        6,
        "news held back by the limit for each destination",
        "rate_limited_host",
        Traffic("udp", "a", A[6], B[6]),
        (Evidence("r", "Icmp6OutRateLimitHost", COUNT, recent=True),),
        routed().having(sysctls=LIMIT_HOST),
        blind="inet_peer_xrlim_allow",
    ),
    _suppressed(
        "rate-limited-global",
        6,
        "news held back by the limit for the whole host",
        "rate_limited_global",
        Traffic("udp", "a", A[6], B[6]),
        (Evidence("r", "IcmpOutRateLimitGlobal", COUNT, recent=True),),
        routed().having(sysctls=LIMIT_GLOBAL),
        blind="icmp_global_allow",
    ),
    *(_lost(version) for version in (4, 6)),
    *(_fits(version) for version in (4, 6)),
    *(_segments_fit(version) for version in (4, 6)),
    Scenario(
        "route-v4-udp-fragmented",
        f"IPv4 datagrams without DF onto a link with an MTU of {MTU}",
        routed(),
        Traffic("udp", "a", A[4], B[4], df=False, sink=True),
        None,
        (
            Evidence("r", "IpFragOKs", COUNT),
            Evidence("r", "IpFragCreates", 2 * COUNT),
            Evidence("b", "IpReasmOKs", COUNT),
            *passed(4),
        ),
    ),
)
