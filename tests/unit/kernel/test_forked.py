"""A fork that runs a function: what comes back, and how it ends."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from pmtutrace.kernel.forked import Forked


def test_what_the_function_returns_and_what_is_said():
    def job():
        os.write(2, b"a warning\n")
        os.write(1, b"lost\n")  # stdout is not where data goes
        return bytes(range(256)) * 1000

    child = Forked(job)
    assert child.communicate() == (bytes(range(256)) * 1000, b"a warning\n")
    assert child.returncode == 0


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ValueError("not today"), b"ValueError: not today"),
        (KeyboardInterrupt(), b"KeyboardInterrupt"),
        (SystemExit(1), b""),
        (RecursionError("\udcff"), b"RecursionError"),
    ],
)
def test_a_function_that_fails(failure, said):
    def job():
        raise failure

    child = Forked(job)
    data, told = child.communicate()
    assert (data, child.returncode) == (b"", 1)
    assert said in told
    assert bool(told) == bool(said)


def test_one_that_is_killed():
    child = Forked(lambda: os.kill(os.getpid(), signal.SIGKILL) or b"")
    assert child.communicate() == (b"", b"")
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_asked_to_end_it_tidies_up(number, tmp_path, capsys):
    there, tidied = tmp_path / "there", tmp_path / "tidied"

    def job():
        try:
            there.touch()
            time.sleep(60)
        finally:
            tidied.touch()
        return b""

    before = signal.getsignal(signal.SIGINT)
    child = Forked(job)
    while not there.exists():
        time.sleep(0.01)
    if number == signal.SIGTERM:
        child.terminate()
    else:
        os.kill(child._pid, number)
    child.communicate()
    assert child.returncode == 1
    assert tidied.exists()
    child.terminate()  # of one that has ended: nothing
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr() == ("", "")


def test_a_signal_at_any_moment_leaves_one_process_that_goes_on(monkeypatch):
    """Also in the moment in which the fork still has the handlers of its parent."""
    fork = os.fork

    def forked_and_signalled():
        pid = fork()
        if not pid:
            os.kill(os.getpid(), signal.SIGINT)
        return pid

    monkeypatch.setattr(os, "fork", forked_and_signalled)
    child = Forked(lambda: b"too late")
    assert child.communicate() == (b"", b"")
    assert child.returncode == 1
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}


def test_it_ends_with_its_parent(tmp_path):
    there = tmp_path / "there"

    def parent():
        def job():
            there.write_text(str(os.getpid()))
            time.sleep(60)
            return b""

        Forked(job)
        while not there.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    Forked(parent).communicate()
    grandchild = Path(f"/proc/{there.read_text()}/stat")
    for _ in range(500):
        # Whoever adopts it may take a while to collect it.
        if not grandchild.exists() or grandchild.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)
    pytest.fail("it is still there")


def test_nothing_stays_open():
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    Forked(lambda: b"").communicate()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_it_has_no_other_threads():
    seen = Forked(lambda: str(threading.active_count()).encode()).communicate()[0]
    assert seen == b"1"
    assert "pmtutrace" in sys.modules
