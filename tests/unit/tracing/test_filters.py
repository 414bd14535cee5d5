"""A filter says the same about an event and about the counter that counts it."""

import dataclasses

import pytest

from pmtutrace.errors import UsageError
from pmtutrace.events import (
    CounterKey,
    Flow,
    IcmpLost,
    InnerMtu,
    Outer,
    TunnelChange,
    TunnelRef,
)
from pmtutrace.tracing.filters import Filter
from pmtutrace.tracing.networks import network
from samples import FLOW, HEARD, LOWERED, drop

DROP = drop(netns=1, dev="eth0", ifindex=7, indev="eth1")
IN_TUNNEL = dataclasses.replace(
    DROP,
    dev="ru",
    ifindex=8,
    tunnel=TunnelRef("vx0", "vxlan"),
    outer=Outer("192.0.2.1", "192.0.2.2", 17),
    flow=Flow("fd00::1", "fd00::2", 6, 1, 2),
    family=6,
    site="ip_fragment",
    verdict="suppressed",
    cause="no_route_back",
)
ELSEWHERE = dataclasses.replace(DROP, netns=2)
NO_FLOW = dataclasses.replace(DROP, flow=Flow("", "", 0), family=0)
EVENTS = (DROP, IN_TUNNEL, ELSEWHERE, NO_FLOW)
LOST = IcmpLost(
    0, 1, 0, "nf_hook_slow", "nf_hook_slow+0x1", "NETFILTER_DROP", 4, "10.77.1.1", 1400, FLOW
)
GONE = TunnelChange(0, 1, "gone", "vx0", "vxlan", None)
LOWERED_HERE = dataclasses.replace(
    LOWERED,
    netns=1,
    daddr="10.77.2.1",
    dev="eth0",
    ifindex=7,
    tunnels=(InnerMtu("vx0", "vxlan", 1350),),
)


def key_of(event):
    return CounterKey(
        event.netns,
        event.ifindex,
        event.site,
        event.verdict,
        event.cause,
        event.family,
        event.flow,
        event.outer,
        event.maker,
    )


FILTERS = {
    "everything": ({}, {0, 1, 2, 3}),
    "device": ({"interface": "eth0"}, {0, 2, 3}),
    "no device": ({"interface": "eth1"}, set()),
    "family": ({"family": 6}, {1}),
    "site": ({"sites": frozenset({"ip_fragment", "other"})}, {1}),
    "verdict": ({"verdicts": frozenset({"told"})}, {0, 2, 3}),
    "host": ({"hosts": (network("10.77.2.1"),)}, {0, 2}),
    "source": ({"hosts": (network("10.77.1.0/24"),)}, {0, 2}),
    "either host": ({"hosts": (network("10.77.1.1"), network("fd00::/16"))}, {0, 1, 2}),
    "other family's host": ({"hosts": (network("::/0"),)}, {1}),
    "tunnel": ({"tunnel": "vx0"}, {1}),
    "no tunnel": ({"tunnel": "vx1"}, set()),
    "namespace": ({"netns": {1}}, {0, 1, 3}),
    "no namespace": ({"netns": set()}, set()),
    "several": ({"interface": "eth0", "verdicts": frozenset({"told"}), "netns": {2}}, {2}),
}


@pytest.mark.parametrize("name", FILTERS)
def test_events_and_counters_agree(name):
    options, wanted = FILTERS[name]
    chosen = Filter(**options)
    for event in EVENTS:
        chosen.learn(event)
    assert {n for n, event in enumerate(EVENTS) if chosen.matches(event)} == wanted
    assert {n for n, event in enumerate(EVENTS) if chosen.counts(key_of(event))} == wanted


def test_a_place_that_was_never_seen_is_asked_for():
    chosen = Filter(interface="eth0")
    assert not chosen.counts(key_of(DROP))
    asked = []

    def name(netns, ifindex):
        asked.append((netns, ifindex))
        return "eth0"

    chosen.ask([key_of(DROP), key_of(DROP)], name)
    assert asked == [(1, 7)]
    assert chosen.counts(key_of(DROP))


@pytest.mark.parametrize(
    ("options", "lost", "gone"),
    [
        ({}, True, True),
        ({"verdicts": frozenset({"lost"})}, True, False),
        ({"verdicts": frozenset({"told"})}, False, False),
        ({"interface": "vx0"}, False, True),
        ({"interface": "eth0"}, False, False),
        ({"tunnel": "vx0"}, False, True),
        ({"tunnel": "vx1"}, False, False),
        ({"netns": {2}}, False, False),
        ({"netns": {1}}, True, True),
        ({"family": 6}, False, True),
        ({"hosts": (network("10.77.1.1"),)}, True, True),
    ],
)
def test_what_is_no_drop(options, lost, gone):
    chosen = Filter(**options)
    assert chosen.matches(LOST) == lost
    assert chosen.matches(GONE) == gone


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, True),
        ({"verdicts": frozenset({"told"})}, False),
        ({"sites": frozenset({"ip_forward"})}, False),
        ({"interface": "eth0"}, True),
        ({"interface": "vx0"}, False),
        ({"tunnel": "vx0"}, True),
        ({"tunnel": "vx1"}, False),
        ({"netns": {2}}, False),
        ({"family": 4}, True),
        ({"family": 6}, False),
        ({"hosts": (network("10.77.2.0/24"),)}, True),
        ({"hosts": (network("10.77.1.0/24"),)}, False),
    ],
)
def test_path_mtus(options, shown):
    assert Filter(**options).matches(LOWERED_HERE) == shown


def test_hostile_names_are_compared_as_they_are_shown():
    event = dataclasses.replace(GONE, name="a\x1bb")
    assert Filter(tunnel=r"a\x1bb").matches(event)


@pytest.mark.parametrize("text", ["192.0.2.7", "192.0.2.7/24", "2001:db8::/32", "::1", "0.0.0.0/0"])
def test_addresses_and_prefixes(text):
    assert network(text).num_addresses >= 1


@pytest.mark.parametrize("text", ["", "host", "300.0.0.1", "10.0.0.0/33", "10.0.0.1:80", "::g"])
def test_what_is_neither(text):
    with pytest.raises(UsageError, match="not an address or prefix"):
        network(text)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, True),
        ({"family": 4}, True),
        ({"family": 6}, False),
        ({"interface": "eth1"}, True),
        ({"interface": "eth0"}, False),
        ({"tunnel": "gre1"}, True),
        ({"tunnel": "vx0"}, False),
        ({"hosts": (network("10.77.2.0/24"),)}, True),
        ({"hosts": (network("10.78.0.0/16"),)}, False),
        ({"netns": {HEARD.netns}}, True),
        ({"netns": {1}}, False),
        ({"sites": frozenset({"ip_forward"})}, False),
        ({"verdicts": frozenset({"told"})}, False),
    ],
)
def test_messages_that_arrive(options, shown):
    heard = dataclasses.replace(HEARD, tunnel=TunnelRef("gre1", "gre"))
    assert Filter(**options).matches(heard) == shown
