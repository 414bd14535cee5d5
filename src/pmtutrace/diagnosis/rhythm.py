"""Whether collapses come back in a rhythm, and how sure that is.

The claim is held against chance: episodes that begin at random, but not while another one lasts.
How even the pauses of such accidents are can be told exactly, so a rhythm is claimed only where
pauses as even as those seen come by accident once in twenty times at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import comb
from statistics import fmean, median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmtutrace.diagnosis.timeline import Episode, Gap

ACCIDENT_AT_MOST = 0.05
SPREAD_AT_MOST = 0.35
PARTS_AT_MOST = 40
NSEC = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Episodes that come back: ``cycles`` times every ``period_s`` for ``episode_s``, in seconds.

    ``duty`` is the share of time that they take, ``confidence`` is 1 less the chance that pauses
    as even as these come by accident.
    """

    period_s: float
    episode_s: float
    duty: float
    cycles: int
    confidence: float


def accident(number: int, spread: float) -> float:
    """Return the chance that random parts of a whole are as even as that, or more.

    Random points cut a whole into ``number`` parts. The chance that each of them is within
    ``spread`` times the mean of the mean is, by inclusion and exclusion over the parts that are
    longer than the upper bound, ``sum (-1)^k C(n,k) (1 - (n-k) a - k b)_+ ^ (n-1)``, where ``a``
    and ``b`` are the bounds as shares of the whole.
    """
    if number < 2:
        return 1.0
    # Of more parts, the chance is less still; the sum is exact, and its terms are huge.
    number = min(number, PARTS_AT_MOST)
    even = Fraction(min(max(spread, 0.0), float(number)))
    low, high = max(Fraction(0), (1 - even) / number), (1 + even) / number
    lefts = (1 - (number - k) * low - k * high for k in range(number + 1))
    return float(
        sum(
            (-1) ** k * comb(number, k) * left ** (number - 1)
            for k, left in enumerate(lefts)
            if left > 0
        )
    )


def find(episodes: Sequence[Episode], gaps: Sequence[Gap] = ()) -> Rhythm | None:
    """Return the rhythm of episodes; None where there is none, or too little to be sure of it.

    An interval between two beginnings that holds a gap, or an episode whose beginning was not seen,
    may be of several periods. It is no evidence; it must only not speak against the rhythm.

    Args:
        episodes: in order of time.
        gaps: times of which nothing is known.
    """
    lengths = [item.length for item in episodes if item.length is not None]
    starts = [item.began for item in episodes if item.began is not None]
    if not lengths or len(starts) < 3:
        return None
    unseen = [item.seen for item in episodes if item.began is None]
    whole: list[int] = []
    broken: list[int] = []
    for one, other in pairwise(starts):
        cut = any(one < gap.ended and gap.began < other for gap in gaps)
        (broken if cut or any(one < ts < other for ts in unseen) else whole).append(other - one)
    if len(whole) < 2:
        return None
    # While one lasts no other can begin: that much of each interval is no accident.
    dead = min(lengths)
    mean = fmean(whole) - dead
    if mean <= 0:
        return None
    spread = max(abs(length - dead - mean) for length in whole) / mean
    chance = accident(len(whole), spread)
    if spread > SPREAD_AT_MOST or chance > ACCIDENT_AT_MOST:
        return None
    typical = median(whole)
    cycles = len(whole)
    for length in broken:
        times = max(1, round(length / typical))
        if abs(length - times * typical) > max(spread, 0.05) * typical * times:
            return None
        cycles += times
    period = (sum(whole) + sum(broken)) / cycles
    episode = fmean(lengths)
    return Rhythm(
        round(period / NSEC, 3),
        round(episode / NSEC, 3),
        round(min(1.0, episode / period), 4),
        cycles,
        round(1 - chance, 4),
    )
