"""`pmtutrace record` beside real packets, and what `pmtutrace print` makes of its sessions."""

import contextlib
import fcntl
import json
import os
import select
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest
from traced import COMMAND, ENDS_WITHIN_S, Trace, run

from pmtutrace import lab
from pmtutrace.lab import Traffic
from pmtutrace.lab.scenarios.routed import STRANGER, A, B, routed
from pmtutrace.lab.traffic import COUNT, send
from recorded import HOLDS

pytestmark = pytest.mark.live
TOLD = Traffic("udp", "a", A[4], B[4])
FLOOD = replace(TOLD, count=1000)
SILENT = Traffic("raw-udp", "a", STRANGER[4], "10.77.2.99")
# fs/ext4/ext4.h: EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")


@pytest.fixture(scope="module")
def net():
    with lab.built(routed()) as net:
        yield net


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.pmtu"


def recording(path, net, *words, **options):
    """Begin to record what the router drops, every packet of it."""
    words = ("-w", str(path), "--all", "--netns", net["r"].name, *words)
    return Trace(*words, text=True, verb="record", **options)


def printed(path, *words, before=()):
    """Return the lines of a session and its summary."""
    done = run("print", str(path), "-j", *words, command=(*before, *COMMAND))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *lines, summary = map(json.loads, done.stdout.splitlines())
    return lines, summary


def drops(path, *words):
    return [line for line in printed(path, *words)[0] if line["type"] == "drop"]


def wait_for(done):
    deadline = time.monotonic() + ENDS_WITHIN_S
    while not done():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.05)


def sound(path):
    with contextlib.closing(sqlite3.connect(path)) as sql:
        return sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_trace_shows_is_what_print_shows(path, net):
    with Trace("--all", "--netns", net["r"].name) as trace, recording(path, net) as recorder:
        for traffic in (TOLD, SILENT):
            send(net, traffic)
        assert (trace.end(), recorder.end()) == (0, 0)
        assert (recorder.stdout, recorder.stderr) == ("", "")
        shown, totals = trace.lines, trace.summary
    lines, summary = printed(path)
    assert [{**line, "ts": None} for line in lines] == [{**line, "ts": None} for line in shown]
    same = ("drops", "verdicts", "causes", "fragmented", "events_streamed", "losses")
    assert {k: summary[k] for k in same} == {k: totals[k] for k in same}
    assert summary["drops"] == 2 * COUNT
    assert list(path.parent.iterdir()) == [path]
    only = drops(path, "--verdict", "suppressed", "--host", STRANGER[4])
    assert len(only) == COUNT
    assert printed(path, "--verdict", "suppressed")[1]["drops"] == COUNT
    assert printed(path, "-i", "rb", "-4")[1]["drops"] == 2 * COUNT
    assert printed(path, "-i", "ra")[1]["drops"] == 0


def test_counts_are_exact_though_events_are_a_sample(path, net):
    before = net["r"].counters()["IpFragFails"]
    words = ("-w", str(path), "--rate", "1", "--netns", net["r"].name)
    with Trace(*words, text=True, verb="record") as recorder:
        for _ in range(3):
            send(net, replace(TOLD, count=500))
        assert recorder.end() == 0
    lines, summary = printed(path)
    assert len(lines) < 100
    assert summary["drops"] == net["r"].counters()["IpFragFails"] - before == 1500


