"""Every finding: what makes it, and the near miss that does not."""

import dataclasses
import json
import shlex
import time

import pytest
from world import (
    CUSTOMER,
    FAR,
    GATEWAY,
    GRE,
    INTO,
    LOCAL,
    OWN,
    SERVER,
    VXLAN,
    World,
)

from pmtutrace.diagnosis import elsewhere, facts, tunnelled
from pmtutrace.diagnosis.owners import Index
from pmtutrace.diagnosis.rules import rules
from pmtutrace.events import Flow, Outer
from pmtutrace.kernel.nftables import Block, Clamp, Rules
from pmtutrace.pmtu.ways import Leg

TCP = Flow(CUSTOMER, SERVER, 6, 40000, 443)
SIX = {"family": 6, "flow": Flow("fd77:1::1", "fd77:2::1", 17, 2323, 9)}
FOUND, NEAR = {}, {}


def found(name):
    return lambda make: FOUND.setdefault(name, []).append(make) or make


def near(name):
    return lambda make: NEAR.setdefault(name, []).append(make) or make


@found("recursive_tunnel")
def routed_into_itself():
    return World(legs=(OWN, INTO))


@found("recursive_tunnel")
def slid_and_then_rerouted():
    world = World()
    world.slide(10)
    return world


@found("recursive_tunnel")
def learned_through_itself():
    world = World()
    world.change(10, 1476, leg=INTO)
    return world


@found("recursive_tunnel")
def two_tunnels_in_one_another():
    world = World(legs=(Leg("gre2", 8, None, 1476),))
    other = dataclasses.replace(GRE, ifindex=8, name="gre2", remote="198.51.100.9")
    world.tunnels.append(other)
    into = INTO._replace(gateway=None)
    question = (other.remote, LOCAL, None)
    ways = world.around.ways
    key = next(iter(ways))._replace(daddr=other.remote)
    assert tuple(key) == question
    ways = {**ways, key: ways[next(iter(ways))]._replace(legs=(into,))}
    world.around = dataclasses.replace(world.around, ways=ways)
    return world


@near("recursive_tunnel")
def a_tunnel_on_the_path():
    """One hop of the same kind: it falls by the overhead, but once."""
    world = World()
    world.change(10, 1476, via="icmp")
    world.news(10, 1476)
    return world


@near("recursive_tunnel")
def a_tunnel_in_another():
    world = World(legs=(Leg("gre2", 8, None, 1476),))
    world.tunnels.append(dataclasses.replace(GRE, ifindex=8, name="gre2", remote="198.51.100.9"))
    world.way("198.51.100.9", OWN)
    return world


@near("recursive_tunnel")
def an_inner_path_through_the_tunnel():
    world = World()
    world.change(10, 1376, daddr=SERVER, leg=INTO, via="tunnel")
    return world


@found("periodic_collapse")
def every_quarter_of_an_hour():
    world = World()
    for cycle in range(4):
        world.slide(10 + 900 * cycle, lasts=200)
    return world


@near("periodic_collapse")
def a_smaller_hop_used_once_an_hour():
    """As regular as can be, but it is a hop: it falls once, and not below what links have."""
    world = World()
    for cycle in range(4):
        world.change(10 + 900 * cycle, 1400)
        world.change(210 + 900 * cycle, None, old=1400)
    return world


@near("periodic_collapse")
def at_random_times():
    world = World()
    for second in (10, 500, 800, 2100, 3300):
        world.slide(second, lasts=200)
    return world


@found("locked_at_minimum")
def told_of_less_than_the_minimum():
    world = World()
    world.change(10, 552, locked=True, via="icmp")
    world.news(10, 68, "clamped", effective=552)
    return world


@near("locked_at_minimum")
def told_of_the_minimum_itself():
    world = World()
    world.change(10, 552, via="icmp")
    world.news(10, 552)
    return world


