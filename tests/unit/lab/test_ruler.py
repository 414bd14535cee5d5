"""What the lab's own measure makes of its readings."""

import pytest

from pmtutrace.lab.ruler import NSEC, Reading, truth


def readings(*spans):
    """Return readings from (MTU, second at which it begins); each lasts up to the next."""
    ends = [*(begin for _, begin in spans[1:]), 1000]
    return [
        Reading(mtu, round(begin * NSEC), round((end - 0.02) * NSEC))
        for (mtu, begin), end in zip(spans, ends, strict=False)
    ]


def test_it_is_measured_from_beginning_to_beginning():
    found = truth(
        readings((1500, 0), (1476, 3), (552, 3.5), (1500, 5), (552, 12), (1500, 14), (1452, 21))
    )
    assert (found.period_s, found.cycles, found.floor) == (9.0, 3, 552)
    assert found.episode_s == pytest.approx(2.0)
    assert found.duty == pytest.approx(2 / 9)


def test_what_rises_by_steps_is_one_episode():
    spans = (1500, 0), (552, 3), (576, 5), (1500, 5.5), (552, 12), (1500, 14.5)
    assert truth(readings(*spans)).episode_s == pytest.approx(2.5)


def test_an_end_that_was_seen_late_is_no_measure_unless_there_is_no_other():
    late = readings((1500, 0), (552, 3), (1500, 5.5), (552, 12), (1500, 14))
    late[1].until = round(5 * NSEC)
    assert truth(late).episode_s == pytest.approx(2.0)
    late[3].until = round(13.5 * NSEC)
    assert truth(late).episode_s == pytest.approx(2.25)


@pytest.mark.parametrize(
    "spans", [((1500, 0),), ((1500, 0), (552, 3)), ((1500, 0), (552, 3), (1500, 5)), ()]
)
def test_once_is_no_rhythm(spans):
    assert truth(readings(*spans)) is None
