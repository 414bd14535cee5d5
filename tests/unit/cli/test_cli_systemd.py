"""What the service manager and the journal hear, on sockets that stand for theirs."""

import os
import socket
import struct
import sys

import pytest

from pmtutrace.cli import systemd


@pytest.fixture
def heard(tmp_path):
    """A socket, and what came to it."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(str(path))
        ours.settimeout(0)
        yield str(path), lambda: ours.recv(65536)


@pytest.fixture
def journal(heard, monkeypatch):
    """Have stderr lead to a journal; return what hears what it is told."""
    path, hear = heard
    monkeypatch.setattr(systemd, "JOURNAL", path)
    status = os.fstat(sys.__stderr__.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    return hear


def nothing(hear):
    with pytest.raises(BlockingIOError):
        hear()
    return True


def test_a_service_says_that_it_is_ready_and_alive_and_hides_how(heard, monkeypatch):
    path, hear = heard
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    clock = [100.0]
    monkeypatch.setattr(systemd.time, "monotonic", lambda: clock[0])
    service = systemd.Service()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
    service.ready()
    assert hear() == b"READY=1"
    service.alive("1 drops")
    assert hear() == b"STATUS=1 drops\nWATCHDOG=1"
    clock[0] += 0.9
    service.alive("2 drops")
    assert nothing(hear)
    clock[0] += 0.1
    service.alive("3 drops")
    assert hear() == b"STATUS=3 drops\nWATCHDOG=1"
    service.stopping()
    assert hear() == b"STOPPING=1"


@pytest.mark.parametrize(("microseconds", "whose"), [("3000000", "1"), ("", ""), ("soon", "")])
def test_who_is_not_watched_gives_no_sign_of_life(heard, monkeypatch, microseconds, whose):
    path, hear = heard
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", whose)
    systemd.Service().alive("fine")
    assert hear() == b"STATUS=fine"


@pytest.mark.parametrize("address", ["", "/nowhere/socket", "vsock:2:1"])
def test_nobody_listens(monkeypatch, address):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    service = systemd.Service()
    service.ready()
    service.alive("fine")


def test_an_abstract_address(monkeypatch):
    name = f"pmtutrace-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        systemd.Service().ready()
        assert ours.recv(99) == b"READY=1"


def test_fields_of_the_journal(journal):
    assert systemd.journal("one", systemd.WARNING, PMTUTRACE_REMEDY="a\nb=c")
    assert journal() == (
        b"MESSAGE=one\nPRIORITY=4\nSYSLOG_IDENTIFIER=pmtutrace\n"
        b"PMTUTRACE_REMEDY\n" + struct.pack("<Q", 5) + b"a\nb=c\n"
    )
    assert systemd.mark(systemd.ERROR) == "<3>"


def test_no_journal(journal, monkeypatch):
    monkeypatch.setattr(systemd, "JOURNAL", "/nowhere")
    assert not systemd.journal("one", systemd.INFO)
    monkeypatch.setenv("JOURNAL_STREAM", "0:0")
    assert not systemd.journal("one", systemd.INFO)
    assert systemd.mark(systemd.ERROR) == ""
