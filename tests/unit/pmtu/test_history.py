"""What must have happened between two dumps, and how the kernel's news joins in."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtutrace.events import CHANGES, ENDS
from pmtutrace.pmtu.changes import NSEC, Dump
from pmtutrace.pmtu.exceptions import PathMtu
from pmtutrace.pmtu.history import History

START = 1_792_924_245 * NSEC
BOOTED = START - 5000 * NSEC
SPACE = 4026532001
LIVES = 600.0


def item(last=1, mtu=1400, **other):
    """Return an exception of 10.0.2.LAST."""
    values = {
        "family": 4,
        "daddr": f"10.0.2.{last}",
        "saddr": None,
        "ifindex": 2,
        "gateway": "10.0.1.254",
        "table": 254,
        "locked": False,
        "expires": LIVES,
    }
    return PathMtu(mtu=mtu, **(values | other))


def dump(at, *items, rerouted=(), lifetimes=None, step=0.0, families=(4, 6), netns=SPACE, **other):
    """Return a dump that began ``at`` seconds after the start.

    ``step`` is by how many seconds the time of day was set since. ``expires`` of the items counts
    from the start of all, not from the dump.
    """
    since = round(at * NSEC)
    ts = START + since + round(step * NSEC)
    return Dump(
        netns,
        ts,
        ts + 1_000_000,
        START - BOOTED + since,
        tuple(
            one if one.expires is None else one._replace(expires=one.expires - at) for one in items
        ),
        frozenset(families),
        {4: LIVES, 6: LIVES} if lifetimes is None else lifetimes,
        {2: "eth0", 3: "eth1"},
        frozenset(rerouted),
        **other,
    )


def told(changes):
    """Return word, last part of the address, seconds since the start, old and new."""
    return [
        (c.change, int(c.daddr.rpartition(".")[2]), round((c.ts - START) / NSEC, 2), c.old, c.new)
        for c in changes
    ]


@pytest.fixture
def history():
    """Knows one exception, set at the start."""
    history = History()
    history.begin(dump(0.1, item()))
    return history


class TestDumps:
    def test_what_is_there_at_the_beginning_has_not_changed(self, history):
        assert [known.item.daddr for known in history.known(SPACE)] == ["10.0.2.1"]
        assert history.take(dump(1, item())) == []

    def test_created_when_its_end_says(self, history):
        (change,) = history.take(dump(1, item(), item(2, expires=600.7)))
        assert told([change]) == [("created", 2, 0.7, None, 1400)]
        assert change.expires == pytest.approx(LIVES)
        assert (change.dev, change.gateway, change.table) == ("eth0", "10.0.1.254", 254)
        assert (change.netns, change.via, change.locked) == (SPACE, "unknown", False)

    def test_created_now_where_nobody_knows_when(self, history):
        changes = history.take(dump(1, item(), item(2, expires=600.7), lifetimes={}))
        assert told(changes) == [("created", 2, 1.0, None, 1400)]

    def test_not_created_before_the_last_dump_nor_after_this(self, history):
        changes = history.take(dump(1, item(), item(2, expires=300), item(3, expires=900)))
        assert told(changes) == [("created", 2, 0.1, None, 1400), ("created", 3, 1.0, None, 1400)]

    @pytest.mark.parametrize(
        ("new", "word", "when"),
        [
            (item(mtu=1300, expires=600.5), "lowered", 0.5),
            (item(mtu=1300), "lowered", 1.0),  # IPv6 lowers without a new lease
            (item(mtu=1450), "raised", 1.0),
            (item(mtu=552, locked=True, expires=600.5), "lowered", 0.5),
            (item(locked=True, expires=600.5), "locked", 0.5),
            (item(expires=600.5), "refreshed", 0.5),
        ],
    )
    def test_what_became_of_it(self, history, new, word, when):
        (change,) = history.take(dump(1, new))
        assert told([change]) == [(word, 1, when, 1400, new.mtu)]
        assert change.locked == new.locked
        assert history.take(dump(2, new)) == []

    def test_unlocked(self, history):
        history.take(dump(1, item(locked=True)))
        assert told(history.take(dump(2, item()))) == [("unlocked", 1, 2.0, 1400, 1400)]

    @given(st.lists(st.floats(-0.01, 0.01), min_size=1, max_size=30))
    def test_what_clocks_do_is_no_change(self, jitter):
        history = History()
        history.begin(dump(0, item()))
        for number, error in enumerate(jitter, 1):
            assert history.take(dump(number, item(expires=LIVES + error))) == []

    def test_a_deadline_cannot_creep(self, history):
        """Each reading is a little later than the one before: in the end that is a refresh."""
        found = [history.take(dump(n, item(expires=LIVES + n * 0.02))) for n in range(1, 6)]
        assert [bool(changes) for changes in found] == [False, False, True, False, False]

    def test_expired_when_it_was_due(self, history):
        (change,) = history.take(dump(600.6))
        assert told([change]) == [("expired", 1, 600.0, 1400, None)]
        assert change.expires == 0
        assert history.known(SPACE) == []

    def test_expired_a_tick_before_its_time(self, history):
        assert told(history.take(dump(599.98))) == [("expired", 1, 599.98, 1400, None)]

    def test_expired_and_made_anew_between_two_dumps(self, history):
        history.take(dump(599.5, item()))
        changes = history.take(dump(600.5, item(mtu=1300, expires=1200.2)))
        assert told(changes) == [
            ("expired", 1, 600.0, 1400, None),
            ("created", 1, 600.2, None, 1300),
        ]

    def test_a_shorter_life_is_another(self, history):
        """Somebody has made mtu_expires less, and it was set again."""
        (change,) = history.take(dump(1, item(expires=2), lifetimes={4: 1.5}))
        assert told([change]) == [("refreshed", 1, 0.5, 1400, 1400)]
        assert told(history.take(dump(3))) == [("expired", 1, 2.0, 1400, None)]

    def test_one_that_never_expires(self, history):
        history.take(dump(1, item(expires=None)))
        assert history.take(dump(599, item(expires=None))) == []

    def test_the_last_instant_of_ipv6_is_not_forever(self):
        six = item(family=6, daddr="fd77:2::1")
        history = History()
        history.begin(dump(0, six))
        assert history.take(dump(599.995, six._replace(expires=None))) == []
        (change,) = history.take(dump(601))
        assert change.change == "expired"

    def test_by_another_gateway_it_is_another(self, history):
        changes = history.take(dump(1, item(gateway="10.0.1.253", expires=600.9), rerouted=(4,)))
        assert [change.change for change in changes] == ["gone", "created"]


class TestWhy:
    """Why an exception went before its time."""

    @pytest.fixture
    def history(self):
        """Knows two by one nexthop and one by another."""
        self.one, self.two = item(1), item(2)
        self.other = item(3, ifindex=3, gateway="10.0.4.254")
        history = History()
        history.begin(dump(0.1, self.one, self.two, self.other))
        return history

    def words(self, changes):
        return {int(c.daddr[-1]): c.change for c in changes}

    def test_all_at_once_is_a_flush(self, history):
        changes = history.take(dump(1))
        assert self.words(changes) == dict.fromkeys((1, 2, 3), "flushed")
        assert all(c.expires == pytest.approx(599) for c in changes)

    def test_a_flush_comes_before_what_was_made_after_it(self, history):
        changes = history.take(dump(1, item(4, expires=600.5), self.other))
        assert "flushed" not in {c.change for c in changes}  # the other is as old as before
        history.take(dump(2))
        history.begin(dump(2.1, self.one, self.two))
        changes = history.take(dump(3, item(4, expires=602.5), item(2, expires=602.7)))
        assert told(changes) == [
            ("flushed", 1, 2.5, 1400, None),
            ("created", 4, 2.5, None, 1400),
            ("refreshed", 2, 2.7, 1400, 1400),
        ]

    def test_one_of_many_was_thrown_out(self, history):
        assert self.words(history.take(dump(1, self.two, self.other))) == {1: "evicted"}

    def test_ipv6_may_be_deleted_one_by_one(self):
        six = [item(family=6, daddr=f"fd77:2::{n}") for n in (1, 2)]
        history = History()
        history.begin(dump(0.1, *six))
        assert [c.change for c in history.take(dump(1, six[0]))] == ["gone"]
        assert [c.change for c in history.take(dump(2))] == ["flushed"]

    def test_all_of_a_nexthop_when_routes_changed(self, history):
        changes = history.take(dump(1, self.one, self.two, rerouted=(4,)))
        assert self.words(changes) == {3: "removed"}

    def test_one_of_a_nexthop_when_routes_changed(self, history):
        changes = history.take(dump(1, self.two, self.other, rerouted=(4,)))
        assert self.words(changes) == {1: "gone"}

    def test_all_when_routes_changed(self, history):
        changes = history.take(dump(1, rerouted=(4,)))
        assert self.words(changes) == dict.fromkeys((1, 2, 3), "gone")

    def test_routes_of_the_other_family_do_not_matter(self, history):
        assert set(self.words(history.take(dump(1, rerouted=(6,)))).values()) == {"flushed"}

    def test_families_do_not_matter_to_each_other(self, history):
        six = item(family=6, daddr="fd77:2::9", expires=600.5)
        changes = history.take(dump(1, six))
        assert {c.change for c in changes if c.family == 4} == {"flushed"}

    def test_what_was_not_read_is_not_gone(self, history):
        assert history.take(dump(1, families=(6,))) == []
        assert len(history.known(SPACE)) == 3

    def test_with_its_namespace(self, history):
        changes = history.forget(SPACE, START + 10 * NSEC)
        assert set(self.words(changes).values()) == {"removed"}
        assert history.known(SPACE) == []
        assert history.forget(SPACE, START + 11 * NSEC) == []


class TestTime:
    def test_setting_the_clock_is_no_change(self, history):
        assert history.take(dump(1, item(), step=-3600)) == []
        (change,) = history.take(dump(601, step=-3600))
        assert change.change == "expired"
        assert change.ts == START - 3000 * NSEC

    def test_other_namespaces_keep_time_too(self, history):
        other = SPACE + 1
        history.take(dump(1, item(9), netns=other))
        history.take(dump(2, item(), step=7200))
        assert history.take(dump(2, item(9), netns=other, step=7200)) == []


class TestNews:
    """The kernel's own word, in between."""

    def hear(self, history, at, new, via="icmp", table=0):
        new = new._replace(table=table)
        return history.told(SPACE, START + round(at * NSEC), new, dev="eth0", via=via)

    def test_a_dump_confirms_and_adds_nothing(self, history):
        (change,) = self.hear(history, 0.5, item(2))
        assert told([change]) == [("created", 2, 0.5, None, 1400)]
        assert (change.via, change.dev, change.expires) == ("icmp", "eth0", LIVES)
        assert history.take(dump(1, item(), item(2, expires=600.5))) == []
        assert {known.item.table for known in history.known(SPACE)} == {254}

    def test_lowered_step_by_step(self, history):
        found = [c for n in (1, 2, 3) for c in self.hear(history, n / 10, item(mtu=1400 - 50 * n))]
        assert [(c.change, c.old, c.new) for c in found] == [
            ("lowered", 1400, 1350),
            ("lowered", 1350, 1300),
            ("lowered", 1300, 1250),
        ]
        assert history.take(dump(1, item(mtu=1250, expires=600.3))) == []

    def test_expiry_comes_before_what_follows_it(self, history):
        changes = self.hear(history, 700, item(mtu=1300), via="tunnel")
        assert told(changes) == [
            ("expired", 1, 600.0, 1400, None),
            ("created", 1, 700.0, None, 1300),
        ]

    def test_what_no_packet_has_met_is_not_missed_by_a_dump(self, history):
        self.hear(history, 0.5, item(2))
        assert history.take(dump(1, item())) == []
        assert len(history.known(SPACE)) == 2
        assert told(history.take(dump(601))) == [
            ("expired", 1, 600.0, 1400, None),
            ("expired", 2, 600.5, 1400, None),
        ]

    def test_a_flush_takes_it_along(self, history):
        self.hear(history, 0.5, item(2))
        assert history.take(dump(1, item())) == []
        assert sorted(told(history.take(dump(2)))) == [
            ("flushed", 1, 2.0, 1400, None),
            ("flushed", 2, 2.0, 1400, None),
        ]

    def test_one_that_is_younger_than_the_dump_before_may_be_younger_than_the_flush(self, history):
        self.hear(history, 0.5, item(2))
        assert told(history.take(dump(1))) == [("flushed", 1, 1.0, 1400, None)]
        assert history.unmet(SPACE) == [item(2, table=0)]
        asked_in_vain = dump(2, met=frozenset([item(2).way]))
        assert told(history.take(asked_in_vain)) == [("flushed", 2, 2.0, 1400, None)]

    def test_what_was_asked_for_in_vain_is_gone(self, history):
        """What was found would be shown; of other ways, nothing can be known."""
        self.hear(history, 0.5, item(2))
        assert history.unmet(SPACE) == [item(2, table=0)]
        other = ("10.0.2.2", 3, "10.0.4.254", 254)
        assert history.take(dump(1, item(), met=frozenset([other]))) == []
        way = ("10.0.2.2", 2, "10.0.1.254", 254)
        changes = history.take(dump(2, item(), met=frozenset([way])))
        assert told(changes) == [("evicted", 2, 2.0, 1400, None)]
        assert history.unmet(SPACE) == []

    def test_one_that_is_set_again_may_be_another_that_no_packet_has_met(self, history):
        """Its route was made anew in between: a dump that lacks it says nothing."""
        self.hear(history, 0.5, item(mtu=1300))
        assert history.take(dump(1, rerouted=(4,))) == []
        assert history.take(dump(2, item(mtu=1300, expires=600.5))) == []
        assert history.unmet(SPACE) == []

    def test_what_only_an_answer_shows(self, history):
        """IPv6 leaves out of a dump what is by another nexthop than the first, for good."""
        six = item(family=6, daddr="fd77:2::2", expires=600.5)
        self.hear(history, 0.5, six._replace(expires=600.0))

        def asked(at, answer):
            left = answer._replace(expires=answer.expires - at)
            return history.take(dump(at, item(), answers=(left,)))

        for at in (1, 2):
            assert asked(at, six) == []
            assert [one.key for one in history.unmet(SPACE)] == [six.key]
        (change,) = asked(3, six._replace(mtu=1300))
        assert (change.change, change.old, change.new) == ("lowered", 1400, 1300)
        changes = history.take(dump(4, item(), met=frozenset([six.way])))
        assert [(c.change, c.family) for c in changes] == [("flushed", 6)]
        assert history.unmet(SPACE) == []

    def test_a_flush_of_what_was_asked_for(self, history):
        self.hear(history, 0.5, item(mtu=1300))
        met = frozenset([item().way])
        assert told(history.take(dump(1, met=met))) == [("flushed", 1, 1.0, 1300, None)]

    def test_what_is_set_while_a_dump_is_read_is_as_told(self, history):
        self.hear(history, 1.0001, item(mtu=1300))
        unsure = frozenset([(4, "10.0.2.1")])
        changes = history.take(dump(1, item(), item(2, expires=600.7), unsure=unsure))
        assert told(changes) == [("created", 2, 0.7, None, 1400)]
        assert {k.item.mtu for k in history.known(SPACE)} == {1300, 1400}

    def test_a_gateway_that_only_a_dump_knows(self, history):
        """After a redirect, what sets an exception still names the gateway of the route."""
        self.hear(history, 0.5, item(2))
        moved = item(2, gateway="10.0.1.253", expires=600.5, redirected=True)
        changes = history.take(dump(1, item(), moved))
        assert sorted((c.change, c.gateway) for c in changes) == [
            ("created", "10.0.1.253"),
            ("gone", "10.0.1.254"),
        ]
        assert {k.item for k in history.known(SPACE)} == {
            one._replace(expires=one.expires - 1) for one in (item(), moved)
        }

    def test_one_of_two_tables_is_left_to_the_dump(self):
        history = History()
        history.begin(dump(0, item(), item(table=100)))
        assert self.hear(history, 0.5, item(mtu=1300)) == []
        changes = history.take(dump(1, item(), item(table=100, mtu=1300, expires=600.5)))
        assert [(c.change, c.table, c.new) for c in changes] == [("lowered", 100, 1300)]


