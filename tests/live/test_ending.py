"""Ending a trace at any moment: exit code 0, no traceback, and nothing of it left in the kernel."""

import contextlib
import ctypes
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from traced import COMMAND, Trace, end

from pmtutrace import lab
from pmtutrace.lab.scenarios.routed import A, B, routed
from pmtutrace.lab.traffic import Traffic, send

pytestmark = pytest.mark.live
MOMENTS = 5
STARTS_WITHIN_S = 0.6


def programs():
    """Return the ids of all BPF programs that the kernel holds."""
    lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    found, number = set(), ctypes.c_uint32(0)
    while lib.bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
        found.add(number.value)
    return found


def held_by(pid):
    """Return the ids of the BPF programs that a process holds descriptors of."""
    found = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # others come and go
            for line in entry.read_text().splitlines():
                if line.startswith("prog_id:"):
                    found.add(int(line.split()[1]))
    return found


def wait_until_gone(held):
    """Return once the kernel holds none of the programs: it frees them after a grace period."""
    deadline = time.monotonic() + 5
    while not held.isdisjoint(programs()):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def ended(child, number):
    child.send_signal(number)
    try:
        _, said = child.communicate(timeout=30)
    finally:
        end(child)
    return child.returncode, said


def start(cache):
    """Start a trace, and return once its signal handlers are there."""
    child = subprocess.Popen(
        [*COMMAND, "trace", "-j"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PMTUTRACE_CACHE": str(cache)},
        text=True,
    )
    caught = 0
    while not caught >> (signal.SIGTERM - 1) & 1:
        assert child.poll() is None, "it ended by itself"
        status = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        caught = int(next(line for line in status if line.startswith("SigCgt")).split()[1], 16)
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_any_moment_is_a_good_one_to_end(number, tmp_path):
    moments = random.Random(number)  # noqa: S311 -- the same moments each time
    with Trace("-d", "0.01", environment={"PMTUTRACE_CACHE": str(tmp_path)}) as warm:
        warm.end(None)
    for _ in range(MOMENTS):
        pause = moments.uniform(0, STARTS_WITHIN_S)
        child = start(tmp_path)
        time.sleep(pause)
        code, said = ended(child, number)
        # A line may be closed, so that the prompt does not follow the terminal's ^C.
        assert (code, said.strip()) == (0, ""), f"after {pause:.3f} s"


@pytest.mark.parametrize("pause", [0.0, 0.05, 0.1, 0.3])
def test_ending_while_it_compiles_leaves_no_process_and_no_file(pause, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    child = start(tmp_path / "cache")
    time.sleep(pause)
    code, said = ended(child, signal.SIGTERM)
    assert (code, said.strip()) == (0, "")
    left = [path for path in tmp_path.iterdir() if path.name != "cache"]
    assert left == []
    assert [path for path in (tmp_path / "cache").rglob(".*") if path.is_file()] == []
    assert children_with(str(tmp_path)) == []


def children_with(folder):
    """Return the processes whose environment names a folder, but for the one asking."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if folder.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes())
        except OSError:
            continue
    return found


def test_nothing_is_left_in_the_kernel():
    with Trace() as trace:
        held = held_by(trace.child.pid)
        assert held
        assert held <= programs()
        assert trace.end(signal.SIGTERM) == 0
    wait_until_gone(held)


def test_being_killed_leaves_nothing_in_the_kernel():
    with Trace() as trace:
        held = held_by(trace.child.pid)
        trace.child.kill()
        trace.child.wait()
    wait_until_gone(held)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_was_seen_before_the_signal_is_shown(number):
    with lab.built(routed()) as net, Trace("--all", "--netns", net["r"].name) as trace:
        send(net, Traffic("udp", "a", A[4], B[4], count=2311))
        assert trace.end(number) == 0
        assert len(trace.drops) == trace.summary["drops"] == 2311
        assert trace.stderr == ""


def test_nohup_survives_the_end_of_its_terminal():
    with Trace(before=("nohup",)) as trace:
        trace.child.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            trace.child.wait(0.3)
        assert trace.end(signal.SIGINT) == 0
        assert trace.summary["drops"] >= 0


def test_many_signals_at_once():
    with Trace() as trace:
        for _ in range(20):
            trace.child.send_signal(signal.SIGTERM)
        assert trace.end(None) == 0
        assert "Traceback" not in trace.stderr
