"""What the service manager and the journal are told, where they have started us.

sd_notify(3), sd_watchdog_enabled(3), sd-daemon(3) and systemd's page "Native Journal Protocol":
datagrams of ``NAME=value`` lines, so nothing of systemd is linked. Where it has not started us,
nobody is told anything.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import time

CRITICAL, ERROR, WARNING, INFO = 2, 3, 4, 6  # of syslog(3)
JOURNAL = "/run/systemd/journal/socket"
STATUS_S = 10.0  # how often a status is told where nobody asks for signs of life
PATIENCE_S = 0.5  # with who does not take what it is told
SIGNS = 3  # of life, in the time after which we would be taken for dead


class Service:
    """Tells the service manager how we are; the variables for that are not passed on."""

    def __init__(self) -> None:
        take = os.environ.pop
        self._address = take("NOTIFY_SOCKET", "")
        microseconds, whose = take("WATCHDOG_USEC", ""), take("WATCHDOG_PID", "")
        self._watched = microseconds.isdecimal() and whose in ("", str(os.getpid()))
        self._every = int(microseconds) / 1e6 / SIGNS if self._watched else STATUS_S
        self._due = 0.0

    def ready(self) -> None:
        """Say that all is in place."""
        self._notify("READY=1")

    def alive(self, status: str) -> None:
        """Say that we go on, and how far we are; call it as often as you like."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + self._every
            self._notify(f"STATUS={status}", *(["WATCHDOG=1"] if self._watched else []))

    def stopping(self) -> None:
        """Say that we are about to end."""
        self._notify("STOPPING=1")

    def _notify(self, *lines: str) -> None:
        if self._address[:1] in ("/", "@"):
            _send(self._address.replace("@", "\0", 1), "\n".join(lines).encode())


def journal(message: str, priority: int, **fields: str) -> bool:
    """Write a message with fields into the journal; say if stderr is the journal, and it took it.

    Args:
        message: a sentence.
        priority: of syslog(3).
        fields: in capitals, as systemd.journal-fields(7) has them.
    """
    if not is_journal():
        return False
    entry = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "pmtutrace"}
    return _send(JOURNAL, b"".join(_field(*one) for one in (entry | fields).items()))


def mark(priority: int) -> str:
    """Return what a line on stderr has in front, for the journal to know its priority by."""
    return f"<{priority}>" if is_journal() else ""


def is_journal() -> bool:
    """Say if stderr leads to the journal (systemd.exec(5), ``JOURNAL_STREAM``)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _field(name: str, value: str) -> bytes:
    octets = value.encode(errors="backslashreplace")
    if b"\n" in octets:  # then its length says where it ends
        return name.encode() + b"\n" + struct.pack("<Q", len(octets)) + octets + b"\n"
    return name.encode() + b"=" + octets + b"\n"


def _send(address: str, octets: bytes) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.settimeout(PATIENCE_S)
        out.sendto(octets, address)
        return True
    return False