class TestRedirects:
    GATE = "10.0.1.253"

    def hear(self, history, at, last=1, gateway=GATE):
        redirect = item(last, mtu=0, gateway=gateway, table=0, expires=300.0)
        return history.redirected(SPACE, START + round(at * NSEC), redirect, dev="eth0")

    def test_it_takes_what_was_learned_along(self, history):
        changes = self.hear(history, 0.5)
        assert [(c.change, c.gateway, c.old, c.new, c.via) for c in changes] == [
            ("gone", "10.0.1.254", 1400, None, "unknown"),
            ("created", self.GATE, None, 1400, "redirect"),
        ]
        assert changes[1].expires == 300
        there = item(gateway=self.GATE, expires=300.5, redirected=True)
        assert history.take(dump(1, there)) == []
        (change,) = self.hear(history, 2)
        assert (change.change, change.via, change.expires) == ("refreshed", "redirect", 300)

    def test_what_is_learned_then_is_of_that_gateway(self, history):
        """Though what sets it names the gateway of the route."""
        self.hear(history, 0.5)
        there = item(gateway=self.GATE, expires=300.5, redirected=True)
        assert history.take(dump(1, there)) == []
        lower = item(mtu=1300, table=0)
        (change,) = history.told(SPACE, START + 2 * NSEC, lower, dev="eth0", via="icmp")
        assert (change.change, change.gateway, change.table) == ("lowered", self.GATE, 254)
        there = there._replace(mtu=1300, expires=602)
        assert history.take(dump(3, there)) == []

    def test_a_dump_shows_one_too(self, history):
        there = item(gateway=self.GATE, expires=300.5, redirected=True)
        changes = history.take(dump(1, there))
        assert sorted((c.change, c.gateway, c.via) for c in changes) == [
            ("created", self.GATE, "redirect"),
            ("gone", "10.0.1.254", "unknown"),
        ]

    def test_by_itself_it_is_no_path_mtu(self, history):
        assert self.hear(history, 0.5, last=2) == []
        assert self.hear(history, 700) == []  # expired: the next dump tells
        assert [k.item.gateway for k in history.known(SPACE)] == ["10.0.1.254"]


