"""Situations in pairs: one in which a finding must be made, a near miss in which it must not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pmtutrace.lab import incident
from pmtutrace.lab.scenarios import named, routed, vxlan
from pmtutrace.lab.scenarios.routed import DROP_NEWS, R_TO_A, A, B
from pmtutrace.lab.scenarios.tunnelled import B_INNER
from pmtutrace.lab.situation import (
    Passed,
    Probed,
    Rerouted,
    Resized,
    Sent,
    Situation,
    Step,
    of_scenario,
)
from pmtutrace.lab.topology import Leg, Port, Route, Topology, Veth
from pmtutrace.lab.traffic import Traffic

if TYPE_CHECKING:
    from pmtutrace.lab.incident import Incident

TARGET = {4: "10.77.9.1", 6: "fd77:9::1"}  # behind two hops
NETS, _END, LENGTHS = {4: "10.77.1", 6: "fd77:1"}, {4: ".", 6: "::"}, {4: 32, 6: 128}
NARROW = 1400
SOON, LATER = 0.7, 1.3  # within what counts as one moment, and after it
CLAMP = (
    "table inet lab {\n chain forward {\n type filter hook forward priority 0\n"
    " tcp flags syn tcp option maxseg size set rt mtu\n }\n}\n"
)
OTHER_NEWS = DROP_NEWS[4].replace("drop", "icmp code host-unreachable drop")


def _to_b(length: int = 1500, count: int = 3, version: int = 4) -> Sent:
    """Return packets from a to b, over r, all on one CPU: only one at a time streams for a flow."""
    one = Traffic("udp", "a", A[version], B[version], length=length, count=count, pinned=True)
    return Sent(one)


def _shrunk(mtu: int) -> tuple[Step, ...]:
    """Return that the cable between r and b takes only so much from now on."""
    return Resized("r", "rb", mtu), Resized("b", "b0", mtu)


def _two_hops(version: int) -> Topology:
    """Return a and b, and two routers between them, the first with a narrow cable to b."""
    net, target = NETS[version], f"{TARGET[version]}/{LENGTHS[version]}"
    size = 64 if version == 6 else 24
    veths, routes = [], []
    for n, mtu in ((1, NARROW), (2, 1500)):
        near = (f"{net}{n}{_END[version]}1/{size}",), (f"{net}{n}{_END[version]}2/{size}",)
        far = (f"{net}{n + 2}{_END[version]}1/{size}",), (f"{net}{n + 2}{_END[version]}2/{size}",)
        own = (target,) if n == 1 else ()
        veths += [
            Veth((Port("a", f"a{n}", near[0]), Port(f"h{n}", "ha", near[1]))),
            Veth((Port(f"h{n}", "hb", far[0], mtu), Port("b", f"b{n}", (*far[1], *own), mtu))),
        ]
        routes.append(Route(f"h{n}", target, via=f"{net}{n + 2}{_END[version]}2"))
    legs = tuple(Leg(f"a{n}", f"{net}{n}{_END[version]}2") for n in (1, 2))
    routes.append(Route("a", target, legs=legs))
    return Topology(tuple(veths), routes=tuple(routes), routers=("h1", "h2"))


def _by_first_way(version: int) -> Sent:
    """Return packets from a over the first router."""
    source = f"{NETS[version]}1{_END[version]}1"
    return Sent(Traffic("udp", "a", source, TARGET[version], count=3, bind="a1"))


def _again(*gaps: float) -> tuple[Step, ...]:
    """Return packets that are too big, and again after each of these times."""
    steps: list[Step] = [_to_b()]
    for gap in gaps:
        steps += [Passed(gap), _to_b()]
    return tuple(steps)


_FORGETFUL = routed.routed(1500).having(sysctls=(("a", "ipv4.route.mtu_expires", "1"),))
_STRAY = Traffic("stray-news", "r", R_TO_A[4], A[4], length=1300, count=3)
# TCP of somebody who has not heard of any MSS.
_TOO_LONG = (Sent(Traffic("tcp", "a", A[4], B_INNER[4], segments=3, count=3)),)
_WIDE = vxlan.VXLAN.topology(None, mtu=1500)
_LARGE = Sent(Traffic("udp", "a", A[4], B_INNER[4], sink=True))


def _recursive(over: Incident, variant: str = "") -> tuple[Situation, ...]:
    """Return the incident of 2015, and a path that has become narrower by as much."""
    through = Traffic(
        "udp",
        "edge",
        incident.INSIDE["edge"],
        incident.FAR,
        length=over.backup_length,
        bind=incident.TUNNEL,
    )
    # How long it lasts is no matter here, and not every kernel has that by namespace.
    topology = replace(over.topology, sysctls=())
    under = over.largest + over.overhead
    past = Traffic("udp", "edge", incident.EDGE, incident.FAR, length=under, count=3)
    return (
        Situation(
            "recursive_tunnel",
            True,
            "packets to the tunnel's far end, through the tunnel, one of two ways to there",
            topology,
            (Rerouted(over.recursion), Sent(through)),
            at=("edge",),
            variant=variant,
        ),
        Situation(
            "recursive_tunnel",
            False,
            "a hop on the way to the far end is narrower, by just what the tunnel adds",
            topology,
            (Resized("hop", "hf", under - over.overhead), Sent(past)),
            at=("edge",),
            variant=variant,
        ),
    )


SITUATIONS: tuple[Situation, ...] = (
    *_recursive(incident.VXLAN),
    *_recursive(incident.GRE, "gre"),
    Situation(
        "periodic_collapse",
        True,
        "the path MTU falls every 2.5 s, and is forgotten after one",
        _FORGETFUL,
        (*_shrunk(500), *_again(2.5, 2.5, 2.5, 2.5), Passed(1.5)),
        at=("a",),
    ),
    Situation(
        "periodic_collapse",
        False,
        "the path MTU falls again and again, but with no rhythm",
        _FORGETFUL,
        (*_shrunk(500), *_again(1.4, 4.0, 1.5, 2.7), Passed(1.5)),
        at=("a",),
    ),
    Situation(
        "locked_at_minimum",
        True,
        "a hop says that it takes 500 octets",
        routed.routed(1500),
        (*_shrunk(500), _to_b()),
        at=("a",),
    ),
    Situation(
        "locked_at_minimum",
        False,
        "a hop says that it takes 600 octets",
        routed.routed(1500),
        (*_shrunk(600), _to_b()),
        at=("a",),
    ),
    Situation(
        "smaller_hop", True, "a hop takes 1400 octets", routed.routed(NARROW), (_to_b(),), at=("a",)
    ),
    Situation(
        "smaller_hop",
        False,
        "a hop takes 1400 octets, and nobody has sent it more",
        routed.routed(NARROW),
        (_to_b(NARROW),),
        at=("a",),
    ),
    of_scenario("news_filtered", named("route-v4-news-filtered")),
    Situation(
        "news_filtered",
        False,
        "a filter drops other messages than this",
        routed.routed().having(rules=(("r", OTHER_NEWS),)),
        (_to_b(),),
    ),
    Situation(
        "silent_hole",
        True,
        "a hop takes 1300 octets, and its news is filtered there",
        routed.routed(1300).having(rules=(("r", DROP_NEWS[4]),)),
        (Probed("a", B[4]),),
        at=("a",),
    ),
    Situation(
        "silent_hole",
        False,
        "a hop takes 1300 octets, and says so",
        routed.routed(1300),
        (Probed("a", B[4]),),
        at=("a",),
    ),
    of_scenario("silent_hole", named("bridge-v4-udp"), variant="here"),
    of_scenario("silent_hole", named("route-v4-icmp-error"), made=False, variant="here"),
    of_scenario("nopmtudisc_inner_df", named("gre-v4-nopmtudisc-df")),
    of_scenario("nopmtudisc_inner_df", named("gre-v4-nopmtudisc"), made=False),
    of_scenario("outer_fragmentation", named("vxlan-v4-udp-fragmented")),
    of_scenario("outer_fragmentation", named("vxlan-v4-udp-fits"), made=False),
    Situation(
        "tunnel_mtu_too_large",
        True,
        "a tunnel with the MTU of the cable below it",
        _WIDE,
        (_LARGE,),
    ),
    of_scenario("tunnel_mtu_too_large", named("vxlan-v4-udp-forward"), made=False),
    Situation(
        "sender_ignores_news",
        True,
        "a sender goes on for two seconds with what it was told is too big",
        routed.routed(),
        (_to_b(), Passed(LATER), _to_b(), Passed(SOON), _to_b()),
    ),
    Situation(
        "sender_ignores_news",
        False,
        "a burst is refused, and the sender goes on with less",
        routed.routed(),
        (_to_b(count=23), Passed(LATER), _to_b(NARROW), Passed(SOON), _to_b(NARROW)),
    ),
    Situation(
        "news_at_wrong_host",
        True,
        "news arrives about packets from somebody else's address",
        routed.routed(),
        (Sent(_STRAY),),
        at=("a",),
    ),
    Situation(
        "news_at_wrong_host",
        False,
        "news arrives about packets that were sent",
        routed.routed(),
        (_to_b(),),
        at=("a",),
    ),
    of_scenario("ratemask_limits_ptb", named("route-v6-rate-limited-host")),
    Situation(
        "ratemask_limits_ptb",
        False,
        "packet-too-big could be limited, and no limit is set",
        routed.routed().having(
            sysctls=(("r", "ipv6.icmp.ratemask", "0-127"), ("r", "ipv6.icmp.ratelimit", "0"))
        ),
        (_to_b(version=6),),
    ),
    Situation(
        "multipath_one_leg",
        True,
        "IPv6: what one of two ways says is noted of one of them",
        _two_hops(6),
        (_by_first_way(6),),
        at=("a",),
    ),
    Situation(
        "multipath_one_leg",
        False,
        "IPv4: what one of two ways says is noted of both",
        _two_hops(4),
        (_by_first_way(4),),
        at=("a",),
    ),
    Situation(
        "pinned_after_recovery",
        True,
        "a hop took 1400 octets, and takes 1500 now",
        routed.routed(NARROW),
        (_to_b(), *_shrunk(1500), Probed("a", B[4])),
        at=("a",),
    ),
    Situation(
        "pinned_after_recovery",
        False,
        "a hop took 1400 octets, and still does",
        routed.routed(NARROW),
        (_to_b(), Probed("a", B[4])),
        at=("a",),
    ),
    of_scenario("no_pmtu_discovery", named("vxlan-v4-udp-fragmented")),
    of_scenario("no_pmtu_discovery", named("vxlan-df-v4-udp-forward"), made=False),
    of_scenario("mss_clamp_missing", named("vxlan-v4-tcp-forward")),
    Situation(
        "mss_clamp_missing",
        False,
        "segments are too long, although the MSS is clamped to the route's MTU",
        vxlan.topology(vxlan.VXLAN).having(rules=(("r", CLAMP),)),
        _TOO_LONG,
    ),
    *(
        Situation(
            "mss_clamp_missing",
            size > vxlan.MTU - 40,
            f"segments are too long, and the MSS is set to {size}",
            vxlan.topology(vxlan.VXLAN).having(rules=(("r", incident.CLAMP.format(mss=size)),)),
            _TOO_LONG,
            variant="wrong",
        )
        for size in (vxlan.MTU - 39, vxlan.MTU - 40)
    ),
)
BY_NAME = {situation.name: situation for situation in SITUATIONS}
