"""Findings of a recording while it goes on: each is said once.

A child reads what is recorded, as `pmtutrace report` does; it has the least priority, comes once a
minute at most and takes a twentieth of a core at most, however large the session is.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from typing import IO, TYPE_CHECKING, Any

import click

from pmtutrace import paths
from pmtutrace.cli import systemd
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pmtutrace.session.recorder import Status

EVERY_S = 60.0
SHARE = 0.05  # of one core
LONGEST_S = 600.0
LAST_S = 10.0  # for the last look, when somebody waits for us to end
WAKE_S = 0.5
LEAST = 19  # of setpriority(2)
AT_ONCE = 16  # findings that one look may bring
PRIORITIES = {"info": systemd.INFO, "warning": systemd.WARNING, "critical": systemd.CRITICAL}
MESSAGE_ID = "57b6943a14b9422fb65473dfa45a15e6"  # of a finding (sd_journal_print(3)); random


class Lookout:
    """Looks for findings, and tells of those that are new, or graver than before.

    It looks at the session that is written and the one before it in its series, so that a rotation
    hides nothing; what is in neither any more is new when it comes again.

    Args:
        tell: is given each finding, as ``report -j`` has it, and the session that it is in.
        say: is given a sentence when looking fails, or there is too much to tell.
    """

    def __init__(
        self, tell: Callable[[dict[str, Any], Path], None], say: Callable[[str], None]
    ) -> None:
        self._tell = tell
        self._say = say
        self._sessions: tuple[Path, ...] = ()
        self._told: dict[str, str] = {}  # severity by finding and subject
        self._child: subprocess.Popen[bytes] | None = None
        self._out: IO[bytes] | None = None
        self._began = self._due = 0.0
        self._seen: tuple[int, ...] = ()
        self._failed = False

    def tick(self, status: Status) -> None:
        """Take what was found, if looking is over; look again if that is due, and worth it."""
        if status.path is not None and status.path not in self._sessions[-1:]:
            self._sessions = (*self._sessions[-1:], status.path)
        now = time.monotonic()
        if self._child is not None:
            if self._child.poll() is not None:
                self._take(self._child.returncode)
            elif now - self._began > LONGEST_S:
                self._child.kill()
        elif now >= self._due:
            self._look(status)

    def let_go(self) -> None:
        """Give up a look that is under way, and begin another one soon."""
        if self._child is not None:
            self._end(self._child)
            self._due = 0.0

    def close(self, status: Status, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Look once more, for some seconds, if there was anything since; then end.

        Args:
            status: as it is at the end.
            meanwhile: is called again and again until then.
        """
        if self._child is not None:
            self._end(self._child)
        self._look(status)
        end = time.monotonic() + LAST_S
        while self._child is not None:
            try:
                self._take(self._child.wait(WAKE_S))
            except subprocess.TimeoutExpired:
                meanwhile()
                if time.monotonic() > end:
                    self._end(self._child)

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        child.kill()
        child.wait()
        self._child = None
        if self._out is not None:
            self._out.close()
        self._seen = ()  # nothing came of that look

    def _look(self, status: Status) -> None:
        """Begin to look, unless nothing has happened since the last time."""
        seen = len(self._sessions), status.events, status.verdicts.total(), status.losses.total()
        if seen == self._seen or not self._sessions:
            return
        self._seen = seen
        self._began = time.monotonic()
        self._due = self._began + EVERY_S
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 -- closed when it was read
        files = map(str, self._sessions)
        words, environment = paths.module("pmtutrace.cli.main", "report", "-j", "--", *files)
        try:
            self._child = subprocess.Popen(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=subprocess.DEVNULL,
            )
            os.setpriority(os.PRIO_PROCESS, self._child.pid, LEAST)
        except OSError as error:
            self._fail(error.strerror or str(error))

    def _take(self, code: int) -> None:
        """Take what the child has printed, and tell of what is new."""
        self._child = None
        took = time.monotonic() - self._began
        self._due = max(self._due, time.monotonic() + took / SHARE)
        if self._out is None:
            return
        with self._out as out:
            out.seek(0)
            lines = out.read().splitlines()
        if code:
            self._fail(f"`pmtutrace report` ended with code {code}")
            return
        self._failed = False
        found = [finding for line in lines for finding in json.loads(line)["findings"]]
        fresh = [one for one in found if self._is_news(one)]
        self._told = {_key(one): one["severity"] for one in found}
        for finding in fresh[:AT_ONCE]:
            self._tell(finding, self._sessions[-1])
        if len(fresh) > AT_ONCE:
            more = len(fresh) - AT_ONCE
            self._say(f"{more} more findings: pmtutrace report {self._sessions[-1]}")

    def _is_news(self, finding: dict[str, Any]) -> bool:
        before = self._told.get(_key(finding))
        return before is None or PRIORITIES[finding["severity"]] < PRIORITIES[before]

    def _fail(self, why: str) -> None:
        if not self._failed:
            self._say(f"findings cannot be looked for: {why}")
        self._failed = True


def _key(finding: dict[str, Any]) -> str:
    subject = finding["subject"]
    return f"{finding['id']} {subject['kind']} {subject['netns']} {subject['name']}"


def told(finding: dict[str, Any], session: Path) -> None:
    """Write a finding into the journal, with fields to look for it by; else onto stderr."""
    subject, priority = finding["subject"], PRIORITIES[finding["severity"]]
    where = " on ".join(str(word) for word in (subject["name"], subject["netns"]) if word)
    message = printable(f"{finding['title']}: {subject['kind']} {where}. {finding['cause']}")
    fields = {
        "MESSAGE_ID": MESSAGE_ID,
        "PMTUTRACE_FINDING": finding["id"],
        "PMTUTRACE_SEVERITY": finding["severity"],
        "PMTUTRACE_SUBJECT": printable(f"{subject['kind']} {subject['name']}"),
        "PMTUTRACE_NETNS": printable(str(subject["netns"])),
        "PMTUTRACE_SINCE": finding["since"] or "",
        "PMTUTRACE_REMEDY": "\n".join(map(printable, finding["remedy"])),
        "PMTUTRACE_SESSION": printable(str(session)),
    }
    if not systemd.journal(message, priority, **fields):
        line = f"{finding['severity']}: {finding['id']}: {message}"
        click.echo(f"{systemd.mark(priority)}pmtutrace: {line}", err=True)