class TestAdministrators:
    """Who gives a device another MTU gives it to exceptions, too, and no time."""

    @pytest.mark.parametrize(
        ("new", "mtus", "via"),
        [
            (item(mtu=1300), {2: 1300}, "administrator"),
            (item(mtu=1450), {2: 1450}, "administrator"),
            (item(mtu=1300), {2: 1500}, "unknown"),
            (item(mtu=1300, expires=600.5), {2: 1300}, "unknown"),
            (item(mtu=1300), {}, "unknown"),
        ],
    )
    def test_only_what_is_the_devices_own(self, history, new, mtus, via):
        (change,) = history.take(dump(1, new, mtus=mtus))
        assert change.via == via


class TestMany:
    """Each exception costs the same, however many there are."""

    MANY = 5000
    WITHIN_S = 3  # each with each would take a quarter of a minute

    def many(self, **other):
        targets = (f"10.3.{n // 250}.{n % 250 + 1}" for n in range(self.MANY))
        return [item(daddr=daddr, **other) for daddr in targets]

    def test_told_and_shown_and_flushed(self):
        history, items = History(), self.many()
        history.begin(dump(0.1))
        began = time.process_time()
        for number, one in enumerate(items):
            told_of = one._replace(table=0)
            history.told(SPACE, START + NSEC + number, told_of, dev="eth0", via="icmp")
        assert history.take(dump(2, *self.many(expires=601.0))) == []
        changes = history.take(dump(3))
        assert time.process_time() - began < self.WITHIN_S
        assert [change.change for change in changes] == ["flushed"] * self.MANY

    def test_told_while_others_expire(self):
        history = History()
        old = [one._replace(expires=600 + n / 1000) for n, one in enumerate(self.many())]
        history.begin(dump(0.1, *old))
        began, changes = time.process_time(), []
        for number in range(self.MANY):
            other = item(daddr=f"10.4.{number // 250}.{number % 250 + 1}", table=0)
            at = START + 600 * NSEC + number * NSEC // 1000 + 1000
            changes += history.told(SPACE, at, other, dev="eth0", via="icmp")
        assert time.process_time() - began < self.WITHIN_S
        assert [change.change for change in changes] == ["expired", "created"] * self.MANY
        assert len(history.known(SPACE)) == self.MANY

    def test_one_that_was_set_anew_does_not_end_when_it_would_have(self):
        history = History()
        history.begin(dump(0.1, item(expires=400), item(2, expires=400)))
        for at, one in ((1, item(3)), (300, item()), (500, item(3))):
            moved = one._replace(table=0)
            found = history.told(SPACE, START + at * NSEC, moved, dev="eth0", via="icmp")
        assert [(change.change, change.daddr) for change in found] == [
            ("expired", "10.0.2.2"),
            ("refreshed", "10.0.2.3"),
        ]
        assert {known.item.daddr for known in history.known(SPACE)} == {"10.0.2.1", "10.0.2.3"}


