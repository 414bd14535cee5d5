"""Comparing what was counted with what was expected, on counters made up for it."""

from dataclasses import dataclass, replace

import pytest

from pmtutrace.errors import NotSupported
from pmtutrace.events import Counter, CounterKey, Device, Flow, Outer
from pmtutrace.kernel import hooks
from pmtutrace.kernel.loader import Attached
from pmtutrace.lab.net import Net, Node
from pmtutrace.lab.run import differences, seen_by, tally, unlike_split, verdict
from pmtutrace.lab.scenarios import ALL, named

UDP = 17
PLAIN = named("route-v4-udp-forward")
OUTER = named("vxlan-df-v4-udp-forward")
LIMITED = named("route-v6-rate-limited-host")
LEARNED = named("gre-v6-udp-forward")
CONTROL = named("route-v4-udp-fits")
INUMS = {"a": 1, "r": 2, "b": 3}


def net(scenario):
    devs = [(port.node, port.dev) for port in scenario.topology.ports]
    nodes = {
        label: Node(
            label, label, INUMS[label], {dev: number for number, (_, dev) in enumerate(devs)}, {}
        )
        for label in scenario.topology.nodes
    }
    return Net(scenario.topology, nodes)


def key(scenario, **other):
    expected, sent = scenario.expected, scenario.traffic
    node = net(scenario)[expected.node]
    outer = Outer("192.0.2.1", "192.0.2.2", UDP) if expected.outer else None
    flow = Flow(sent.saddr, sent.daddr, UDP, 2323, 9)
    family = 6 if ":" in sent.saddr else 4
    made = CounterKey(
        node.inum,
        node.ifindexes[expected.dev],
        expected.site,
        expected.verdict,
        expected.cause,
        family,
        flow,
        outer,
    )
    return replace(made, **other)


def counter(packets, mtu=1400):
    return Counter(packets, packets * 1500, 1500, mtu, 1, 2)


def count(scenario, after, before=None, *, makers=False):
    return tally(net(scenario), scenario, before or {}, after, makers=makers)


@pytest.mark.parametrize(
    ("scenario", "maker", "right"),
    [
        (OUTER, ("r", "vx0"), True),
        (OUTER, ("r", "ru"), False),
        (OUTER, ("b", "vx0"), False),
        (OUTER, None, False),
        (PLAIN, None, True),
        (PLAIN, ("r", "ra"), False),
    ],
)
def test_an_outer_packet_names_the_device_that_made_it(scenario, maker, right):
    built = net(scenario)
    made = maker and Device(built[maker[0]].inum, built[maker[0]].ifindexes[maker[1]])
    after = {key(scenario, maker=made): counter(23, scenario.expected.mtu)}
    counted, others = count(scenario, after, makers=True)
    assert (counted, others == []) == (23 if right else 0, right)
    # Where no hook shows it, nothing is asked.
    assert count(scenario, after) == (23, [])


def test_what_was_expected_is_counted():
    assert count(PLAIN, {key(PLAIN): counter(23)}) == (23, [])


def test_of_a_key_that_was_there_before_only_the_rest_counts():
    assert count(PLAIN, {key(PLAIN): counter(30)}, {key(PLAIN): counter(7)}) == (23, [])
    assert count(PLAIN, {key(PLAIN): counter(7)}, {key(PLAIN): counter(7)}) == (0, [])


def test_other_namespaces_are_not_looked_at():
    assert count(PLAIN, {key(PLAIN, netns=99): counter(23)}) == (0, [])


