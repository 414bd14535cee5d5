"""How long, how much and when, as people write it: the forms of journalctl(1)."""

from __future__ import annotations

import datetime
import re
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    "month": 2629800.0,
    "months": 2629800.0,
    "y": 31557600.0,
    "year": 31557600.0,
    "years": 31557600.0,
}
MONTH = {"M": 2629800.0}  # where no size can be meant
PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)")
DATE = re.compile(
    r"(?:(?P<weekday>(?i:mon|tue|wed|thu|fri|sat|sun)[A-Za-z]{0,6})\s+(?=\d))?"
    r"(?:(?P<day>(?:\d\d){1,2}-\d{1,2}-\d{1,2})|(?P<word>today|yesterday|tomorrow))?"
    r"(?:(?:T|\s*)(?<![\d])(?P<time>\d{1,2}:\d{1,2}(?::\d{1,2}(?:\.\d{1,9})?)?))?"
    r"(?:\s*(?P<utc>Z|UTC|utc)|\s+(?P<zone>[A-Za-z][\w+/-]*))?"
)
DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
OCTETS = re.compile(r"(\d+)([KMGT]?)(?:i?B)?", re.I)
LONGEST_S = 100 * 366 * 86400.0


def span(text: str, units: Mapping[str, float] = UNITS) -> float | None:
    """Read ``90``, ``5min`` or ``1h 30m`` as seconds; None for what is none."""
    total = _seconds(text, units)
    return total if total and total < LONGEST_S else None


def _seconds(text: str, units: Mapping[str, float]) -> float | None:
    text, at, total = text.rstrip(), 0, 0.0
    while at < len(text):
        found = PART.match(text, at)
        if found is None or found[2] not in units:
            return None
        total += float(found[1]) * units[found[2]]
        at = found.end()
    return total if text else None


def size(text: str) -> int | None:
    """Read ``500K``, ``100M`` or ``2G`` as octets; None for what is none."""
    found = OCTETS.fullmatch(text)
    return int(found[1]) * SIZES[found[2].upper()] if found else None


def moment(text: str, now: int) -> int | None:
    """Read a time as journalctl(1) does, in the forms of systemd.time(7); None for what is none.

    Args:
        text: ``2026-11-22 18:17:16``, either half of it, its day of the week before it,
            ``yesterday``, ``now``, ``-1h``, ``5min ago``, ``@1792924245.5``; local time but with
            ``UTC`` or a zone like ``Asia/Tokyo`` at its end.
        now: nanoseconds since 1970.

    Returns:
        Nanoseconds since 1970.
    """
    text = text.strip()
    if text == "now":
        return now
    if text.startswith("@"):
        return _since_1970(text[1:].lstrip())
    for sign, mark, end in ((1, "+", ""), (-1, "-", ""), (-1, "", " ago"), (1, "", " left")):
        if text.startswith(mark) and text.endswith(end):
            seconds = _seconds(text.removeprefix(mark).removesuffix(end), UNITS | MONTH)
            known = seconds is not None and seconds < LONGEST_S
            return now + sign * round(seconds * NSEC) if seconds is not None and known else None
    found = DATE.fullmatch(text)
    if found is None or not (found["day"] or found["word"] or found["time"]):
        return None
    try:
        return _calendar(found, now)
    except (ValueError, OverflowError, OSError):
        return None


def _calendar(found: re.Match[str], now: int) -> int:
    """Return the time that the parts of a date mean; ValueError for one that there is not."""
    zone = _zone(found)
    day = datetime.datetime.fromtimestamp(now // NSEC, zone).date()
    if found["day"]:
        numbers = [int(part) for part in found["day"].split("-")]
        day = datetime.date(_year(found["day"]), *numbers[1:])
    day += datetime.timedelta(days=DAYS.get(found["word"] or "today", 0))
    if found["weekday"] and found["weekday"].lower() not in (
        WEEKDAYS[day.weekday()],
        WEEKDAYS[day.weekday()][:3],
    ):
        raise ValueError(found["weekday"])
    clock, _, fraction = (found["time"] or "0:0").partition(".")
    hour, minute, second = map(int, (*clock.split(":"), "0")[:3])
    whole = datetime.datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=zone)
    return int(whole.timestamp()) * NSEC + int(fraction.ljust(9, "0") or 0)


def _year(day: str) -> int:
    """Return the year of a day; of two digits, as strptime(3) has it."""
    digits = day.partition("-")[0]
    century = 0 if len(digits) > 2 else 1900 if int(digits) >= 69 else 2000
    return century + int(digits)


def _zone(found: re.Match[str]) -> datetime.tzinfo | None:
    """Return the zone that is named, None for the local one; ValueError where there is no such."""
    name = found["zone"]
    if name is None:
        return datetime.UTC if found["utc"] else None
    if name in time.tzname:
        return None
    if "/" not in name:
        raise ValueError(name)
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError as error:
        raise ValueError(name) from error


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
