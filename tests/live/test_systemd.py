"""The always-on recorder under a real systemd, by the unit that is shipped."""

import json
import os
import re
import signal
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest
from init import TREE, Systemd
from test_ending import held_by
from traced import run

from pmtutrace import lab
from pmtutrace.cli.lookout import MESSAGE_ID
from pmtutrace.kernel import privileges
from pmtutrace.lab import Traffic
from pmtutrace.lab.scenarios.routed import STRANGER, A, B, routed
from pmtutrace.lab.traffic import COUNT, send

pytestmark = pytest.mark.live
TOLD = Traffic("udp", "a", A[4], B[4])
SILENT = Traffic("raw-udp", "a", STRANGER[4], "10.77.2.99")
UNIT = "pmtutrace.service"
TEXT = (TREE / "contrib" / "systemd" / UNIT).read_text()
WATCHDOG_S = 6
SOONER = f"[Service]\nWatchdogSec={WATCHDOG_S}s\n"
EXPOSURE = 3.5  # as systemd-analyze has it: 0 is nothing to be had, 10 all


@pytest.fixture(scope="module")
def net():
    with lab.built(routed()) as net:
        yield net


@pytest.fixture(scope="module")
def running(tmp_path_factory, net):
    units = {UNIT: TEXT, f"{UNIT}.d/sooner.conf": SOONER}
    with Systemd(tmp_path_factory.mktemp("systemd"), units) as systemd:
        yield systemd


@pytest.fixture
def systemd(running, net):
    """A systemd whose recorder, once started, keeps every drop of one namespace."""
    words = f"--rotate 6h --all --netns {net['r'].name}"
    settings(running).write_text(f'PMTUTRACE_RECORD="{words}"\n')
    yield running
    running.run("systemctl", "stop", UNIT)
    running.run("systemctl", "reset-failed", UNIT)
    for path in sessions(running):
        path.unlink()


def settings(systemd):
    return systemd.path("/etc/default/pmtutrace")


def main(systemd):
    """Return the recorder's process, by its number out here."""
    return systemd.outside(systemd.show(UNIT)["MainPID"])


def sessions(systemd):
    return sorted((systemd.state / "pmtutrace").glob("recorder-*.pmtu"))


def totals(path):
    done = run("print", "-j", str(path))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_ready_when_attached_and_a_closed_session_when_stopped(systemd, net):
    seen = set()
    systemd.ask("systemctl", "start", "--no-block", UNIT)

    def active():
        state, pid = systemd.show(UNIT)["ActiveState"], main(systemd)
        assert state in ("inactive", "activating", "active"), systemd.journal("-n", "9")
        seen.add((state, bool(pid and held_by(pid))))
        return state == "active"

    systemd.wait(active)
    assert ("activating", False) in seen
    assert ("active", False) not in seen
    for traffic in (TOLD, SILENT):
        send(net, traffic)
    systemd.wait(lambda: f"{2 * COUNT} drops" in systemd.show(UNIT)["StatusText"])
    invocation = systemd.show(UNIT)["InvocationID"]
    systemd.ask("systemctl", "stop", UNIT)
    state = systemd.show(UNIT)
    assert (state["ActiveState"], state["Result"]) == ("inactive", "success")
    (path,) = sessions(systemd)
    assert not path.with_name(f"{path.name}-wal").exists()
    assert totals(path)["verdicts"] == {"suppressed": COUNT, "told": COUNT}
    with closing(connect(path)) as sql:
        assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert sql.execute("SELECT 1 FROM manifest WHERE name = 'ended'").fetchone()
        # What takes rights in the namespace itself, of a process that is not root.
        (name,) = sql.execute(
            "SELECT w.text FROM state_space s JOIN words w ON s.name = w.id"
        ).fetchone()
        (around,) = sql.execute(
            "SELECT w.text FROM state_around s JOIN words w ON s.text = w.id"
        ).fetchone()
    assert name == net["r"].name
    assert json.loads(around)["sysctls"]
    _told_once(systemd, path, invocation)


def _told_once(systemd, path, invocation):
    """See that the journal has what `report` finds, each once and with its fields."""
    found = json.loads(run("report", "-j", str(path)).stdout)["findings"]
    words = (f"MESSAGE_ID={MESSAGE_ID}", f"_SYSTEMD_INVOCATION_ID={invocation}")
    entries = systemd.journal(*words)
    names = ("FINDING", "SEVERITY", "SUBJECT", "NETNS", "REMEDY")
    told = [tuple(entry[f"PMTUTRACE_{name}"] for name in names) for entry in entries]
    wanted = [
        (
            one["id"],
            one["severity"],
            f"{one['subject']['kind']} {one['subject']['name']}",
            one["subject"]["netns"],
            "\n".join(one["remedy"]),
        )
        for one in found
    ]
    assert sorted(told) == sorted(wanted)
    assert "silent_hole" in {row[0] for row in told}
    for entry in entries:
        assert entry["_SYSTEMD_UNIT"] == UNIT
        assert entry["PRIORITY"] in ("2", "4", "6")
        assert entry["PMTUTRACE_SESSION"].endswith(path.name)


def test_a_recorder_that_hangs_is_replaced_and_no_other(systemd, net):
    systemd.ask("systemctl", "start", UNIT)
    pid = main(systemd)
    send(net, TOLD)
    systemd.wait(lambda: systemd.show(UNIT)["StatusText"] > f"0:00:{WATCHDOG_S + 2:02}")
    assert (systemd.show(UNIT)["NRestarts"], main(systemd)) == ("0", pid)
    assert totals(sessions(systemd)[0])["drops"] == COUNT
    os.kill(pid, signal.SIGSTOP)
    systemd.wait(lambda: systemd.show(UNIT)["NRestarts"] == "1")
    systemd.wait(lambda: systemd.show(UNIT)["ActiveState"] == "active")
    assert main(systemd) != pid
    assert any("Watchdog timeout" in entry["MESSAGE"] for entry in systemd.journal("-u", UNIT))
    send(net, TOLD)
    systemd.ask("systemctl", "stop", UNIT)
    assert [totals(path)["drops"] for path in sessions(systemd)] == [COUNT, COUNT]


def test_the_unit_is_sound_and_leaves_little(systemd):
    verified = systemd.run("systemd-analyze", "verify", UNIT)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    said = systemd.ask("systemd-analyze", "security", "--no-pager", UNIT)
    exposure = float(re.search(r"exposure level for \S+: ([\d.]+)", said)[1])
    assert exposure <= EXPOSURE
    systemd.ask("systemctl", "start", UNIT)
    text = Path(f"/proc/{main(systemd)}/status").read_text()
    status = dict(line.split(":\t", 1) for line in text.splitlines())
    assert "0" not in status["Uid"].split()
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    wanted = sum(1 << number for number in privileges.TRACING)
    for kind in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == wanted


def test_what_makes_no_sense_is_not_tried_again(systemd):
    settings(systemd).write_text("PMTUTRACE_RECORD=--rotate=soon\n")
    assert systemd.run("systemctl", "start", UNIT).returncode != 0
    state = systemd.show(UNIT)
    assert (state["ActiveState"], state["ExecMainStatus"]) == ("failed", "2")
    assert state["NRestarts"] == "0"
    (line,) = [e for e in systemd.journal("-u", UNIT) if "soon" in e["MESSAGE"]]
    assert line["PRIORITY"] == "3"
