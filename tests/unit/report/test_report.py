"""Reports for people, and which sessions make one."""

import json
import time

import pytest
from click.testing import CliRunner

from golden.test_lines import EVENTS
from pmtutrace.cli.verbs import cli
from pmtutrace.events import Flow
from pmtutrace.report import build, text
from pmtutrace.session import reader, schema
from pmtutrace.session.reader import Reader
from pmtutrace.session.writer import Second, Writer
from recorded import MANIFEST, NETNS, NSEC, counted, moved, second, write
from samples import TS, drop


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def reported(*paths):
    done = CliRunner().invoke(cli, ["report", *map(str, paths)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def objects(*paths):
    done = CliRunner().invoke(cli, ["report", "-j", *map(str, paths)], catch_exceptions=False)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_it_says(tmp_path):
    path = tmp_path / "s"
    writer = Writer(path, MANIFEST | {"kernel": "6.12", "boot_id": "b"})
    writer.state(schema.Space(TS, NETNS, "edge"))
    silent = counted("suppressed", Flow("10.9.0.9", "10.77.2.1", 6, 1, 443), cause="no_route_back")
    writer.add(drop())
    writer.commit(second(1, moved(7), moved(23, silent), ring_full=3))
    writer.close(ended=TS + NSEC)
    said = reported(path)
    assert said.startswith(
        "edge7, kernel 6.12\n2026-10-25 10:30:44 to 2026-10-25 10:30:46, 2.0 s\n"
        "30 oversize packets dropped\n"
    )
    assert "AFFECTED HOSTS: 2: 1 never told, 1 told, and listened\n" in said
    assert "  never told: 10.9.0.9\n  told, and listened: 10.77.1.1\n" in said
    assert "  never_told  edge   10.9.0.9   10.77.2.1       23     0           1500\n" in said
    assert "  suppressed  no_route_back  ip_forward       23\n" in said
    assert "  tcp       edge   10.9.0.9 port 1      10.77.2.1 port 443       23\n" in said
    assert said.endswith(f"RECORDING: {path}\n  3 lost: ring_full\n")


def test_of_many_findings_alike_some_are_shown(tmp_path):
    writer = Writer(tmp_path / "s", MANIFEST)
    flows = [Flow(f"10.9.0.{n}", "10.77.2.1", 17, 2323, 9) for n in range(8)]
    for at in range(6):
        for flow in flows:
            writer.add(drop(ts=TS + at * NSEC, flow=flow))
    writer.commit(second(6, *(moved(6, counted(flow=flow), TS + 5 * NSEC) for flow in flows)))
    writer.close(ended=TS + 6 * NSEC)
    said = reported(tmp_path / "s")
    assert said.count("(sender_ignores_news)") == 5
    assert "\nand 3 more sender_ignores_news, which `report -j` lists\n" in said


def test_nothing_to_say(tmp_path):
    writer = Writer(tmp_path / "s", MANIFEST)
    writer.commit(second(1))
    writer.close(ended=TS)
    said = reported(tmp_path / "s")
    assert "0 oversize packets dropped\n\nNo findings.\n" in said
    assert said.endswith("  nothing was lost\n")


def test_a_recording_that_goes_on(tmp_path):
    writer = write(tmp_path / "s", close=False)
    said = reported(tmp_path / "s")
    assert "21 oversize packets dropped" in said
    assert "the recorder runs still, or was killed" in said
    writer.close()


def rotated(folder, boot="b", **manifest):
    """Write two sessions, the second of which begins where the first one ends."""
    for number in range(2):
        began = TS + number * NSEC
        said = {"boot_id": boot, "session": f"{number}{boot}", "began": began} | manifest
        writer = Writer(folder / f"{boot}{number}", MANIFEST | said)
        writer.add(drop(ts=began))
        writer.commit(Second(began, began + NSEC, 0, (moved(5, last=began),)))
        writer.close(ended=began + NSEC)
    return [folder / f"{boot}{number}" for number in range(2)]


def test_a_rotation_makes_one_report(tmp_path):
    files = rotated(tmp_path)
    (report,) = objects(*reversed(files))
    assert (report["totals"]["drops"], report["totals"]["seconds"]) == (10, 2.0)
    assert report["recording"]["files"] == [str(file) for file in files]
    assert report["recording"]["gaps"] == []
    (sender,) = report["senders"]["named"]
    assert sender["packets"] == 10


def test_hosts_and_boots_get_a_report_each(tmp_path):
    reports = objects(
        *rotated(tmp_path), *rotated(tmp_path, "c"), *rotated(tmp_path, "d", host="x")
    )
    assert [(r["host"], r["boot_id"]) for r in reports] == [
        ("edge7", "b"),
        ("edge7", "c"),
        ("x", "d"),
    ]


def test_the_same_session_twice_is_a_mistake(tmp_path):
    file, _ = rotated(tmp_path)
    done = CliRunner().invoke(cli, ["report", str(file), str(file)])
    assert done.exception.exit_code == 2


def test_silence_is_a_gap(tmp_path):
    writer = Writer(tmp_path / "s", MANIFEST)
    for minute in (0, 1, 2, 60, 61):
        end = TS + minute * 60 * NSEC
        writer.commit(Second(end - NSEC, end, 0))
    writer.close(ended=end)
    (report,) = objects(tmp_path / "s")
    (gap,) = report["recording"]["gaps"]
    assert (gap["since"][11:19], gap["until"][11:19]) == ("10:32:45", "11:30:44")


def test_of_very_many_drops_a_share_is_read_and_of_all_else_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "BLOCK", 5)
    monkeypatch.setattr(build, "DROPS_READ", 50)
    write(tmp_path / "s", seconds=10)
    with Reader(tmp_path / "s") as opened:
        made = build.build([opened])
    changes = sum(event.__class__.__name__ == "PathMtuChange" for event in EVENTS.values())
    assert made.totals["pmtu_changes"] == 10 * changes
    assert 0.1 < made.share < 0.5
    assert made.totals["drops"] == 70
    assert "who goes on all the same was looked for in" in "\n".join(text.lines(made))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, "0.5 s"), (90, "90.0 s"), (600, "10 min"), (7500, "2 h 5 min"), (200_000, "2 d 7 h")],
)
def test_how_long(seconds, words):
    assert text.span(seconds) == words


def test_lines_are_printable(tmp_path):
    write(tmp_path / "s", host="\x1b[2J", kernel="\x00", series=7)
    assert all(line.isprintable() for line in reported(tmp_path / "s").split("\n"))