@pytest.mark.parametrize(
    "other",
    [
        {"site": "ip_fragment"},
        {"verdict": "lost"},
        {"cause": "unknown"},
        {"ifindex": 77},
        {"netns": INUMS["b"]},
        {"flow": Flow("10.77.1.9", "10.77.2.1", UDP, 1, 2)},
        {"outer": Outer("192.0.2.1", "192.0.2.2", UDP)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_anything_else_in_the_lab_is_not_expected(other):
    counted, others = count(PLAIN, {key(PLAIN, **other): counter(3)})
    assert counted == 0
    assert len(others) == 1
    assert others[0].startswith("3 on ")


def test_another_mtu_is_not_expected():
    assert count(PLAIN, {key(PLAIN): counter(23, mtu=1300)}) == (
        0,
        ["23 on r at ip_forward told mtu 1300"],
    )


def test_the_outer_header_must_be_that_of_the_tunnel():
    good, bad = key(OUTER), key(OUTER, outer=Outer("192.0.2.1", "192.0.2.9", UDP))
    assert count(OUTER, {good: counter(23, mtu=1300)}) == (23, [])
    assert count(OUTER, {bad: counter(23, mtu=1300)})[0] == 0
    assert count(OUTER, {key(OUTER, outer=None): counter(23, mtu=1300)})[0] == 0


@dataclass
class Hooked:
    """A tracer that attached two hooks out of three, one of them to these targets."""

    attached: tuple[Attached, ...]

    def holds(self, hook):
        return hook != "local"


def attached(*targets):
    rung = hooks.Rung("a rung", tuple(hooks.Attachment("kprobe", "program", t) for t in targets))
    hook = hooks.Hook("a hook", "", "cold", (rung,), "")
    return Hooked((Attached(hook, rung, ()), Attached(hook, None, ())))


def test_where_a_kernel_is_blind_the_cause_must_be_unknown():
    sees = seen_by(LIMITED, attached("inet_peer_xrlim_allow"))
    assert count(sees, {key(LIMITED): counter(23)})[0] == 23
    assert count(sees, {key(LIMITED, cause="unknown"): counter(23)})[0] == 0
    blind = seen_by(LIMITED, attached("icmp_global_allow"))
    assert count(blind, {key(LIMITED, cause="unknown"): counter(23)})[0] == 23
    assert count(blind, {key(LIMITED): counter(23)})[0] == 0


def test_what_a_kernel_cannot_see_at_all_is_skipped():
    with pytest.raises(NotSupported, match="ip_append_data"):
        seen_by(named("news-v4-append-failed"), attached("ip6_append_data"))
    with pytest.raises(NotSupported, match="local"):
        seen_by(next(each for each in ALL if "local" in each.hooks), attached())


BUSY = named("news-v4-socket-busy")


def behind(scenario, expected, **other):
    """Return the key of a further drop of a scenario."""
    ends = Flow(*expected.ends, UDP)
    return key(replace(scenario, expected=expected), flow=ends, **other)


def test_the_drops_behind_a_drop_have_another_flow():
    (other,) = BUSY.then
    seen = {key(BUSY): counter(23), behind(BUSY, other): counter(23, 600)}
    assert count(BUSY, seen) == (46, [])
    seen = {key(BUSY): counter(24), behind(BUSY, other): counter(22, 600)}
    assert count(BUSY, seen)[1] == ["24 for 23 at ip_forward", "22 for 23 at ip_fragment"]


def test_two_kinds_of_drops_are_counted_each_on_its_own():
    first, rest = LEARNED.drops
    at_first = key(LEARNED)
    at_rest = key(LEARNED, site=rest.site)
    assert (first.count, rest.count) == (1, 22)
    good = {at_first: counter(1, first.mtu), at_rest: counter(22, rest.mtu)}
    assert count(LEARNED, good) == (23, [])
    bad = {at_first: counter(2, first.mtu), at_rest: counter(21, rest.mtu)}
    assert count(LEARNED, bad) == (
        23,
        [f"2 for 1 at {first.site}", f"21 for 22 at {rest.site}"],
    )


def test_outer_fragments_are_compared_as_drops_are():
    split = named("vxlan-v4-udp-fragmented")
    where = key(replace(split, expected=split.fragments))
    built, seen = net(split), {where: counter(23, 1300)}
    assert unlike_split(built, split, {}, seen) == []
    assert unlike_split(built, split, {}, {where: counter(22, 1300)}) == ["22 for 23 in fragments"]
    assert unlike_split(built, replace(split, fragments=None), {}, seen) == [
        "23 on r at other none mtu 1300 in fragments"
    ]


def test_a_control_expects_nothing():
    assert count(CONTROL, {}) == (0, [])
    assert count(CONTROL, {replace(key(PLAIN)): counter(1)})[1] == [
        "1 on r at ip_forward told mtu 1400"
    ]


KERNEL = {item.name: item.delta for item in PLAIN.kernel}


def test_all_agree():
    assert verdict(PLAIN, 23, [], KERNEL) is None


@pytest.mark.parametrize(
    ("counted", "others", "kernel", "words"),
    [
        (22, [], KERNEL, "expected 23, counted 22, kernel: r IpFragFails 23"),
        (24, [], KERNEL, "counted 24"),
        (23, ["1 on b at ip_forward told mtu 1400"], KERNEL, "not expected: 1 on b"),
        (23, [], {**KERNEL, "r IpFragFails": 22}, "r IpFragFails 22 for 23"),
    ],
)
def test_any_disagreement_is_one_line_with_all_sides(counted, others, kernel, words):
    line = verdict(PLAIN, counted, others, kernel)
    assert words in line
    assert "\n" not in line


def test_a_counter_that_this_kernel_lacks_is_no_evidence():
    kernel = {item.name: item.delta for item in LIMITED.kernel if not item.recent}
    assert differences(LIMITED, kernel) == []
