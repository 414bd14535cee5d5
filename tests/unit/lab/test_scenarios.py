"""The declarations: complete, consistent, and found by name."""

import json
import re
from ipaddress import ip_address, ip_interface

import pytest

from pmtutrace.errors import UsageError
from pmtutrace.kernel import sources
from pmtutrace.lab import devices, traffic
from pmtutrace.lab.scenarios import ALL, BY_NAME, chosen, named
from pmtutrace.lab.traffic import COUNT
from pmtutrace.lab.unprovoked import UNPROVOKED
from pmtutrace.layout import Layout

EACH = pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
CAUSES = {
    "no_route_on_skb",
    "no_route_back",
    "icmp_error_inside",
    "non_first_fragment",
    "no_room",
    "append_failed",
    "broadcast_or_multicast",
    "options_invalid",
    "icmp_socket_busy",
    "rate_limited_host",
    "rate_limited_global",
}


def test_there_are_enough_and_no_two_share_a_name():
    assert len(BY_NAME) == len(ALL) >= 26
    assert sum(scenario.count > 0 for scenario in ALL) >= 22


def test_every_verdict_that_this_kind_of_traffic_can_have_is_there():
    verdicts = {scenario.expected.verdict for scenario in ALL if scenario.expected}
    causes = {drop.cause for scenario in ALL for drop in scenario.drops}
    assert verdicts == {"told", "suppressed", "lost", "never_attempted", "local"}
    assert causes - {None} == CAUSES


def test_every_cause_is_provoked_or_it_is_said_why_not():
    words = Layout(sources.layout_source()).words("cause", "CAUSE_").values()
    assert set(words) - {"none"} == CAUSES | UNPROVOKED.keys()
    assert not CAUSES & UNPROVOKED.keys()


@EACH
def test_a_name_is_short_and_plain(scenario):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", scenario.name)
    assert len(scenario.name) <= 34
    assert len(scenario.title) <= 72


@EACH
def test_the_declaration_hangs_together(scenario):
    nodes = scenario.topology.nodes
    assert scenario.traffic.node in nodes
    assert scenario.traffic.what in traffic.SENDERS
    assert {item.node for item in scenario.kernel} <= set(nodes)
    assert {tunnel.type for tunnel in scenario.topology.tunnels} <= devices.TUNNELS.keys()
    assert scenario.kernel, "a scenario without the kernel's own word proves nothing"
    owned = [str(ip_interface(a).ip) for port in scenario.topology.ports for a in port.addresses]
    assert scenario.traffic.daddr in owned or ip_address(scenario.traffic.daddr).is_multicast
    assert len(owned) == len(set(owned))


@EACH
def test_what_is_expected_is_a_prime_count_on_a_device_that_is_there(scenario):
    if scenario.expected is None:
        assert scenario.count == 0
        assert any(item.delta for item in scenario.kernel), "a control must show that packets came"
        return
    ports = {(port.node, port.dev) for port in scenario.topology.ports}
    ports |= {(bridge.node, bridge.dev) for bridge in scenario.topology.bridges}
    # Each packet may be dropped, and then the one that carries the news of it.
    assert scenario.count in (COUNT, 2 * COUNT)
    assert COUNT == 23
    tunnels = {end.dev for tunnel in scenario.topology.tunnels for end in tunnel.ends}
    for drop in scenario.drops:
        assert (drop.node, drop.dev) in ports or (drop.dev is None and drop.verdict == "local")
        assert (drop.cause is not None) == (drop.verdict == "suppressed")
        assert drop.tunnel in {None, *tunnels}
    assert any(abs(item.delta) == scenario.count for item in scenario.kernel)


@EACH
def test_a_declaration_is_one_line_of_json(scenario):
    line = json.loads(json.dumps(scenario.json()))
    assert line["name"] == scenario.name
    assert line["count"] == scenario.count
    assert set(line["kernel"]) == {item.name for item in scenario.kernel}
    assert "veth" in line["needs"]


def test_needs_are_what_building_it_takes():
    assert named("route-v4-news-filtered").needs == ("veth", "nftables")
    assert named("vxlan-bridge-v4-udp").needs == ("veth", "vxlan", "bridge")


def test_an_unknown_name_is_refused_with_those_that_look_like_it():
    with pytest.raises(UsageError) as caught:
        named("route-v4-udp-forwrd")
    assert "route-v4-udp-forward" in caught.value.hint
    assert caught.value.exit_code == 2


def test_nothing_like_it_points_to_the_list():
    with pytest.raises(UsageError) as caught:
        named("\x1b[2J")
    assert "lab list" in caught.value.hint
    assert "\x1b" not in caught.value.message


def test_patterns_choose_each_once_in_order():
    names = [scenario.name for scenario in chosen(["route-v4-echo-*", "route-v?-echo-forward"])]
    assert names == ["route-v4-echo-forward", "route-v6-echo-forward"]
    with pytest.raises(UsageError):
        chosen(["nothing-*"])
