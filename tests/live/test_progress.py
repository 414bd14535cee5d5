"""What `pmtutrace record` shows on a terminal, and that ^C there ends it well."""

import fcntl
import json
import os
import re
import select
import struct
import subprocess
import termios
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from traced import COMMAND, ENDS_WITHIN_S, end, run

from pmtutrace import lab
from pmtutrace.lab import Traffic
from pmtutrace.lab.scenarios.routed import A, B, routed
from pmtutrace.lab.traffic import COUNT, send

pytestmark = pytest.mark.live
TOLD = Traffic("udp", "a", A[4], B[4])
FLOOD = replace(TOLD, count=1000)
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
PROGRESS = re.compile(
    r"(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d)  (?P<drops>\d+) drops(?: \((?P<verdicts>[^)]*)\))?  "
    r"(?P<paths>\d+) path MTU changes  (?P<size>\d+\.\d) MB(?P<full>, disk full)?"
    r"(?:  (?P<lost>\d+) lost)?"
)


class Terminal:
    """A command on a terminal of its own; ``^C`` is typed there."""

    def __init__(self, *words):
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 160, 0, 0))
        self.child = subprocess.Popen(
            [*COMMAND, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            # Of its own size, whatever somebody says that ours is.
            env={k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
            | {"TERM": "xterm"},
            preexec_fn=_take_terminal,
        )
        os.close(theirs)
        self.shown = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.child)
        os.close(self._ours)

    def type(self, text):
        os.write(self._ours, text.encode())

    def read(self):
        """Take in what is shown within a moment; False once nobody holds the other end."""
        if not select.select([self._ours], [], [], 0.1)[0]:
            return True
        try:
            self.shown += CONTROL.sub("\n", os.read(self._ours, 65536).decode())
        except OSError:
            return False
        return True

    def until(self, wanted):
        """Return the first line of progress from now on that ``wanted`` says yes to."""
        at, deadline = len(self.shown), time.monotonic() + ENDS_WITHIN_S
        while True:
            assert self.read(), self.shown
            assert time.monotonic() < deadline, self.shown[at:]
            for found in PROGRESS.finditer(self.shown, at):
                if wanted(found):
                    return found


def _take_terminal():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def small_disk(folder):
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_progress(tmp_path):
    with lab.built(routed()) as net, small_disk(tmp_path / "disk") as folder:
        path = folder / "s.pmtu"
        spaces = [word for name in ("r", "a") for word in ("--netns", net[name].name)]
        words = ("record", "-w", str(path), "--all", *spaces)
        with Terminal(*words) as terminal:
            first = terminal.until(lambda found: True)
            assert (first["drops"], first["verdicts"], first["paths"]) == ("0", None, "0")
            send(net, TOLD)
            some = terminal.until(
                lambda found: found["drops"] == str(COUNT) and found["paths"] != "0"
            )
            # The sender has learned one path MTU; all was told, and nothing is lost.
            assert (some["verdicts"], some["paths"]) == (f"{COUNT} told", "1")
            assert (some["full"], some["lost"]) == (None, None)
            later = terminal.until(lambda found: found["s"] != some["s"])
            assert float(later["size"]) > 0
            sent = COUNT
            while "disk full" not in terminal.shown:
                send(net, FLOOD)
                sent += FLOOD.count
                assert terminal.read()
            assert terminal.shown.count("counting goes on, events are let go") == 1
            subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
            lost = terminal.until(lambda found: found["lost"] and not found["full"])
            assert "there is room again" in terminal.shown
            terminal.until(lambda found: int(found["drops"]) == sent)
            terminal.type("\x03")
            while terminal.read():
                pass
            assert terminal.child.wait(ENDS_WITHIN_S) == 0
        *_, closing = PROGRESS.finditer(terminal.shown)
        assert f"{path}: {closing[0]}" in terminal.shown
        assert int(closing["drops"]) == sent
        done = run("print", "-j", "-c", "1", str(path))
        summary = json.loads(done.stdout.splitlines()[-1])
        assert summary["drops"] == sent
        assert summary["losses"]["unstored"] > 0
        # Messages about the flood that found no room in a socket are lost, too.
        assert sum(summary["losses"].values()) == int(closing["lost"]) >= int(lost["lost"]) > 0