@st.composite
def stories(draw):
    """Draw dumps in order of time, of a few exceptions that come, change and go as they like."""
    out, at = [], 0.0
    for _ in range(draw(st.integers(1, 12))):
        at += draw(st.sampled_from((0.5, 1, 30, 400)))
        items = {}
        for last in draw(st.sets(st.integers(1, 4))):
            items[last] = item(
                last,
                draw(st.integers(552, 1500)),
                expires=at + draw(st.sampled_from((0.2, 10, 599, 600))),
                locked=draw(st.booleans()),
                ifindex=draw(st.sampled_from((2, 3))),
            )
        out.append(dump(at, *items.values(), rerouted=draw(st.sets(st.sampled_from((4, 6))))))
    return out


@given(stories())
def test_the_changes_alone_lead_to_each_dump(story):
    history, table, last = History(), {}, 0
    for one in story:
        for change in history.take(one):
            assert change.change in (*CHANGES, *ENDS)
            assert last - 50_000_000 <= change.ts <= one.done
            last = max(last, change.ts)
            key = change.daddr, change.ifindex
            old = table.pop(key, (None, None))
            assert change.old == old[0]
            if change.new is not None:
                table[key] = change.new, change.locked
        there = {(e.daddr, e.ifindex): (e.mtu, e.locked) for e in one.exceptions}
        assert table == there
        assert there == {
            (k.item.daddr, k.item.ifindex): (k.item.mtu, k.item.locked)
            for k in history.known(SPACE)
        }
