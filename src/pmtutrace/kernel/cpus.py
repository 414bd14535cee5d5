"""How many CPUs the kernel may ever have: it keeps a value for each in per-CPU maps."""

from __future__ import annotations

from pathlib import Path

POSSIBLE = Path("/sys/devices/system/cpu/possible")


def possible() -> int:
    """Return the highest number that a CPU may have, plus one."""
    last = POSSIBLE.read_text().strip().split(",")[-1]
    return int(last.rpartition("-")[2]) + 1
