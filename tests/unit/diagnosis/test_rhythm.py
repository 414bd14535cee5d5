"""Rhythms: found through jitter and gaps, and not found where there is none."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtutrace.diagnosis.rhythm import ACCIDENT_AT_MOST, NSEC, accident, find
from pmtutrace.diagnosis.timeline import Gap, Step, Timeline

MINUTE = 60 * NSEC
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def timeline(spans, *, ended=DAY, gaps=(), standing=False):
    """Return a timeline that is locked at 552 in these spans, given in nanoseconds."""
    steps = []
    for began, until in spans:
        steps.append(Step(began, 552, locked=True))
        if until is not None:
            steps.append(Step(until, None))
    return Timeline(1, 4, "192.0.2.1", 0, ended, 1500, tuple(steps), tuple(gaps), standing)


def rhythm(line):
    return find(line.episodes, line.gaps)


def cycles(number, *, period=90 * MINUTE, length=20 * MINUTE, jitter=0.0, chance=None, first=0):
    shake = chance or random.Random(1)  # noqa: S311 -- can be repeated
    starts = [first + n * period + period * shake.uniform(-jitter, jitter) for n in range(number)]
    return [(int(s) + MINUTE, int(s) + MINUTE + length) for s in starts]


def test_the_incident():
    found = rhythm(timeline(cycles(15)))
    assert (found.period_s, found.episode_s, found.cycles) == (5400, 1200, 14)
    assert found.duty == pytest.approx(0.2222, abs=0.0001)
    assert found.confidence > 0.999


@pytest.mark.parametrize("seed", range(20))
def test_jitter(seed):
    found = rhythm(timeline(cycles(10, jitter=0.05, chance=random.Random(seed))))  # noqa: S311
    assert found.period_s == pytest.approx(5400, rel=0.05)
    assert found.duty == pytest.approx(0.222, rel=0.1)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_too_few_are_no_rhythm(number):
    assert rhythm(timeline(cycles(number))) is None


def test_three_must_be_very_even():
    def three(second):
        return timeline(
            [(0, 10), (second * NSEC, second * NSEC + 10), (200 * NSEC, 200 * NSEC + 9)]
        )

    assert rhythm(three(101)) is not None
    assert rhythm(three(110)) is None


def test_a_beginning_in_the_middle_of_an_episode():
    """What was so when recording began has no beginning; the rest is enough."""
    spans = [(0, 5 * MINUTE), *cycles(5, first=75 * MINUTE)]
    line = timeline(spans, standing=True)
    assert line.episodes[0].began is None
    found = rhythm(line)
    assert (found.period_s, found.episode_s, found.cycles) == (5400, 1200, 4)


def test_one_that_still_lasts():
    spans = cycles(6)
    spans[-1] = (spans[-1][0], None)
    found = rhythm(timeline(spans, ended=spans[-1][0] + MINUTE))
    assert (found.period_s, found.episode_s, found.cycles) == (5400, 1200, 5)


def test_an_episode_missed_in_a_gap():
    spans = cycles(9)
    missed = spans.pop(4)
    line = timeline(spans, gaps=[Gap(missed[0] - MINUTE, missed[1] + MINUTE)])
    found = rhythm(line)
    assert (found.period_s, found.cycles) == (5400, 8)


def test_an_episode_missed_without_a_gap_is_no_rhythm():
    spans = cycles(6)
    del spans[3]
    assert rhythm(timeline(spans)) is None


def test_an_episode_cut_by_a_gap():
    spans = cycles(9)
    middle = spans[4][0] + 10 * MINUTE
    line = timeline(spans, gaps=[Gap(middle, middle + MINUTE)])
    halves = [e for e in line.episodes if e.length is None]
    assert [(e.began is None, e.ended is None) for e in halves] == [(False, True), (True, False)]
    assert (rhythm(line).period_s, rhythm(line).episode_s) == (5400, 1200)


def test_a_gap_that_speaks_against_it():
    spans = cycles(5) + cycles(5, first=8 * HOUR + 45 * MINUTE)
    gap = Gap(spans[4][1] + MINUTE, spans[5][0] - MINUTE)
    assert rhythm(timeline(spans, gaps=[gap])) is None
    even = cycles(5) + cycles(5, first=9 * HOUR)
    gap = Gap(even[4][1] + MINUTE, even[5][0] - MINUTE)
    assert rhythm(timeline(even, gaps=[gap])).period_s == 5400


def noise(seed, number, length):
    """Return episodes of this length that begin at random, but not while another one lasts."""
    chance = random.Random(seed)  # noqa: S311 -- can be repeated
    spans, at = [], 0.0
    for _ in range(number):
        at += chance.expovariate(1 / HOUR)
        spans.append((int(at), int(at) + length))
        at += length
    return spans


@pytest.mark.parametrize("length", [MINUTE, 20 * MINUTE, 5 * HOUR])
@pytest.mark.parametrize("number", [3, 4, 6, 12])
def test_noise_is_called_a_rhythm_no_oftener_than_claimed(number, length):
    seeds = 3000
    found = sum(
        rhythm(timeline(noise(seed, number, length), ended=100 * DAY)) is not None
        for seed in range(seeds)
    )
    # Three standard deviations of that many trials above what is claimed.
    assert found / seeds <= ACCIDENT_AT_MOST + 3 * (ACCIDENT_AT_MOST * 0.95 / seeds) ** 0.5


@pytest.mark.parametrize("parts", [2, 3, 4, 7])
@pytest.mark.parametrize("spread", [0.1, 0.3, 0.8, 1.5])
def test_the_chance_is_that_of_random_parts(parts, spread):
    chance = random.Random(parts)  # noqa: S311 -- can be repeated
    trials, even = 20000, 0
    for _ in range(trials):
        cuts = sorted(chance.random() for _ in range(parts - 1))
        even += all(abs((b - a) * parts - 1) <= spread for a, b in pairwise([0.0, *cuts, 1.0]))
    assert accident(parts, spread) == pytest.approx(even / trials, abs=0.012)


def test_the_chance_at_the_ends():
    assert accident(1, 0.0) == 1.0
    assert accident(5, 0.0) == 0.0
    assert accident(5, 5.0) == 1.0
    assert 0.0 < accident(10_000, 0.34) < 1e-10


@given(st.integers(2, 30), st.floats(0, 2), st.floats(0, 2))
def test_the_chance_grows_with_the_spread(parts, one, other):
    low, high = sorted((accident(parts, min(one, other)), accident(parts, max(one, other))))
    assert accident(parts, min(one, other)) == low
    assert 0 <= low <= high <= 1


@given(
    st.lists(st.integers(0, 10**6), max_size=40, unique=True),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**5)), max_size=4),
)
def test_whatever_is_claimed_makes_sense(moments, holes):
    moments = sorted(moments)
    spans = [(a, a + max(1, (b - a) // 2)) for a, b in pairwise(moments)]
    gaps = []
    for began, length in sorted(holes):
        began = max(began, gaps[-1].ended if gaps else 0)
        gaps.append(Gap(began, min(10**6 + 1, began + length)))
    line = timeline(spans, ended=2 * 10**6, gaps=[g for g in gaps if g.ended > g.began])
    found = rhythm(line)
    if found:
        assert found.cycles >= 2
        assert 0 < found.duty <= 1
        assert 1 - ACCIDENT_AT_MOST <= found.confidence <= 1
