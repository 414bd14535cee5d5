"""How long, how much and when, as people write it: the forms of journalctl(1)."""

from __future__ import annotations

import datetime
import re
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

NSEC = 1_000_000_000
UNITS = {
    "us": 1e-6,
    "usec": 1e-6,
    "ms": 1e-3,
    "msec": 1e-3,
    "": 1.0,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
    "w": 604800.0,
    "week": 604800.0,
    "weeks": 604800.0,
}
PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)")
DATE = re.compile(
    r"(?:(?P<day>\d{4}-\d\d-\d\d)|(?P<word>today|yesterday|tomorrow))?"
    r"(?:[ T]?(?<![\d])(?P<time>\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?))?"
    r"\s*(?P<zone>Z|UTC)?"
)
DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
OCTETS = re.compile(r"(\d+)([KMGT]?)(?:i?B)?", re.I)
LONGEST_S = 100 * 366 * 86400.0


def span(text: str) -> float | None:
    """Read ``90``, ``5min`` or ``1h 30m`` as seconds; None for what is none."""
    at, total = 0, 0.0
    while at < len(text):
        found = PART.match(text, at)
        if found is None or found[2] not in UNITS:
            return None
        total += float(found[1]) * UNITS[found[2]]
        at = found.end()
    return total if text.strip() and 0 < total < LONGEST_S else None


def size(text: str) -> int | None:
    """Read ``500K``, ``100M`` or ``2G`` as octets; None for what is none."""
    found = OCTETS.fullmatch(text)
    return int(found[1]) * SIZES[found[2].upper()] if found else None


def moment(text: str, now: int) -> int | None:
    """Read a time as journalctl(1) does; None for what is none.

    Args:
        text: ``2026-11-22 18:17:16``, either half of it, ``yesterday``, ``now``, ``-1h``,
            ``5min ago``, ``@1792924245.5``; local time but with ``Z`` or ``UTC`` at its end.
        now: nanoseconds since 1970.

    Returns:
        Nanoseconds since 1970.
    """
    text = text.strip()
    if text == "now":
        return now
    if text.startswith("@"):
        return _since_1970(text[1:])
    if text[:1] in ("-", "+") or text.endswith(" ago"):
        seconds = span(text.removesuffix(" ago").lstrip("+-"))
        sign = 1 if text.startswith("+") else -1
        return None if seconds is None else now + sign * round(seconds * NSEC)
    found = DATE.fullmatch(text)
    if found is None or not (found["day"] or found["word"] or found["time"]):
        return None
    return _calendar(found, now)


def _calendar(found: re.Match[str], now: int) -> int | None:
    zone = datetime.UTC if found["zone"] else None
    day = datetime.datetime.fromtimestamp(now // NSEC, zone).date()
    clock, _, fraction = (found["time"] or "00:00").partition(".")
    try:
        if found["day"]:
            day = datetime.date.fromisoformat(found["day"])
        day += datetime.timedelta(days=DAYS.get(found["word"] or "today", 0))
        parsed = datetime.time.fromisoformat(clock)
        whole = int(datetime.datetime.combine(day, parsed, zone).timestamp())
    except (ValueError, OverflowError, OSError):
        return None
    return whole * NSEC + int(fraction.ljust(9, "0") or 0)


def _since_1970(text: str) -> int | None:
    whole, _, fraction = text.partition(".")
    if not re.fullmatch(r"\d{1,11}", whole) or not re.fullmatch(r"\d{0,9}", fraction):
        return None
    return int(whole) * NSEC + int(fraction.ljust(9, "0"))


class Written(click.ParamType):  # type: ignore[type-arg]
    """An option that people write in words.

    Args:
        read: returns what a text means, None for nothing.
        what: it is to be.
        example: of such texts.
    """

    def __init__(self, read: Callable[[str], float | None], what: str, example: str) -> None:
        self.name = what
        self._read = read
        self._example = example

    def convert(
        self,
        value: Any,  # noqa: ANN401 -- as click has it
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return what it means; fail where that is nothing."""
        found = self._read(value)
        if not found:
            self.fail(f"{value!r} is no {self.name}; write {self._example}", param, ctx)
        return found


def duration_or_size(text: str) -> float | None:
    """Read seconds as a float or octets as an integer: ``M`` is a size, ``m`` are minutes."""
    return (size(text) if re.search(r"[KMGTB]", text) else None) or span(text)


MOMENT = Written(
    lambda text: moment(text, time.time_ns()), "time", "2026-11-22 18:17:16, yesterday or -1h"
)
DURATION = Written(span, "duration", "90s, 12h or 7d")
SIZE = Written(size, "size", "500K, 100M or 2G")
DURATION_OR_SIZE = Written(duration_or_size, "duration or size", "12h or 100M")
