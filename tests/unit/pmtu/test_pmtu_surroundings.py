"""Surroundings as they are written down, and read again."""

import json

import pytest

from pmtutrace.kernel.nftables import Block, Clamp, Rules
from pmtutrace.pmtu.surroundings import Question, Surroundings, loaded
from pmtutrace.pmtu.ways import Leg, Way

LEGS = (Leg("eth0", 2, "192.0.2.254", 1500, 1400), Leg("gre1", 7, None, 1476))
WAYS = {
    Question("198.51.100.1", "192.0.2.1", 2): Way("198.51.100.1", LEGS, 1492, True, "192.0.2.1", 2),
    Question("203.0.113.9"): None,
}
RULES = Rules((Clamp(("gre1",), 1300), Clamp()), (Block("ip filter output handle 7", "output"),))


@pytest.mark.parametrize(
    "value",
    [Surroundings(1), Surroundings(4026532001, WAYS, {"min_pmtu": 552}, True, RULES)],
)
def test_there_and_back(value):
    assert loaded(json.loads(json.dumps(value.json()))) == value


@pytest.mark.parametrize("broken", [{}, {"netns": 1}, {**Surroundings(1).json(), "ways": [[1]]}])
def test_what_is_none_is_refused(broken):
    with pytest.raises((KeyError, TypeError, ValueError)):
        loaded(broken)
