"""The path MTU over time: episodes, gaps, and what is a collapse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtutrace.diagnosis.timeline import Gap, Step, Timeline


def timeline(*steps, base=1500, ended=100, gaps=(), standing=False, family=4):
    made = tuple(Step(*step) for step in steps)
    return Timeline(1, family, "192.0.2.1", 0, ended, base, made, tuple(gaps), standing)


def test_a_slide():
    line = timeline((10, 1476), (11, 1452), (12, 1428), (13, 552, True), (50, None))
    (episode,) = line.episodes
    assert (episode.began, episode.ended, episode.length) == (10, 50, 40)
    assert (episode.first, episode.floor, episode.falls) == (1476, 552, (24, 24, 24, 876))
    assert (episode.locked, episode.equal_falls, episode.collapse) == (True, 3, True)
    assert line.depth(episode) == 948
    assert (line.floor, line.now) == (552, None)


def test_what_it_was_at_any_time():
    line = timeline((10, 1400), (20, None), (60, 1300), gaps=[Gap(30, 40)])
    assert [line.at(ts) for ts in (-1, 0, 10, 19, 20, 29, 30, 39, 40, 60, 100, 101)] == [
        None, 1500, 1400, 1400, 1500, 1500, None, None, 1500, 1300, 1300, None,
    ]  # fmt: skip


def test_what_was_there_at_the_start_and_is_there_at_the_end():
    (episode,) = timeline((0, 1400), standing=True).episodes
    assert (episode.began, episode.ended, episode.length) == (None, None, None)
    assert (episode.seen, episode.until) == (0, 100)
    (begun,) = timeline((0, 1400)).episodes
    assert begun.began == 0


def test_a_gap_cuts_an_episode():
    line = timeline((10, 1400), (80, None), gaps=[Gap(30, 40)])
    one, other = line.episodes
    assert (one.began, one.ended, one.until) == (10, None, 30)
    assert (other.began, other.ended, other.seen) == (None, 80, 40)


def test_it_may_begin_and_end_in_gaps():
    line = timeline((10, 1400), (35, None), (65, 1300), gaps=[Gap(30, 40), Gap(60, 70)])
    one, other = line.episodes
    assert (one.began, one.ended) == (10, None)
    assert (other.began, other.ended, other.seen, other.floor) == (None, None, 70, 1300)


@pytest.mark.parametrize(
    ("steps", "collapse"),
    [
        ([(1, 1400)], False),
        ([(1, 1480), (2, 1460), (3, 1400)], False),
        ([(1, 576)], False),
        ([(1, 575)], True),
        ([(1, 552, True)], True),
        ([(1, 1476), (2, 1452)], False),
        ([(1, 1476), (2, 1452), (3, 1428)], True),
        ([(1, 1476), (2, 1500), (3, 1476), (4, 1500), (5, 1476)], True),
    ],
)
def test_a_collapse_is_what_no_hop_explains(steps, collapse):
    (episode,) = timeline(*steps).episodes
    assert episode.collapse is collapse


def test_ipv6_is_never_below_its_minimum():
    (episode,) = timeline((1, 1280), family=6).episodes
    assert not episode.collapse


def test_falls_from_an_unknown_mtu_are_not_made_up():
    (episode,) = timeline((1, 1476), (2, 1452), base=None).episodes
    assert episode.falls == (24,)


STEPS = st.lists(
    st.tuples(st.integers(0, 100), st.none() | st.integers(552, 1500)), max_size=20
).map(lambda items: sorted(items, key=lambda item: item[0]))
GAPS = st.lists(st.integers(0, 100), max_size=6, unique=True).map(
    lambda edges: [
        Gap(*pair) for pair in zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False)
    ]
)


@given(STEPS, GAPS, st.booleans())
def test_episodes_are_in_order_and_apart(steps, gaps, standing):
    line = timeline(*steps, gaps=gaps, standing=standing)
    last = -1
    for episode in line.episodes:
        assert last <= episode.seen <= episode.until <= 100
        assert episode.began in (None, episode.seen)
        assert episode.ended in (None, episode.until)
        assert episode.floor <= episode.first
        for gap in gaps:
            assert episode.until <= gap.began or episode.seen >= gap.ended
        last = episode.until


@given(STEPS, GAPS, st.integers(0, 99))
def test_it_is_low_within_episodes_only(steps, gaps, ts):
    line = timeline(*steps, base=1501, gaps=gaps)
    mtu = line.at(ts)
    if mtu is not None:
        assert (mtu < 1501) == any(e.seen <= ts < e.until for e in line.episodes)
