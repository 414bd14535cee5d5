"""What a path MTU did over time, in one line of text."""

from __future__ import annotations

from dataclasses import dataclass, field

BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(slots=True)
class Track:
    """A value over time: from each step on, until the next. Times are in any unit, rising."""

    steps: list[tuple[int, int]] = field(default_factory=list)

    def set(self, ts: int, value: int) -> None:
        """Take a new value from a time on."""
        if not self.steps or self.steps[-1][1] != value:
            self.steps.append((ts, value))

    def lowest(self, began: int, ended: int, width: int) -> list[int]:
        """Return the lowest value in each of ``width`` equal parts of a time.

        What is not known yet is what came first.
        """
        if not self.steps:
            return []
        found = []
        for part in range(width):
            start = began + (ended - began) * part // width
            end = began + (ended - began) * (part + 1) // width
            at_start = [value for ts, value in self.steps if ts <= start][-1:]
            within = [value for ts, value in self.steps if start < ts < end]
            found.append(min([*at_start, *within] or [self.steps[0][1]]))
        return found


def bars(values: list[int]) -> str:
    """Return a block for each value, as high as it is between the lowest and the highest."""
    if not values:
        return ""
    low, high = min(values), max(values)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[top * (v - low) // (high - low) if high > low else top] for v in values)


def coloured(values: list[int], normal: int) -> str:
    """Return the same in rich's markup: what is below normal stands out."""
    out, low = "", False
    for value, bar in zip(values, bars(values), strict=True):
        if (value < normal) != low:
            low = value < normal
            out += "[red]" if low else "[/red]"
        out += bar
    return out + ("[/red]" if low else "")
