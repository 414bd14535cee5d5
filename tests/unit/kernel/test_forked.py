"""A fork that runs a function: what comes back, and how it ends."""

import errno
import gc
import os
import select
import signal
import sys
import threading
import time

import pytest

from pmtutrace.kernel.forked import Forked


def wait_for_ever():
    signal.alarm(30)  # which kills, should nothing else do so
    while True:
        time.sleep(0.01)  # pause() would not see a signal that comes just before it


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


def test_no_room_for_another_process(monkeypatch):
    def fork():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    gc.collect()  # what other tests have left has descriptors, too
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    with pytest.raises(BlockingIOError):
        Forked(bytes)
    gc.collect()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_asked_to_end_it_tidies_up(number, tmp_path, capsys):
    tidied = tmp_path / "tidied"
    there, say_there = os.pipe()

    def job():
        try:
            os.write(say_there, b"!")
            wait_for_ever()
        finally:
            tidied.touch()
        return b""

    before = signal.getsignal(signal.SIGINT)
    child = Forked(job)
    os.close(say_there)
    with os.fdopen(there, "rb") as pipe:
        assert pipe.read(1)
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


@pytest.mark.parametrize("step", ["waitpid", "waitstatus_to_exitcode"])
def test_interrupted_while_it_is_waited_for_it_can_be_waited_for_again(step, monkeypatch):
    """As by a signal that had to wait until it was."""
    there = getattr(os, step)

    def signalled(*words):
        signal.raise_signal(signal.SIGINT)
        return there(*words)

    child = Forked(lambda: os.write(2, b"a warning") and b"data")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, step, signalled)
            with pytest.raises(KeyboardInterrupt):
                child.communicate()
    finally:
        signal.signal(signal.SIGINT, before)
    child.terminate()
    for _ in range(2):
        assert child.communicate() == (b"data", b"a warning")
    assert child.returncode == 0


def test_it_ends_with_its_parent():
    there, say_there = os.pipe()
    held, hold = os.pipe()

    def parent():
        def job():
            os.write(say_there, b"!")
            wait_for_ever()
            return b""

        Forked(job)
        os.read(there, 1)
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    child = Forked(parent)
    for descriptor in (there, say_there, hold):
        os.close(descriptor)
    child.communicate()
    with os.fdopen(held, "rb") as pipe:
        # The other end is open for as long as there is one of them.
        assert select.select([pipe], [], [], 10)[0], "it is still there"
        assert pipe.read() == b""


def test_nothing_stays_open():
    gc.collect()
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    Forked(lambda: b"").communicate()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_it_has_no_other_threads():
    seen = Forked(lambda: str(threading.active_count()).encode()).communicate()[0]
    assert seen == b"1"
    assert "pmtutrace" in sys.modules
