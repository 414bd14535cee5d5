"""What is kept of events, and what is made of it."""

import dataclasses

from world import CUSTOMER, FAR, OWN, SECOND, SERVER, SPACE, START, World

from pmtutrace.diagnosis import Collector
from pmtutrace.diagnosis.collector import STEPS_KEPT
from pmtutrace.diagnosis.senders import Listening, Pair
from pmtutrace.pmtu.ways import Leg
from samples import drop

OTHER = Leg("eth1", 3, "192.0.2.253", 1500)


def steps(world):
    (line,) = world.case().timelines
    return [(round((step.ts - START) / SECOND, 3), step.mtu, step.locked) for step in line.steps]


def test_of_several_nexthops_the_least_counts():
    world = World()
    world.change(10, 1400)
    world.change(11, 1300, leg=OTHER)
    world.change(12, None, old=1300, leg=OTHER)
    world.change(13, None, old=1400)
    assert steps(world) == [
        (10, 1400, False),
        (11, 1300, False),
        (12, 1400, False),
        (13, None, False),
    ]


def test_a_refresh_is_no_step():
    world = World()
    world.change(10, 1400)
    world.change(20, 1400, old=1400)
    assert steps(world) == [(10, 1400, False)]


def test_the_kernels_own_news_has_no_table():
    """What the kernel tells, and what a dump shows later, are one exception."""
    world = World()
    told = dataclasses.replace(world.changed(10, "created", None, 1400), table=0)
    world.collector.take(told)
    world.change(20, None, old=1400)
    assert steps(world) == [(10, 1400, False), (20, None, False)]


def test_what_was_there_when_it_began():
    world = World()
    world.standing(1400)
    world.change(20, None, old=1400)
    (line,) = world.case().timelines
    assert line.episodes[0].began is None
    assert line.episodes[0].ended == world.at(20)


def test_other_namespaces_do_not_count():
    world = World()
    world.collector = Collector({SPACE + 1}, START)
    world.change(10, 1400)
    world.standing(1400)
    world.dropped(10)
    world.lost(10)
    world.news(10, 1400)
    case = world.case()
    assert not (case.paths)
    assert not (case.counters)
    assert not (case.lost)
    assert not (case.arrived)
    assert not (case.tunnels)


def test_memory_is_bounded_and_the_rest_is_still_right():
    world = World()
    world.end = world.at(2 * STEPS_KEPT)
    for number in range(STEPS_KEPT):
        world.change(10 + number, 1400)
        world.change(10.5 + number, None, old=1400)
    (line,) = world.case().timelines
    assert len(line.steps) == STEPS_KEPT
    assert line.began == line.steps[0].ts > START
    assert line.episodes[-1].began == world.at(9 + STEPS_KEPT)


def test_gaps_are_kept_with_the_timeline():
    world = World()
    world.collector.blind(START + 5, START + 9)
    world.collector.blind(START + 9, START + 9)
    world.change(10, 1400)
    (line,) = world.case().timelines
    assert line.gaps == ((START + 5, START + 9),)


def test_the_base_is_that_of_the_route():
    world = World(legs=(OWN, OTHER._replace(mtu=1450)), route_mtu=1480)
    world.change(10, 1400)
    world.change(10, 1400, daddr="203.0.113.77")
    assert {line.daddr: line.base for line in world.case().timelines} == {
        FAR: 1450,
        "203.0.113.77": None,
    }


def test_lost_news_by_place():
    world = World()
    world.dropped(10, verdict="lost", cause="NETFILTER_DROP nft_do_chain OUTPUT", count=20)
    world.dropped(11, verdict="lost", cause="nf_hook_slow", count=2)
    world.lost(12)
    assert {
        (one.reason, one.site, one.hook): tally.count for one, tally in world.case().lost.items()
    } == {("NETFILTER_DROP", "nft_do_chain", "OUTPUT"): 21, (None, "nf_hook_slow", None): 2}


def test_arrived_news_is_added_up():
    world = World()
    for second, mtu in ((10, 1400), (11, 1300), (12, 1350)):
        world.news(second, mtu, "not_lower", effective=1300)
    (one,) = world.case().arrived
    assert (one.mtu, one.most, one.tally.count, one.effective) == (1300, 1400, 3, 1300)
    assert (one.tally.first, one.tally.last) == (world.at(10), world.at(12))


def heard(*drops, lifetime=600.0):
    listening = Listening(lifetime)
    for second, length, mtu, more in drops:
        event = drop(ts=START + round(second * SECOND), length=length, mtu=mtu, **more)
        listening.take(event)
    return listening.late(Pair(event.netns, 4, event.flow.saddr, event.flow.daddr))


def test_moments_are_counted_and_not_packets():
    assert heard(*((10 + n / 100, 1500, 1400, {}) for n in range(400))) == 6


def test_a_segment_counts_and_not_the_super_packet():
    gso = {"gso": 1360}
    assert heard((0, 9000, 1476, gso), (5, 9000, 1400, gso), (10, 9000, 1400, gso)) == 0
    large = {"gso": 1448}
    assert heard((0, 9000, 1400, large), (5, 9000, 1400, large), (10, 9000, 1400, large)) == 2


def test_in_compressed_time():
    """The lifetime of what senders are told is 2 s: a cycle later, they are told anew."""
    told = [(cycle * 9 + at, 1450, 552, {}) for cycle in range(5) for at in (0, 0.1)]
    assert heard(*told, lifetime=2.0) == 0
    ignored = [(cycle * 9 + at, 1450, 552, {}) for cycle in range(5) for at in (0, 0.2, 0.6, 1.4)]
    assert heard(*ignored, lifetime=2.0) >= 10


def test_senders_by_kind():
    world = World()
    world.dropped(10)
    (sender,) = world.case().senders
    assert (sender.saddr, sender.daddr, sender.kind) == (CUSTOMER, SERVER, "followed")
    for second in (12, 14, 16):
        world.dropped(second, count=2)
    (sender,) = world.case().senders
    assert (sender.kind, sender.packets, sender.told, sender.late) == ("ignored", 7, 7, 3)
    world = World()
    world.dropped(10, verdict="never_attempted")
    assert world.case().senders[0].kind == "never_told"


def test_what_fits_inside_a_tunnel_over_time():
    world = World(route_mtu=1492)
    world.change(10, 1400)
    world.change(20, None, old=1400)
    world.change(10, 1300, daddr=SERVER)
    ((tunnel, line),) = world.case().tunnel_timelines
    assert (tunnel.name, line.base, line.daddr) == ("gre1", 1468, FAR)
    assert [step.mtu for step in line.steps] == [1376, None]
    assert [line.at(world.at(second)) for second in (5, 15, 25)] == [1468, 1376, 1468]
