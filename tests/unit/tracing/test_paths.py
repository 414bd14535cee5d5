"""What the kernel tells, what is heard and what is read, put together: in any order that occurs."""

import struct
import time

import pytest

from pmtutrace.kernel import sources
from pmtutrace.kernel.sites import ORIGINS
from pmtutrace.lab import packets
from pmtutrace.layout import Layout
from pmtutrace.pmtu.changes import Dump
from pmtutrace.pmtu.exceptions import PathMtu
from pmtutrace.pmtu.history import History
from pmtutrace.pmtu.news import InForce, News
from pmtutrace.tracing import clock, told
from pmtutrace.tracing.paths import SETTLED_NS, Paths
from pmtutrace.tracing.told import Setting

LAYOUT = Layout(sources.layout_source())
ME, FAR, ROUTER = "10.0.0.1", "10.0.9.1", "10.0.1.254"
NETNS = 7
T = 1_792_924_245_000_000_000
QUOTED = packets.udp(ME, FAR, 1400, 2323, 9)[:28]
ITEM = PathMtu(4, FAR, None, 2, ROUTER, 0, 1400, False, 600.0)
MESSAGE = News(T + 5000, NETNS, 1, 4, ROUTER, ME, 1400, QUOTED, 2, "eth0")
SET = Setting(T, NETNS, 1, ITEM, "eth0", "icmp", True)


class Watch:
    """A namespace that is looked at by hand."""

    def __init__(self):
        self.history = History()
        self.history.begin(dump(T - 1_000_000_000))
        self.sounds = []
        self.route = InForce(1500, False)
        self.asked = 0
        self.read_for = []
        self.due = False
        self.rested = True

    def take(self, dumps):
        return [change for one in dumps for change in self.history.take(one)]

    def heard(self, *, last):
        found, self.sounds = self.sounds, []
        return found

    def in_force(self, netns, daddr):
        assert (netns, daddr) == (NETNS, FAR)
        self.asked += 1
        return self.route

    def no_pmtu_disc(self, netns):
        return 0

    def read(self, only):
        self.read_for.append(only)
        return []


def dump(ts, *items):
    devices = {2: "eth0"}
    return Dump(NETNS, ts, ts + 1000, ts, items, lifetimes={4: 600.0}, devices=devices)


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def seen(watch):
    return Paths(watch, tunnel=lambda *_: None, inside=lambda *_: (), device=lambda *_: "eth9")


def brief(events):
    return [
        (e.outcome, e.effective) if hasattr(e, "outcome") else (e.change, e.new, e.via)
        for e in events
    ]


