"""Jiffies as time of day."""

import time

import pytest

from pmtutrace.tracing import clock
from pmtutrace.tracing.clock import HZ, INITIAL_JIFFIES, TICK_NS, Ticks

SECOND = clock.NSEC_PER_SEC


def test_a_tick_is_one_that_kernels_have():
    assert HZ in (100, 250, 300, 1000)
    assert abs(TICK_NS * HZ - SECOND) <= HZ


def test_boottime_and_the_epoch():
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + clock.boot_offset()
    assert abs(now - time.time_ns()) < SECOND


def since(ticks, jiffies):
    """Return CLOCK_BOOTTIME in nanoseconds as ticks tell it."""
    return ticks.epoch_ns(jiffies) - clock.boot_offset()


def close(one, other, within=50_000_000):
    # the clock of the day and that since boot are read one after the other
    return abs(one - other) < within


def test_before_any_event_jiffies_begin_where_the_kernel_begins():
    assert close(since(Ticks(), INITIAL_JIFFIES), 0)
    assert close(since(Ticks(), INITIAL_JIFFIES + 10 * HZ), 10 * HZ * TICK_NS)


def test_what_was_learned_counts():
    ticks = Ticks()
    ticks.learn(1000, 7 * SECOND)
    assert close(since(ticks, 1000), 7 * SECOND)
    assert close(since(ticks, 1000 + HZ), 7 * SECOND + HZ * TICK_NS)


@pytest.mark.parametrize("late", [[0, 0.9, 0.5], [0.9, 0.5, 0], [0.5, 0, 0.9]])
def test_the_least_lag_counts(late):
    """Within a tick, jiffies lag: the event that came right after the tick tells best."""
    ticks = Ticks()
    for number, lag in enumerate(late):
        ticks.learn(1000 + number, 7 * SECOND + round((number + lag) * TICK_NS))
    assert close(since(ticks, 1000), 7 * SECOND, within=TICK_NS // 4)


def test_a_machine_that_slept_counted_no_jiffies():
    ticks = Ticks()
    ticks.learn(1000, 7 * SECOND)
    ticks.learn(1001, 3600 * SECOND)
    assert close(since(ticks, 1001), 3600 * SECOND)
