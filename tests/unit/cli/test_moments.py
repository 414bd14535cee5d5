"""Times, durations and sizes as people write them."""

import os
import re
import subprocess
import time

import pytest

from pmtutrace.cli import moments
from samples import TS

NSEC = 1_000_000_000
MIDNIGHT = 1_792_886_400 * NSEC  # 2026-10-25, UTC


@pytest.fixture(autouse=True, params=["UTC", "America/New_York"])
def zone(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-10-25 10:30:45 UTC", MIDNIGHT + 37845 * NSEC),
        ("2026-10-25T10:30:45.678901Z", MIDNIGHT + 37845 * NSEC + 678_901_000),
        ("2026-10-25 UTC", MIDNIGHT),
        ("10:30 UTC", MIDNIGHT + 37800 * NSEC),
        ("yesterday UTC", MIDNIGHT - 86400 * NSEC),
        ("today 01:00 UTC", MIDNIGHT + 3600 * NSEC),
        ("tomorrow Z", MIDNIGHT + 86400 * NSEC),
        ("now", TS),
        ("-1h30min", TS - 5400 * NSEC),
        ("-1h 30m", TS - 5400 * NSEC),
        ("+2s", TS + 2 * NSEC),
        ("5min ago", TS - 300 * NSEC),
        ("@1792924245.5", 1_792_924_245_500_000_000),
        ("@0", 0),
    ],
)
def test_moments(text, wanted):
    assert moments.moment(text, TS) == wanted


def test_local_time(zone):
    hours = 0 if zone == "UTC" else 4
    wanted = MIDNIGHT + (37845 + 3600 * hours) * NSEC
    assert moments.moment("2026-10-25 10:30:45", TS) == wanted
    assert moments.moment("10:30:45", TS) == wanted


# What journalctl(1) takes, by its manual page and by that of systemd.time(7).
TAKEN = (
    "2012-10-30 18:17:16",
    "2012-10-30 18:17:16.654321",
    "2012-10-30  18:17",
    "2012-10-30",
    "12-10-30 18:17",
    "75-1-2",
    "2012-1-3 8:5",
    "18:17:16",
    "18:17",
    "8:5",
    "Thu 2012-11-08 18:15 UTC",
    "thursday 2012-11-08",
    "Fri 2012-11-23 11:12:13",
    "2012-11-08 18:15 utc",
    "yesterday",
    "today",
    "tomorrow",
    "today UTC",
    "now",
    "-1h30min",
    "- 1h",
    "+3h30min",
    "-90",
    "-1y",
    "+1w2d",
    "11min ago",
    "1M ago",
    "2 years ago",
    "1 month ago",
    "1h30min 5s ago",
    "0 ago",
    "3 hours left",
    "@1395716396",
    "@1395716396.5",
)


def _systemd(text, zone):
    """Return what systemd itself takes a time for, in microseconds."""
    said = subprocess.run(
        ["systemd-analyze", "timestamp", "--", text],
        env={**os.environ, "TZ": zone},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    whole, _, fraction = re.search(r"@([\d.]+)", said)[1].partition(".")
    return int(whole) * 1_000_000 + int(fraction.ljust(6, "0"))


@pytest.mark.parametrize("text", TAKEN)
def test_what_systemd_takes_a_time_for(text, zone):
    before = _systemd(text, zone)
    found = moments.moment(text, time.time_ns())
    assert before <= found // 1000 <= _systemd(text, zone)


def test_other_zones(zone):
    wanted = MIDNIGHT + (37845 - 9 * 3600) * NSEC
    assert moments.moment("2026-10-25 10:30:45 Asia/Tokyo", TS) == wanted
    assert moments.moment(f"2026-10-25 10:30 {time.tzname[-1]}", TS) == moments.moment(
        "2026-10-25 10:30", TS
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "soon",
        "-",
        "-x",
        "2026-13-01",
        "2026-10-25 25:00",
        "1:2:3:4",
        "24:00",
        "2026-02-30",
        "Mon 2026-10-25",
        "Sundays 2026-10-25",
        "2026-10-25 10:30 Nowhere/Land",
        "2026-10-25 10:30 ../../etc/passwd",
        "202-10-25",
        "@",
        "@x",
        "@1e99",
        "Z",
        "99999-01-01",
        "2026-10-2510:30",
        "-9999999999999d",
        "ago",
        "2026-10-25 10:30 CET",
    ],
)
def test_what_is_no_time(text):
    assert moments.moment(text, TS) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90", 90),
        ("1.5h", 5400),
        ("7d", 604800),
        ("2 weeks", 1209600),
        ("500ms", 0.5),
        ("", None),
        ("0", None),
        ("7x", None),
        ("M", None),
        ("-1", None),
        ("9" * 30, None),
    ],
)
def test_durations(text, wanted):
    assert moments.span(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1", 1),
        ("500K", 512000),
        ("100M", 104857600),
        ("2g", 2 << 30),
        ("2GiB", 2 << 30),
        ("", None),
        ("1.5G", None),
        ("-1", None),
        ("12h", None),
    ],
)
def test_sizes(text, wanted):
    assert moments.size(text) == wanted


@pytest.mark.parametrize(("text", "wanted"), [("12h", 43200.0), ("100M", 104857600), ("5m", 300.0)])
def test_a_size_has_a_capital_and_a_duration_none(text, wanted):
    found = moments.DURATION_OR_SIZE.convert(text, None, None)
    assert (found, type(found)) == (wanted, type(wanted))