@found("smaller_hop")
def a_router_with_less():
    world = World()
    world.change(10, 1400, via="icmp")
    world.news(10, 1400)
    return world


@near("smaller_hop")
def what_the_route_says_already():
    """The host's own news: its route is no wider."""
    world = World(route_mtu=1400)
    world.change(10, 1400, via="icmp")
    return world


@near("smaller_hop")
def what_is_left_inside_the_tunnel():
    world = World()
    world.change(10, 1376, daddr=SERVER, leg=INTO, via="tunnel")
    return world


@found("news_filtered")
def dropped_by_the_output_chain():
    world = World(rules=Rules((), (Block("ip filter output handle 7", "output"),)))
    world.dropped(10, verdict="lost", cause="NETFILTER_DROP nft_do_chain OUTPUT", count=23)
    return world


@found("news_filtered")
def dropped_after_it_had_waited():
    world = World()
    world.lost(10)
    return world


@found("news_filtered")
def dropped_for_ipv6():
    world = World()
    world.dropped(10, verdict="lost", cause="NETFILTER_DROP nft_do_chain", **SIX)
    return world


@near("news_filtered")
def nobody_answers_for_the_neighbour():
    world = World()
    world.dropped(10, verdict="lost", cause="NEIGH_FAILED neigh_invalidate", count=23)
    return world


@found("silent_hole")
def a_probe_found_it():
    world = World()
    world.probed(1300, silent=True)
    return world


@found("silent_hole")
def a_bridge_drops_it():
    world = World()
    world.dropped(10, site="br_dev_queue_push_xmit", verdict="never_attempted", tunnel=None)
    return world


@found("silent_hole")
def no_way_back():
    world = World()
    world.dropped(10, verdict="suppressed", cause="no_route_back", count=3)
    return world


@found("silent_hole")
def no_room_for_the_news():
    world = World()
    world.dropped(10, verdict="suppressed", cause="no_room")
    return world


@near("silent_hole")
def a_probe_was_told():
    world = World()
    world.probed(1300, before=1300)
    return world


@near("silent_hole")
def an_error_is_not_answered():
    world = World()
    world.dropped(10, verdict="suppressed", cause="icmp_error_inside")
    return world


@found("nopmtudisc_inner_df")
def nopmtudisc_and_df():
    world = World(dataclasses.replace(GRE, pmtudisc=False))
    world.dropped(10)
    return world


@near("nopmtudisc_inner_df")
def nopmtudisc_and_ipv6():
    world = World(dataclasses.replace(GRE, pmtudisc=False))
    world.dropped(10, **SIX)
    return world


@near("nopmtudisc_inner_df")
def pmtudisc_and_df():
    world = World()
    world.dropped(10)
    return world


@found("outer_fragmentation")
def fragments():
    world = World()
    world.split(10, count=5)
    return world


@near("outer_fragmentation")
def refused_instead():
    world = World()
    world.dropped(10)
    return world


@found("tunnel_mtu_too_large")
def more_than_fits():
    world = World(dataclasses.replace(GRE, mtu=1500))
    world.dropped(10)
    return world


@near("tunnel_mtu_too_large")
def just_what_fits():
    world = World()
    world.dropped(10)
    return world


@near("tunnel_mtu_too_large")
def more_than_fits_but_nobody_uses_it():
    return World(dataclasses.replace(GRE, mtu=1500))


@found("sender_ignores_news")
def goes_on_for_minutes():
    world = World()
    for second in (10, 10.2, 10.6, 11.4, 13, 16.2, 22.6):
        world.dropped(second)
    return world


@near("sender_ignores_news")
def a_burst_in_flight():
    world = World()
    for packet in range(50):
        world.dropped(10 + packet / 100)
    return world


@near("sender_ignores_news")
def keeps_to_it_while_less_and_less_is_said():
    world = World()
    length = 1476
    for step in range(20):
        world.dropped(10 + 2 * step, length=length, mtu=length - 24)
        length -= 24
    return world