def test_a_command_is_recorded_and_its_code_passed_on(path, tmp_path):
    said = tmp_path / "lab"
    names = "route-v4-udp-forward route-v4-no-route-back"
    script = f"echo $$ >{said}.pid; {' '.join(COMMAND)} lab run -j {names} >{said}; exit 7"
    done = run("record", "-w", str(path), "--all", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    results = [json.loads(line) for line in said.read_text().splitlines()]
    assert [(r["result"], r["counted"]) for r in results] == [("ok", COUNT)] * 2
    # Others may have a lab on this host, too, and both of ours may have had the same namespace.
    lines = drops(path, "--host", A[4], "--host", STRANGER[4])
    counted = Counter((line["netns"], line["flow"]["saddr"]) for line in lines)
    assert {saddr for (_, saddr), count in counted.items() if count == COUNT} == {A[4], STRANGER[4]}
    for space in {line["netns"] for line in lines}:
        there, summary = printed(path, "--netns", str(space))
        assert summary["drops"] == sum(line["type"] == "drop" for line in there)


@pytest.mark.parametrize(
    ("words", "code"), [(("sh", "-c", "kill -9 $$"), 137), (("true",), 0), (("/nowhere",), 2)]
)
def test_how_a_command_ends(path, words, code):
    done = run("record", "-w", str(path), "--", *words)
    assert done.returncode == code
    assert ("hint:" in done.stderr) == (code == 2)
    assert sound(path)


def test_signals_are_passed_on_to_the_command(path, net, tmp_path):
    trapped = tmp_path / "trapped"
    script = f"trap 'exit 9' TERM; : >{trapped}; while :; do sleep 0.05; done"
    with recording(path, net, "--", "sh", "-c", script) as r:
        wait_for(trapped.exists)
        assert r.end(signal.SIGTERM) == 9
    assert sound(path)


def test_a_command_that_ignores_all_signals_is_killed_at_the_third(path, net, tmp_path):
    heard = tmp_path / "heard"
    script = f"trap 'echo x >>{heard}' TERM; : >{heard}; while :; do sleep 0.05; done"
    with recording(path, net, "--", "sh", "-c", script) as r:
        for times in range(3):  # to the command; to the tracer, whose end ends the command; to us
            wait_for(lambda times=times: heard.exists() and heard.stat().st_size == 2 * times)
            r.child.send_signal(signal.SIGTERM)
        assert r.end(None) == 128 + signal.SIGKILL
        assert (r.stdout, r.stderr) == ("", "")
    assert sound(path)


@pytest.mark.parametrize("again", ["", "kill -TERM $PPID; "], ids=["once", "twice"])
def test_no_signal_is_too_early_for_the_code_of_the_command(path, again):
    # Once it ends, no other may interrupt that.
    script = f"trap 'trap : TERM; {again}exit 9' TERM; kill -TERM $PPID; "
    script += "while :; do sleep 0.05; done"
    done = run("record", "-w", str(path), "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (9, "", "")
    assert sound(path)


def committed(path):
    """Return the seconds that a session holds so far: since when, and until when."""
    with contextlib.closing(sqlite3.connect(path)) as sql:
        rows = sql.execute("SELECT since, ts FROM seconds WHERE since IS NOT NULL ORDER BY id")
        return [(since / 1e9, ts / 1e9) for since, ts in rows]


def send_until_committed(net, recorder, path, times):
    """Send until a session has so many seconds more; return when each packet had been sent."""
    sent, wanted = [], len(committed(path)) + times
    deadline = time.monotonic() + ENDS_WITHIN_S
    while len(committed(path)) < wanted:
        assert time.monotonic() < deadline
        assert recorder.child.poll() is None, recorder.stderr
        send(net, TOLD)
        sent.append(time.time())
        select.select([], [], [], 0.02)
    return sent


def holds_all(found, sent, before):
    """Say if drops are all those of what was sent before a time, or of more."""
    # Each time of sending is that of the last of so many packets.
    return len(found) >= COUNT * sum(ts < before for ts in sent) > 0


def test_kill_9_costs_the_last_second(path, net):
    with recording(path, net) as recorder:
        sent = send_until_committed(net, recorder, path, 2)
        seen = committed(path)
        recorder.child.kill()
        recorder.child.wait()
    assert committed(path)[: len(seen)] == seen
    stamps = [_seconds(drop["ts"]) for drop in drops(path)]
    assert sent[-1] - 2 < max(stamps)  # a second, and what a busy host takes to commit
    since, _ = committed(path)[-1]
    assert holds_all(stamps, sent, since)
    assert holds_all(stamps, sent, max(stamps))
    # The counters are read before the events, so they have all that came before they were read.
    assert printed(path)[1]["drops"] >= sum(ts < since for ts in stamps) > 0
    assert sound(path)


def _seconds(stamp):
    from datetime import datetime

    return datetime.fromisoformat(stamp).timestamp()


@contextlib.contextmanager
def disk(folder, size):
    """Mount a file system of some KB."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(net, recorder):
    """Send until the disk of a recorder is full; return how much that took."""
    sent = 0
    while "counting goes on" not in recorder.stderr:
        send(net, FLOOD)
        sent += FLOOD.count
        assert recorder.child.poll() is None, recorder.stderr
    return sent


def test_a_full_disk(tmp_path, net):
    with disk(tmp_path / "full", 600) as folder, recording(folder / "s", net) as recorder:
        sent = fill(net, recorder)
        send(net, FLOOD)
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        wait_for(lambda: "there is room again" in recorder.stderr)
        send(net, TOLD)
        sent += FLOOD.count + COUNT
        assert recorder.end() == 0
        assert recorder.stderr.count("counting goes on") == 1
        _, summary = printed(folder / "s")
        assert summary["drops"] == sent
        assert summary["losses"]["unstored"] > 0
        assert sound(folder / "s")
        assert [file.name for file in folder.iterdir()] == ["s"]


def test_a_disk_that_stays_full(tmp_path, net):
    with disk(tmp_path / "full", 600) as folder, recording(folder / "s", net) as recorder:
        send(net, TOLD)
        wait_for(lambda: len(drops(folder / "s")) == COUNT)
        fill(net, recorder)
        assert recorder.end() == 0
        assert sound(folder / "s")
        done = run("print", str(folder / "s"), "-c", "1")
        assert done.returncode == 0
        assert "ip_forward" in done.stdout


@contextlib.contextmanager
def mounted(image):
    """Mount the file system that a file holds."""
    folder = image.with_suffix(".mounted")
    folder.mkdir()
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def cut_power(folder):
    """Have a file system be as if the power had gone: what was not synced is lost."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(opened, SHUTDOWN, struct.pack("=I", NO_LOG_FLUSH))
    finally:
        os.close(opened)


def test_a_power_cut_costs_the_last_second(tmp_path, net):
    disk, after = tmp_path / "disk", tmp_path / "after"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    with mounted(disk) as folder, recording(folder / "s", net) as recorder:
        sent = send_until_committed(net, recorder, folder / "s", 3)
        seen = committed(folder / "s")
        cut_power(folder)
        send(net, TOLD)
        wait_for(lambda: "counting goes on" in recorder.stderr)
        recorder.child.kill()
        recorder.child.wait()
    # Somebody else's namespace may hold the one that was cut off for some time.
    subprocess.run(["cp", "--sparse=always", disk, after], check=True)
    with mounted(after) as folder:
        assert sound(folder / "s")
        assert committed(folder / "s")[: len(seen)] == seen
        stamps = [_seconds(drop["ts"]) for drop in drops(folder / "s")]
    assert sent[-1] - 2 < max(stamps)  # a second, and what a busy host takes to commit
    since, _ = seen[-1]
    assert holds_all(stamps, sent, since)
    assert holds_all(stamps, sent, max(stamps))


def test_a_rotation_loses_nothing(path, net):
    sent = 0
    with recording(path, net, "--rotate", "1s") as recorder:
        while len(list(path.parent.glob("s-*Z.pmtu"))) < 3:
            send(net, TOLD)
            sent += COUNT
            select.select([], [], [], 0.02)  # so that the ring has room for each of them
        assert recorder.end() == 0
    files = sorted(path.parent.iterdir())
    assert sum(printed(file)[1]["drops"] for file in files) == sent
    assert sum(len(drops(file)) for file in files) == sent


def test_follow_shows_what_comes_and_ends_with_the_recorder(path, net, tmp_path):
    said = tmp_path / "said"
    with recording(path, net) as recorder, said.open("wb") as out:
        follower = subprocess.Popen([*COMMAND, "print", "-f", "-j", str(path)], stdout=out)
        try:
            send(net, TOLD)
            wait_for(lambda: said.read_text().count("\n") == COUNT)
            send(net, SILENT)
            assert recorder.end() == 0
            assert follower.wait(ENDS_WITHIN_S) == 0
        finally:
            follower.kill()
            follower.wait()
    *lines, summary = map(json.loads, said.read_text().splitlines())
    assert len(lines) == summary["drops"] == 2 * COUNT


def test_reading_needs_no_root(tmp_path, net):
    path = tmp_path / "s.pmtu"
    with recording(path, net) as recorder:
        send(net, TOLD)
        assert recorder.end() == 0
    for folder in (*tmp_path.parents[:2], tmp_path):
        folder.chmod(0o755)
    os.chown(path, 65534, 65534)
    assert len(printed(path, before=NOBODY)[0]) == COUNT


@contextlib.contextmanager
def untouchable(folder):
    """Have a folder that even root cannot write to."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_what_a_killed_recorder_left_where_nothing_may_be_written(tmp_path, net):
    folder = tmp_path / "left"
    folder.mkdir()
    with recording(folder / "s", net) as recorder:
        send(net, TOLD)
        wait_for(lambda: len(drops(folder / "s")) == COUNT)
        recorder.child.kill()
        recorder.child.wait()
    with untouchable(folder):
        assert len(drops(folder / "s")) == COUNT
        done = run("record", "-w", str(folder / "t"), "-d", "1")
        assert (done.returncode, done.stderr.count("\n")) == (1, 2)
        assert "Read-only file system" in done.stderr
    (folder / "s-shm").unlink()  # as somebody copies what seems to matter
    with untouchable(folder):
        done = run("report", str(folder / "s"))
        assert done.returncode == 1
        assert "s-wal belongs to" in done.stderr
        assert "hint: copy both" in done.stderr
    assert len(drops(folder / "s")) == COUNT


def test_a_report_while_it_is_recorded(path, net):
    with recording(path, net) as recorder:
        send(net, TOLD)
        # Counters are read before events.
        wait_for(lambda: printed(path)[1]["drops"] == len(drops(path)) == COUNT)
        done = run("report", "-j", str(path))
        report = json.loads(done.stdout)
        assert (report["totals"]["drops"], report["recording"]["unfinished"]) == (COUNT, 1)
        assert [(one["saddr"], one["packets"]) for one in report["hosts"]["named"]] == [
            (A[4], COUNT)
        ]
        send(net, TOLD)
        assert recorder.end() == 0
    done = run("report", "-j", str(path))
    report = json.loads(done.stdout)
    assert (report["totals"]["drops"], report["recording"]["unfinished"]) == (2 * COUNT, 0)


@pytest.mark.parametrize(
    "words",
    [
        ("-w", "{path}", "--keep", "7d"),
        ("-w", "{path}", "--rotate", "soon"),
        ("-w", "{path}", "--site", "nonsense"),
        ("-w", "{path}/below/s"),
        ("-w", "/proc/s"),
        (),
    ],
)
def test_what_makes_no_sense_leaves_nothing_behind(path, words):
    done = run("record", *(word.format(path=path) for word in words), "--", "true")
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 2
    assert "hint: " in done.stderr
    assert not path.exists()


READ_ALL_THE_TIME = f"""
import os, sys
from pmtutrace import paths
from pmtutrace.cli import lookout, main
lookout.LAST_S = 0
module = paths.module
def held(name, *words):
    if "report" not in words:
        return module(name, *words)
    return [sys.executable, "-c", {HOLDS!r}, *words], dict(os.environ)
paths.module = held
main.main(sys.argv[1:])
"""


def test_looking_for_findings_keeps_no_session_from_being_one_file(tmp_path):
    words = ("record", "--findings", "-w", tmp_path / "s.pmtu", "--rotate", "2s", "-d", "5")
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL_THE_TIME, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=ENDS_WITHIN_S,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "joined" not in done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) >= 2
    assert {name.rpartition(".")[2] for name in names} == {"pmtu"}