class TestTold:
    def test_a_message_because_of_which_something_was_set(self, seen):
        seen.tell(SET)
        seen.tell(MESSAGE)
        found = seen.events([], T + 6000)
        assert brief(found) == [("applied", 1400), ("created", 1400, "icmp")]
        assert [event.ts for event in found] == [T, T]
        assert found[0].flow.dport == 9
        assert found[0].dev == "eth0"

    def test_one_that_nobody_took_is_told_of_when_all_is_settled(self, seen):
        seen.tell(MESSAGE)
        assert seen.events([], MESSAGE.ts + SETTLED_NS - 1) == []
        assert brief(seen.events([], MESSAGE.ts + SETTLED_NS)) == [("no_match", 1500)]
        assert seen.events([], MESSAGE.ts + SETTLED_NS) == []

    def test_or_when_nobody_will_ask_again(self, seen):
        seen.tell(MESSAGE)
        assert brief(seen.events([], MESSAGE.ts, last=True)) == [("no_match", 1500)]

    def test_what_another_cpu_has_set_is_not_its_doing(self, seen):
        seen.tell(SET._replace(cpu=0))
        seen.tell(MESSAGE)
        found = brief(seen.events([], T, last=True))
        assert found == [("created", 1400, "icmp"), ("no_match", 1500)]

    def test_nor_what_was_set_for_somebody_else(self, seen):
        """A tunnel passes news on to who is inside: that is another path."""
        seen.tell(SET._replace(item=ITEM._replace(daddr="172.16.0.2", mtu=1376)))
        seen.tell(SET)
        seen.tell(MESSAGE)
        outcomes = [e.effective for e in seen.events([], T) if hasattr(e, "outcome")]
        assert outcomes == [1400]

    def test_what_tcp_sets_a_moment_later(self, seen):
        seen.tell(MESSAGE)
        assert seen.events([], MESSAGE.ts) == []
        seen.tell(SET._replace(ts=T + 9_000_000, cpu=0, inside=False))
        found = seen.events([], T + 10_000_000)
        assert brief(found) == [("applied", 1400), ("created", 1400, "icmp")]

    def test_a_tunnel_that_sends(self, seen):
        seen.tell(SET._replace(via="tunnel", inside=False))
        assert brief(seen.events([], T)) == [("created", 1400, "tunnel")]

    def test_a_dump_that_was_overtaken_is_not_believed(self, seen):
        seen.tell(SET)
        seen.events([], T)
        lower = ITEM._replace(mtu=1300)
        seen.tell(SET._replace(ts=T + 1_000_000, item=lower, via="tunnel", inside=False))
        late = dump(T + 999_500, ITEM._replace(table=254))
        assert brief(seen.events([late], T + 2_000_000)) == [("lowered", 1300, "tunnel")]

    def test_one_that_somebody_asked_for_just_before_it_was_set_is_there(self, seen):
        seen.tell(SET)
        seen.events([], T)
        seen.tell(SET._replace(ts=T + 90_000_000))
        asked_in_vain = dump(T + 100_000_000)._replace(
            asked=T + 80_000_000, met=frozenset([(FAR, 2, ROUTER, 254)])
        )
        late = asked_in_vain._replace(asked=T + 95_000_000)
        assert brief(seen.events([asked_in_vain], T + 110_000_000)) == [("refreshed", 1400, "icmp")]
        assert brief(seen.events([late], T + 110_000_000)) == [("flushed", None, "unknown")]

    def test_news_is_put_before_or_behind_a_dump_by_its_time(self, seen):
        """What was told after a dump was read is not undone by it."""
        lower = ITEM._replace(mtu=1300)
        seen.tell(SET)
        seen.tell(SET._replace(ts=T + 500_000_000, item=lower))
        between = dump(T + 100_000_000, ITEM._replace(table=254, expires=599.9))
        assert brief(seen.events([between], T + 600_000_000)) == [
            ("created", 1400, "icmp"),
            ("lowered", 1300, "icmp"),
        ]

    def test_a_redirect_is_no_message_of_a_path_mtu(self, seen):
        seen.tell(SET)
        moved = ITEM._replace(mtu=0, gateway="10.0.1.253", expires=300.0)
        seen.tell(SET._replace(ts=T + 1000, item=moved, via="redirect", inside=False))
        assert brief(seen.events([], T + 2000)) == [
            ("created", 1400, "icmp"),
            ("gone", None, "unknown"),
            ("created", 1400, "redirect"),
        ]

    def test_a_change_says_whose_message_it_was(self, seen):
        seen.tell(SET)
        seen.tell(SET._replace(item=ITEM._replace(daddr="172.16.0.2", mtu=1376)))
        seen.tell(MESSAGE)
        found = {e.daddr: e for e in seen.events([], T) if hasattr(e, "change")}
        assert (found[FAR].router, found[FAR].quoted.dport) == (ROUTER, 9)
        assert (found["172.16.0.2"].router, found["172.16.0.2"].quoted) == (None, None)


class TestHeard:
    def test_a_message_whose_work_the_dump_shows(self, watch, seen):
        watch.sounds = [MESSAGE]
        after = dump(T + 10_000_000, ITEM._replace(table=254, expires=599.99))
        found = seen.events([after], T + 11_000_000)
        assert brief(found) == [("applied", 1400), ("created", 1400, "icmp")]
        assert found[0].ts == found[1].ts == MESSAGE.ts
        assert (found[1].router, found[1].quoted) == (ROUTER, found[0].flow)

    def test_or_the_next_one(self, watch, seen):
        watch.sounds = [MESSAGE]
        assert seen.events([], T + 6000) == []
        after = dump(T + 10_000_000, ITEM._replace(table=254, expires=599.99))
        found = seen.events([after], T + 11_000_000)
        assert brief(found) == [("applied", 1400), ("created", 1400, "icmp")]

    def test_one_of_which_nothing_comes(self, watch, seen):
        watch.sounds = [MESSAGE]
        assert brief(seen.events([], MESSAGE.ts, last=True)) == [("no_match", 1500)]

    def test_what_does_not_fit_is_not_its_doing(self, watch, seen):
        watch.sounds = [MESSAGE]
        other = ITEM._replace(table=254, mtu=1390, expires=599.99)
        found = brief(seen.events([dump(T + 10_000_000, other)], T + 11_000_000, last=True))
        assert sorted(found, key=str) == [("created", 1390, "unknown"), ("no_match", 1500)]

    def test_it_waits_for_a_dump_as_long_as_these_take_too_much_of_a_core(self, watch, seen):
        watch.sounds, watch.rested = [MESSAGE], False
        late = T + 10 * SETTLED_NS
        assert seen.events(seen.read(), late) == []
        assert seen.events(seen.read(), late) == []
        assert (watch.read_for, watch.asked) == ([], 0)
        watch.rested = True
        assert brief(seen.events(seen.read(), late)) == [("no_match", 1500)]
        assert watch.read_for == [{NETNS}]

    def test_a_dump_of_before_it_was_heard_of_decides_nothing(self, watch, seen):
        late = T + 10 * SETTLED_NS
        watch.due, watch.rested = True, False
        dumps = seen.read()
        watch.sounds = [MESSAGE]
        assert seen.events(dumps, late) == []
        watch.due = False
        assert seen.events(seen.read(), late) == []
        watch.due = True
        assert brief(seen.events(seen.read(), late)) == [("no_match", 1500)]
        assert watch.read_for == [None, None]

    def test_of_many_about_one_path_the_route_is_asked_for_once(self, watch, seen):
        watch.sounds = [MESSAGE._replace(ts=T + number) for number in range(50)]
        seen.events([], T)
        seen.read()
        assert watch.asked == 1
        found = seen.events([], T + SETTLED_NS, last=True)
        assert brief(found) == [("no_match", 1500)] * 50
        assert watch.asked == 2