@near("sender_ignores_news")
def has_forgotten_after_ten_minutes():
    world = World()
    for cycle in range(5):
        world.dropped(10 + 601 * cycle)
    return world


@near("sender_ignores_news")
def was_never_told():
    world = World()
    for second in (10, 20, 30, 40):
        world.dropped(second, verdict="suppressed", cause="no_route_back")
    return world


@found("news_at_wrong_host")
def about_another_hosts_packet():
    world = World()
    world.news(10, 1400, "not_sent_here", saddr="192.0.2.77")
    return world


@near("news_at_wrong_host")
def about_a_socket_that_is_gone():
    world = World()
    world.news(10, 1400, "no_match")
    return world


@found("ratemask_limits_ptb")
def limited():
    world = World(ptb_limited=True)
    world.dropped(10, verdict="suppressed", cause="rate_limited_host", **SIX)
    return world


@found("ratemask_limits_ptb")
def limited_but_nobody_saw_how():
    world = World(ptb_limited=True)
    world.dropped(10, verdict="suppressed", cause="unknown", **SIX)
    return world


@near("ratemask_limits_ptb")
def unknown_but_without_a_limit():
    world = World(ptb_limited=False)
    world.dropped(10, verdict="suppressed", cause="unknown", **SIX)
    return world


@near("ratemask_limits_ptb")
def a_limit_that_nothing_met():
    world = World(ptb_limited=True)
    world.dropped(10, **SIX)
    return world


def two_ways(*now, seen=True):
    """Return a world in which the far end can be reached by two nexthops, with these MTUs."""
    legs = (OWN, Leg("eth1", 3, "192.0.2.253", 1500))
    made = [leg._replace(now=mtu) for leg, mtu in zip(legs, now, strict=True)]
    world = World(legs=made)
    if seen:
        world.change(10, 1400, via="icmp")
    return world


@found("multipath_one_leg")
def one_of_two():
    return two_ways(1400, 1500)


@found("multipath_one_leg")
def the_second_of_two():
    """No dump shows it where the way is IPv6's: all there is, is a message."""
    world = two_ways(1500, 1400, seen=False)
    world.news(10, 1400, "no_match")
    return world


@near("multipath_one_leg")
def one_of_two_and_nobody_asked():
    world = two_ways(1500, 1400, seen=False)
    world.news(10, 1400, "not_sent_here")
    return world


@near("multipath_one_leg")
def both_of_two():
    """A dump shows but one of them: no packet has met the other one yet."""
    return two_ways(1400, 1400)


@near("multipath_one_leg")
def two_by_the_same_device():
    return two_ways(None, None)


@near("multipath_one_leg")
def the_only_one():
    return a_router_with_less()


@found("pinned_after_recovery")
def more_gets_there_than_believed():
    world = World()
    world.change(10, 1000, via="icmp")
    world.probed(1500, before=1000, learned=True)
    return world


@found("pinned_after_recovery")
def the_router_says_more_now():
    world = told_of_less_than_the_minimum()
    world.news(20, 1400, "locked", effective=552)
    return world


@near("pinned_after_recovery")
def no_more_gets_there():
    world = World()
    world.change(10, 1000, via="icmp")
    world.probed(1000, before=1000, learned=True)
    return world


@near("pinned_after_recovery")
def the_router_says_it_again():
    world = a_router_with_less()
    world.news(20, 1400, "not_lower", effective=1400)
    return world


@found("no_pmtu_discovery")
def vxlan_without_df():
    world = World(VXLAN)
    world.split(10, count=5)
    return world


@near("no_pmtu_discovery")
def vxlan_with_df_that_lost_it_to_a_lock():
    world = World(dataclasses.replace(VXLAN, df="set"))
    world.split(10, count=5)
    return world


@near("no_pmtu_discovery")
def vxlan_in_which_all_fits():
    return World(VXLAN)


@found("mss_clamp_missing")
def tcp_without_a_clamp():
    world = World()
    world.dropped(10, flow=TCP)
    return world


