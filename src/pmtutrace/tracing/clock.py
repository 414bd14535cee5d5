"""Kernel clocks as time of day.

Counters carry jiffies, since reading a clock would cost a program more than all else that it does
for a packet; events carry jiffies and CLOCK_BOOTTIME, and so tell how the two belong together.
"""

from __future__ import annotations

import time

NSEC_PER_SEC = 1_000_000_000
CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; Python has no name for it
# A tick of the kernel; what the coarse clocks advance by.
TICK_NS = round(time.clock_getres(CLOCK_MONOTONIC_COARSE) * NSEC_PER_SEC)
HZ = NSEC_PER_SEC // TICK_NS
# Jiffies begin five minutes before they wrap in 32 bits (include/linux/jiffies.h).
INITIAL_JIFFIES = (1 << 32) - 300 * HZ
# Clocks are read one after the other, and we may be kept from running in between.
APART_NS = 20_000
TRIES = 5


def boot_offset() -> int:
    """Return the nanoseconds from CLOCK_BOOTTIME to the Unix epoch, as they are now.

    Right to half of ``APART_NS``, or as right as the best of ``TRIES`` readings.
    """
    best, offset = None, 0
    for _ in range(TRIES):
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        now = time.time_ns()
        apart = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - before
        if best is None or apart < best:
            best, offset = apart, now - before - apart // 2
        if apart < APART_NS:
            break
    return offset


class Ticks:
    """Turns jiffies into time. Right to a tick once an event has been seen, to some before."""

    def __init__(self) -> None:
        self._zero: int | None = None

    def learn(self, jiffies: int, boottime_ns: int) -> None:
        """Take a moment in both clocks. Jiffies lag by up to a tick: the least difference holds."""
        zero = boottime_ns - jiffies * TICK_NS
        # A suspended machine counts no jiffies, so an old difference may have become too small.
        if self._zero is None or zero < self._zero or zero > self._zero + 2 * TICK_NS:
            self._zero = zero

    def epoch_ns(self, jiffies: int) -> int:
        """Return nanoseconds since the Unix epoch."""
        zero = -INITIAL_JIFFIES * TICK_NS if self._zero is None else self._zero
        return jiffies * TICK_NS + zero + boot_offset()
