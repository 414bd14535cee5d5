"""Scenarios in which a socket of this host is refused: EMSGSIZE, and no packet to be freed.

``r -1400- b`` where it is the device that is small, ``r -1500- b`` with a route of 1400 else.
"""

from __future__ import annotations

from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.scenarios.gre import GRE
from pmtutrace.lab.scenarios.routed import MTU, R_TO_B, WORDS, B, heard, routed
from pmtutrace.lab.scenarios.tunnelled import Kind, traffic
from pmtutrace.lab.scenarios.vxlan import VXLAN
from pmtutrace.lab.topology import Route
from pmtutrace.lab.traffic import COUNT, REFUSED, Traffic

APPEND = {4: "__ip_append_data", 6: "__ip6_append_data"}
HEADER = {4: "raw_send_hdrinc", 6: "rawv6_send_hdrinc"}
SENT = {4: "IpOutRequests", 6: "Ip6OutRequests"}
LENGTH = {4: 32, 6: 128}


def refused(version: int) -> tuple[Evidence, ...]:
    """Return what shows that a socket was refused, and that nothing else happened."""
    return (
        Evidence("r", REFUSED, COUNT),
        Evidence("r", SENT[version], 0),
        Evidence("r", "IcmpOutDestUnreachs" if version == 4 else "Icmp6OutPktTooBigs", 0),
        heard(version, 0, node="r"),
    )


def _local(
    name: str, version: int, title: str, traffic: Traffic, *, dev: str | None, site: str = ""
) -> Scenario:
    by_route = traffic.discover == "do"
    lower = Route("r", f"{B[version]}/{LENGTH[version]}", dev="rb", mtu=MTU)
    return Scenario(
        f"local-v{version}-{name}",
        f"IPv{version} {title}",
        routed(1500).having(routes=(lower,)) if by_route else routed(),
        traffic,
        Expected(site or APPEND[version], "local", MTU, dev),
        refused(version),
    )


def _udp(name: str, version: int, title: str, **more: object) -> Scenario:
    traffic = Traffic("udp", "r", R_TO_B[version], B[version], **more)  # type: ignore[arg-type]
    known = traffic.connect or traffic.bind
    return _local(name, version, title, traffic, dev="rb" if known else None)


def through_tunnel(kind: Kind, version: int, what: str) -> Scenario:
    """Return the scenario of a socket that sends more than its tunnel's device takes."""
    mtu = kind.mtu(1500)
    return Scenario(
        f"local-v{version}-{what}-{kind.name}",
        f"IPv{version} {WORDS[what]} of r's own, longer than its {kind.words} device takes",
        kind.topology(None, mtu=mtu),
        traffic(version, what, local=True, connect=what == "udp"),
        Expected(APPEND[version], "local", mtu, kind.dev, tunnel=kind.dev),
        (*refused(version), *kind.counted(0)),
    )


def _split(version: int, discover: str) -> Scenario:
    return Scenario(
        f"send-v{version}-udp-{discover}",
        f"IPv{version} datagrams of a socket that lets the kernel fragment them ({discover})",
        routed(),
        Traffic("udp", "r", R_TO_B[version], B[version], discover=discover, sink=True),
        None,
        (
            Evidence("r", "IpFragOKs" if version == 4 else "Ip6FragOKs", COUNT),
            Evidence("b", "IpReasmOKs" if version == 4 else "Ip6ReasmOKs", COUNT),
            Evidence("r", REFUSED, 0),
        ),
    )


def _beyond_ip(version: int) -> Scenario:
    length = {4: 65536, 6: 70000}[version]
    return Scenario(
        f"send-v{version}-udp-beyond-ip",
        f"IPv{version} datagrams longer than any packet, fragmented or not",
        routed(),
        Traffic("udp", "r", R_TO_B[version], B[version], length=length, discover="want"),
        None,
        (Evidence("r", REFUSED, COUNT), Evidence("r", SENT[version], 0)),
    )


SCENARIOS = (
    *(
        _udp(f"udp-{name}", version, f"datagrams of a socket that {words}", **more)
        for version in (4, 6)
        for name, words, more in (
            ("probe", "ignores path MTUs (probe)", {}),
            ("connected", "is connected", {"connect": True}),
            ("bound", "is bound to a device", {"bind": "rb"}),
            ("recverr", "has its errors queued", {"connect": True, "recverr": True}),
            ("interface", "takes the device's MTU (interface)", {"discover": "interface"}),
            ("do", "sets DF (do); route MTU below device MTU", {"discover": "do", "connect": True}),
        )
    ),
    *(
        _local(
            "echo",
            version,
            "pings of a raw socket",
            Traffic("echo", "r", R_TO_B[version], B[version]),
            dev="rb",
        )
        for version in (4, 6)
    ),
    *(
        _local(
            "header-included",
            version,
            "packets that came with their header",
            Traffic("raw-udp", "r", R_TO_B[version], B[version], connect=True),
            dev="rb",
            site=HEADER[version],
        )
        for version in (4, 6)
    ),
    *(
        through_tunnel(kind, version, what)
        for kind in (VXLAN, GRE)
        for what in ("udp", "echo")
        for version in (4, 6)
    ),
    *(_split(version, discover) for discover in ("want", "dont") for version in (4, 6)),
    *(_beyond_ip(version) for version in (4, 6)),
)
