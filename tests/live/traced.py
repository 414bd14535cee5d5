"""`pmtutrace trace` as a process beside which packets are sent."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = (sys.executable, "-m", "pmtutrace.cli.main")
READY_WITHIN_S = 20
ENDS_WITHIN_S = 20


def end(child):
    """Kill a process that a test has started, unless it has ended, and wait for it."""
    if child.poll() is None:
        child.kill()
        child.wait()


class Trace:
    """A running `pmtutrace trace -j`, or another verb that can tell when everything is attached.

    What it writes goes into files, so that it never waits for us. Being ready is heard through a
    FIFO, so that nobody need look again and again. ``before`` are words in front of the command.
    """

    def __init__(
        self, *words, text=False, environment=None, before=(), command=COMMAND, verb="trace"
    ):
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        ready = folder / "ready"
        os.mkfifo(ready)
        self._out, self._err = folder / "out", folder / "err"
        # First, since a command may come at the end.
        options = ["--ready-file", str(ready), *([] if text else ["-j"]), *words]
        pipe = os.open(ready, os.O_RDONLY | os.O_NONBLOCK)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.child = subprocess.Popen(
                [*before, *command, verb, *options],
                stdout=out,
                stderr=err,
                env={**os.environ, **(environment or {})},
            )
        process = os.pidfd_open(self.child.pid)
        try:
            self._wait_until_ready(pipe, process)
        finally:
            os.close(pipe)
            os.close(process)

    def _wait_until_ready(self, pipe, process):
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.register(process, select.POLLIN)
        ready = {number for number, _ in poll.poll(READY_WITHIN_S * 1000)}
        if pipe not in ready:
            self.child.kill()
            self.child.wait()
            raise AssertionError(f"not ready: {self.stderr}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.child)
        self._folder.cleanup()

    def end(self, number=signal.SIGINT):
        """End it as a user would, or wait for it to end; return its exit code."""
        if number:
            self.child.send_signal(number)
        return self.child.wait(ENDS_WITHIN_S)

    def wait_for(self, wanted):
        """Return once a line was written that ``wanted`` says yes to."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        while True:
            whole, _, _ = self.stdout.rpartition("\n")
            if any(wanted(json.loads(line)) for line in whole.splitlines()):
                return
            assert self.child.poll() is None, self.stderr
            assert time.monotonic() < deadline, whole
            select.select([], [], [], 0.02)

    @property
    def stdout(self):
        return self._out.read_bytes().decode()

    @property
    def stderr(self):
        return self._err.read_bytes().decode()

    @property
    def lines(self):
        """Return the JSON lines before the summary."""
        return [json.loads(line) for line in self.stdout.splitlines()][:-1]

    @property
    def drops(self):
        return [line for line in self.lines if line["type"] == "drop"]

    @property
    def summary(self):
        last = json.loads(self.stdout.splitlines()[-1])
        assert last["type"] == "summary"
        return last


def run(*words, environment=None, stdin=None, command=COMMAND):
    """Run the command line to its end."""
    return subprocess.run(
        [*command, *words],
        env={**os.environ, **(environment or {})},
        stdin=stdin,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
