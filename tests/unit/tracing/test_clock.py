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


def test_being_stopped_between_two_clocks_shifts_neither(monkeypatch):
    stops = iter(())

    def stopped_before():
        time.sleep(next(stops, 0))
        return time.clock_gettime_ns(time.CLOCK_REALTIME)

    def stopped_after():
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)
        time.sleep(next(stops, 0))
        return now

    right = clock.boot_offset()
    for reading in (stopped_before, stopped_after):
        stops = iter([0.05, 0.02])
        monkeypatch.setattr(clock.time, "time_ns", reading)
        assert close(clock.boot_offset(), right)
        assert next(stops, None) is None


def since(ticks, jiffies):
    """Return CLOCK_BOOTTIME in nanoseconds as ticks tell it."""
    return ticks.epoch_ns(jiffies) - clock.boot_offset()


def close(one, other, within=TICK_NS // 4):
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
    assert close(since(ticks, 1000), 7 * SECOND)


def test_a_machine_that_slept_counted_no_jiffies():
    ticks = Ticks()
    ticks.learn(1000, 7 * SECOND)
    ticks.learn(1001, 3600 * SECOND)
    assert close(since(ticks, 1001), 3600 * SECOND)