@found("mss_clamp_missing")
def a_clamp_for_another_device():
    world = World(rules=Rules((Clamp(("ppp0",)),)))
    world.dropped(10, flow=TCP)
    return world


@found("mss_clamp_missing")
def a_clamp_to_too_much():
    world = World(rules=Rules((Clamp((), 1460),)))
    world.dropped(10, flow=TCP)
    return world


@near("mss_clamp_missing")
def a_clamp_to_the_route():
    world = World(rules=Rules((Clamp(("gre1",)),)))
    world.dropped(10, flow=TCP)
    return world


@near("mss_clamp_missing")
def not_tcp():
    world = World()
    world.dropped(10)
    return world


@near("mss_clamp_missing")
def rules_that_cannot_be_read():
    world = World()
    world.around = dataclasses.replace(world.around, rules=None)
    world.dropped(10, flow=TCP)
    return world


IDS = sorted({rule.id for rule in rules()})


def each(table):
    return [pytest.param(name, make, id=make.__name__) for name in table for make in table[name]]


def test_every_finding_is_tried_and_has_a_near_miss():
    assert sorted(FOUND) == sorted(NEAR) == IDS


@pytest.mark.parametrize(("name", "make"), each(FOUND))
def test_found(name, make):
    assert name in make().ids


@pytest.mark.parametrize(("name", "make"), each(NEAR))
def test_near_miss(name, make):
    assert name not in make().ids


@pytest.mark.parametrize(("name", "make"), each(FOUND))
def test_what_a_finding_says(name, make):
    for finding in make().findings():
        line = json.loads(json.dumps(finding.json()))
        assert set(line) == {
            "id", "severity", "title", "subject", "since", "until", "evidence", "cause", "remedy",
            "check",
        }  # fmt: skip
        assert line["subject"]["netns"] == "edge"
        assert line["cause"].endswith(".")
        assert any(value is not None for value in line["evidence"].values())
        for command in (*finding.remedy, *finding.check):
            assert command.startswith("ip netns exec edge ")
            assert "{" not in command.replace("{ ", "")
            assert "None" not in command


def test_every_way_to_show_is_tried():
    wanted = {(rule.title, case.cause) for rule in rules() for case in rule.cases}
    fired = set()
    for make in (make for makes in (*FOUND.values(), *NEAR.values()) for make in makes):
        index = Index(make().case())
        for subject in (*tunnelled.subjects(index), *elsewhere.subjects(index)):
            for rule in rules():
                if rule.subject == subject.kind and (one := rule.case(subject.facts)):
                    fired.add((rule.title, one.cause))
    assert wanted - fired == set()


def test_nothing_is_found_where_nothing_is_wrong():
    assert World().ids == []


def test_the_root_comes_first_and_consequences_name_it():
    world = World(legs=(OWN, INTO))
    for cycle in range(4):
        world.slide(10 + 900 * cycle, lasts=200, legs=(OWN, INTO))
    for second in (10, 10.2, 10.6, 11.4, 13, 16.2, 22.6):
        world.dropped(second, flow=TCP, mtu=528)
    world.split(15)
    findings = world.findings()
    assert [finding.id for finding in findings] == [
        "recursive_tunnel",
        "periodic_collapse",
        "locked_at_minimum",
        "sender_ignores_news",
        "outer_fragmentation",
        "mss_clamp_missing",
    ]
    for finding in findings[1:]:
        assert finding.cause.endswith(" It follows from recursive_tunnel (gre1).")
        assert "recursive_tunnel" in finding.evidence["follows"]
    root = findings[0]
    assert root.evidence["falls_by_overhead"] > 30
    assert root.evidence["loop"] == "gre1 > gre1"
    assert root.remedy == (f"ip netns exec edge ip route replace {FAR} via {GATEWAY} dev eth0",)
    period = findings[1].evidence
    assert (period["period_s"], period["episode_s"], period["duty"]) == (900.0, 200.0, 0.2222)
    assert (period["floor"], period["base"], period["far_end_of"]) == (552, 1500, "gre1")


