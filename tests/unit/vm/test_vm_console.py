"""What is kept of a console, however long the trace of a dying kernel is."""

import pytest

from pmtutrace.vm.console import KEPT, Console


def heard(*lines):
    console = Console()
    for line in lines:
        console.add(line)
    return console


def trace(count):
    return [f"[    3.{number:06}]  function_{number}+0x1/0x2" for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, KEPT, KEPT + 1])
def test_of_a_console_without_a_cause_the_end_is_kept(count):
    assert heard(*trace(count)).lines() == trace(count)[-KEPT:]
    assert not heard(*trace(count)).cause


@pytest.mark.parametrize("after", [0, 1, KEPT - 1, KEPT, 2 * KEPT - 1])
@pytest.mark.parametrize("before", [0, 1, KEPT])
def test_nothing_is_left_out_of_a_death_that_is_short_enough(before, after):
    panic = "[    3.2] Kernel panic - not syncing: sysrq triggered crash"
    lines = [*trace(before), panic, *trace(after)]
    console = heard(*lines)
    assert console.lines() == lines
    assert console.cause == "sysrq triggered crash"


def test_top_of_a_long_trace_is_kept_with_what_came_before_it_and_with_the_end():
    bug = "[    3.1] watchdog: BUG: soft lockup"
    after = [*trace(500), "[    9.9] Kernel panic - not syncing: a second cause"]
    console = heard("lost", *trace(KEPT), bug, *after)
    assert console.cause == "BUG: soft lockup"
    left_out = len(after) - (KEPT - 1) - KEPT
    assert console.lines() == [
        *trace(KEPT),
        bug,
        *after[: KEPT - 1],
        f"... {left_out} lines ...",
        *after[-KEPT:],
    ]


@pytest.mark.parametrize("line", ["guest: no init", "[    1.5] Kernel panic - not syncing: VFS"])
def test_cause_is_found_with_and_without_a_stamp(line):
    assert heard(line).cause == line.rpartition(": ")[2]
