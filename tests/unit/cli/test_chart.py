"""A value over time, as a line of text."""

import pytest

from pmtutrace.cli.chart import Track, bars, coloured


def track(*steps):
    found = Track()
    for ts, value in steps:
        found.set(ts, value)
    return found


def test_each_part_shows_the_lowest_that_there_was():
    one = track((0, 1442), (35, 502), (36, 1442))
    assert one.lowest(0, 100, 10) == [1442, 1442, 1442, 502, 1442, 1442, 1442, 1442, 1442, 1442]


def test_what_goes_on_is_shown_in_all_parts():
    assert track((0, 9), (10, 5), (30, 9)).lowest(0, 40, 4) == [9, 5, 5, 9]


def test_what_came_first_stands_for_what_was_before():
    assert track((30, 7)).lowest(0, 40, 4) == [7, 7, 7, 7]
    assert Track().lowest(0, 40, 4) == []


def test_the_same_again_is_no_step():
    assert track((0, 7), (1, 7), (2, 8)).steps == [(0, 7), (2, 8)]


@pytest.mark.parametrize(
    ("values", "line"), [([], ""), ([7, 7], "██"), ([0, 7], "▁█"), ([502, 972, 1442], "▁▄█")]
)
def test_blocks_are_as_high_as_values(values, line):
    assert bars(values) == line


def test_what_is_low_stands_out():
    assert coloured([9, 1, 1, 9], 9) == "█[red]▁▁[/red]█"
    assert coloured([9, 1], 9) == "█[red]▁[/red]"