class TestMany:
    """Told of and heard at once: as many as a second of a storm may bring."""

    def test_all_find_each_other(self, watch, seen):
        targets = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(10_000)]
        items = [ITEM._replace(table=254, expires=599.99, daddr=daddr) for daddr in targets]
        watch.sounds = [
            MESSAGE._replace(quoted=packets.udp(ME, daddr, 1400, 2323, 9)[:28]) for daddr in targets
        ]
        began = time.process_time()
        found = seen.events([dump(T + 10_000_000, *items)], T + 11_000_000)
        assert time.process_time() - began < 5  # each with each would take half a minute
        applied = {e.flow.daddr for e in found if hasattr(e, "outcome") and e.outcome == "applied"}
        created = {e.daddr for e in found if hasattr(e, "change") and e.quoted.daddr == e.daddr}
        assert applied == created == set(targets)

    def test_what_tcp_sets_a_moment_later_is_of_the_first_that_waits(self, seen):
        later = [MESSAGE._replace(ts=T + number) for number in range(3)]
        for message in later:
            seen.tell(message)
        seen.events([], T)
        seen.tell(SET._replace(ts=T + 9_000_000, cpu=0, inside=False))
        found = seen.events([], T + 10_000_000)
        assert brief(found) == [("applied", 1400), ("created", 1400, "icmp")]
        assert found[0].ts == T
        assert [event.ts - T for event in seen.events([], T, last=True)] == [1, 2]

    def test_what_was_set_long_before_is_not_its_doing(self, seen):
        """The kernel tells of some messages only, and so what the others did is not kept for good.

        What was set last is the doing of the one that is told of next.
        """
        seen.tell(SET)
        for number in range(100):
            other = ITEM._replace(daddr=f"10.0.8.{number}")
            seen.tell(SET._replace(ts=T + 1 + number, item=other))
        seen.tell(MESSAGE)
        outcomes = [e.outcome for e in seen.events([], T, last=True) if hasattr(e, "outcome")]
        assert outcomes == ["no_match"]


FUNCTIONS = {0x1000: "icmp_unreach", 0x2000: "tcp_v4_mtu_reduced", 0x3000: "ip_tunnel_xmit"}


class TestReader:
    def read(self, kind, **values):
        reader = told.Reader(LAYOUT, lambda a: FUNCTIONS.get(a & ~0xFFF, ""), ORIGINS)
        number = LAYOUT.enums["event_type"][kind]
        packed = LAYOUT.pack("path_event", {"type": number, "cpu": 1, "netns": NETNS, **values})
        return reader.read(packed, 1000)

    @pytest.mark.parametrize(
        ("stack", "via", "inside"),
        [
            ((0x9999, 0x1234), "icmp", True),
            ((0x2010, 0x1010), "icmp", True),
            ((0x2010, 0x9999), "icmp", False),
            ((0x3010, 0x9999), "tunnel", False),
            ((0x9999,), "unknown", False),
            ((), "unknown", False),
        ],
    )
    def test_who_has_set_it(self, stack, via, inside):
        octets = struct.pack(f"={len(stack)}Q", *stack)
        found = self.read("EVENT_PATH_MTU", family=4, mtu=1400, left=600 * clock.HZ, octets=octets)
        assert (found.via, found.inside, found.ts) == (via, inside, 1000)

    def test_an_exception(self):
        far, gate = (bytes(10) + b"\xff\xff" + packets.packed(a) for a in (FAR, ROUTER))
        told = {"family": 4, "mtu": 552, "locked": 1, "left": 600 * clock.HZ, "ifindex": 2}
        found = self.read("EVENT_PATH_MTU", daddr=far, gateway=gate, gateway_family=4, **told)
        assert found.item == ITEM._replace(mtu=552, locked=True)

    def test_a_redirect(self):
        """Whatever the stack looks like."""
        octets = struct.pack("=Q", 0x1000)
        found = self.read("EVENT_PATH_MTU", family=4, mtu=0, left=300 * clock.HZ, octets=octets)
        assert (found.item.mtu, found.via, found.inside) == (0, "redirect", False)

    def test_a_message(self):
        saddr, daddr = packets.packed("fd00::fe"), packets.packed("fd00::1")
        found = self.read(
            "EVENT_ICMP_RECEIVED",
            family=6,
            mtu=1400,
            saddr=saddr,
            daddr=daddr,
            octets=b"\x60" * 128,
            caplen=500,
            dev=b"eth\x1b0",
        )
        assert (found.router, found.to, found.mtu) == ("fd00::fe", "fd00::1", 1400)
        assert found.quoted == b"\x60" * 128
        assert found.dev == r"eth\x1b0"
