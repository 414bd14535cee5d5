"""A real systemd as process 1 of namespaces of its own, on the tree of this host.

It sees network namespaces as they come, throws away what it writes into the host's folders, but for
the state of its services, and knows no other units than the journal's and those that it is given.
"""

import contextlib
import json
import os
import re
import select
import subprocess
import time
from collections import defaultdict
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
STARTS_WITHIN_S = 60
UNITS = Path("/run/units")
TREE_INSIDE = "/opt/pmtutrace"
SCRIPT = Path(__file__).with_name("init.sh")
JOURNAL = ("systemd-journald.service", "systemd-journald.socket")
TARGETS = ("sysinit.target", "basic.target", "shutdown.target", "sockets.target", "test.target")


class Systemd:
    """Start systemd with some units; end it, and all that it has started.

    Args:
        folder: an empty one, for our use.
        units: path below the folder of units -> text.
    """

    def __init__(self, folder, units):
        self.state = folder / "state"  # its /var/lib/private
        self._folder = folder
        self._group = f"pmtutrace-test-{os.getpid()}"
        there = folder / "units"
        texts = dict.fromkeys(TARGETS, "[Unit]\nDefaultDependencies=no\n")
        texts["test.target"] += f"Wants={JOURNAL[0]}\nAfter={JOURNAL[0]}\n"
        for name in JOURNAL:
            texts[name] = (Path("/usr/lib/systemd/system") / name).read_text()
        for name, text in (texts | units).items():
            path = there / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._said = (folder / "said").open("wb")
        self.child = subprocess.Popen(
            ["sh", str(SCRIPT), str(folder), str(TREE), TREE_INSIDE, self._group],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )
        self.pid = 0

    def __enter__(self):
        try:
            self.wait(self._first)
            self.wait(lambda: self.run("systemctl", "is-active", "test.target").returncode == 0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # Process 1 ends only by that, and takes all others with it.
        with contextlib.suppress(ProcessLookupError):
            if self.pid:
                os.kill(self.pid, 9)
        if not self.pid:
            self.child.kill()
        self.child.wait(STARTS_WITHIN_S)
        script = (
            'mount -t cgroup2 none "$0"; cd "$0/$1" && find "$PWD" -depth -type d -exec rmdir {} +'
        )
        words = ("sh", "-c", script, "/sys/fs/cgroup", self._group)
        subprocess.run(["unshare", "--mount", "--", *words], stderr=self._said, check=False)
        self._said.close()

    @property
    def said(self):
        return (self._folder / "said").read_text()

    def wait(self, done):
        """Return what ``done`` returns, once that is true."""
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not (found := done()):
            assert self.child.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            select.select([], [], [], 0.05)
        return found

    def _first(self):
        """Find process 1: what the script's unshare(1) has forked."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text()
            pid = int(children.split()[0])
            if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                self.pid = pid
        return self.pid

    def outside(self, number):
        """Return what a process inside is called out here, None if there is no such."""
        space = Path(f"/proc/{self.pid}/ns/pid").stat()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.path.samestat((process / "ns" / "pid").stat(), space):
                    found = re.search(r"^NSpid:(.*)$", (process / "status").read_text(), re.M)
                    if found[1].split()[-1] == str(number):
                        return int(process.name)
        return None

    def run(self, *words):
        """Run a command inside."""
        inside = ("nsenter", "-t", str(self.pid), "-m", "-p", "-i", "-u", "-C", "--")
        environment = {"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": str(UNITS)}
        return subprocess.run(
            [*inside, *words], capture_output=True, text=True, check=False, env=environment
        )

    def ask(self, *words):
        """Return what a command inside prints."""
        done = self.run(*words)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def show(self, unit):
        """Return the properties of a unit; those that are not said are empty."""
        lines = self.ask("systemctl", "show", unit).splitlines()
        return defaultdict(str, (line.split("=", 1) for line in lines if "=" in line))

    def journal(self, *words):
        """Return the messages that match, oldest first, with their fields."""
        self.ask("journalctl", "--sync")
        lines = self.run("journalctl", "--no-pager", "-o", "json", *words).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def path(self, inside):
        """Return how a path inside is called out here."""
        return Path(f"/proc/{self.pid}/root{inside}")