def test_since_and_until():
    world = every_quarter_of_an_hour()
    finding = world.found("periodic_collapse")
    assert (finding.since, finding.until) == (world.at(10), world.at(2910))
    world = told_of_less_than_the_minimum()
    finding = world.found("locked_at_minimum")
    assert (finding.since, finding.until) == (world.at(10), None)
    world = World()
    world.standing(552, locked=True)
    assert world.found("locked_at_minimum").since is None


def test_names_are_quoted_and_harmless():
    name = "x; reboot \x1b[2J'"
    world = World(dataclasses.replace(GRE, name=name, mtu=1500))
    world.dropped(10, flow=TCP)
    for finding in world.findings():
        for text in (finding.cause, str(finding.subject), *finding.remedy, *finding.check):
            assert "\x1b" not in text
        for command in (*finding.remedy, *finding.check):
            assert "reboot" not in shlex.split(command)
            assert not any(word == ";" for word in shlex.shlex(command, punctuation_chars=True))


def test_a_remedy_says_as_much_as_is_known():
    def remedy(legs, mtu=None):
        return World(legs=legs, route_mtu=mtu).found("recursive_tunnel").remedy[0]

    prefix = f"ip netns exec edge ip route replace {FAR}"
    assert remedy((OWN, INTO), 1492) == f"{prefix} via {GATEWAY} dev eth0 mtu 1492"
    assert remedy((OWN, INTO)) == f"{prefix} via {GATEWAY} dev eth0"
    assert remedy((OWN._replace(gateway=None), INTO)) == f"{prefix} dev eth0"
    assert remedy((INTO,)) == f"{prefix} via GATEWAY dev DEVICE"


def test_a_hole_is_filled_by_the_route_that_leads_there():
    world = a_probe_found_it()
    (remedy,) = world.found("silent_hole").remedy
    assert remedy.endswith(f"ip route replace {FAR} via {GATEWAY} dev eth0 mtu 1300")


def test_ipv6_gets_commands_of_its_own():
    world = World()
    world.change(10, 1400, daddr="2001:db8::9")
    assert world.found("smaller_hop").check == ("ip netns exec edge tracepath -n 2001:db8::9",)
    assert facts.version("2001:db8::9") == "-6"
    assert facts.version(FAR) == "-4"


def test_many_flows_and_tunnels():
    """What a busy endpoint sees in a day is diagnosed in seconds."""
    world = World(dataclasses.replace(GRE, mtu=1500))
    for number in range(2, 200):
        remote = f"198.51.100.{number}"
        world.tunnels.append(dataclasses.replace(GRE, ifindex=100 + number, remote=remote))
    for number in range(10000):
        source = f"10.{number >> 8}.{number & 255}.1"
        outer = Outer(LOCAL, f"198.51.100.{number % 200 + 1}", 47) if number % 2 else None
        flow = Flow(source, SERVER, 17, 2323, 9)
        world.dropped(10, flow=flow, outer=outer)
        world.dropped(15, flow=flow, outer=outer)
        world.dropped(20, flow=flow, outer=outer)
    began = time.perf_counter()
    findings = world.findings()
    assert time.perf_counter() - began < 30
    assert {"sender_ignores_news", "tunnel_mtu_too_large"} <= {f.id for f in findings}


def test_outer_packets_belong_to_their_tunnel():
    world = World(dataclasses.replace(GRE, mtu=1500))
    world.dropped(10, site="ip_fragment", ifindex=2, outer=Outer(LOCAL, FAR, 47), length=1524)
    assert world.found("tunnel_mtu_too_large").evidence["refused"] == 1


def test_what_was_counted_before_is_none_of_it():
    world = more_than_fits()
    world.collector.begin(world.counters, world.fragments)
    assert world.ids == []
