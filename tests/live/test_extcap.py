"""`pmtutrace extcap`: tshark captures from it, as from any interface, while packets are dropped."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from traced import COMMAND, ENDS_WITHIN_S, READY_WITHIN_S, end, run

from pmtutrace import lab
from pmtutrace.cli.export import DISSECTOR
from pmtutrace.lab import Traffic
from pmtutrace.lab.scenarios.routed import STRANGER, A, B, routed
from pmtutrace.lab.traffic import COUNT, send

pytestmark = pytest.mark.live
TOLD = Traffic("udp", "a", A[4], B[4])
SILENT = Traffic("raw-udp", "a", STRANGER[4], "10.77.2.99")


@pytest.fixture(scope="module")
def net():
    with lab.built(routed()) as net:
        yield net


@pytest.fixture
def folder(tmp_path):
    """A folder of extcap programs with ours in it, by a link as the manual has it."""
    folder = tmp_path / "extcap"
    folder.mkdir()
    (folder / "pmtutrace").symlink_to(Path(sys.executable).with_name("pmtutrace"))
    return folder


def tshark_with(folder):
    """Return the words that run tshark with this folder in the place of its own.

    As root it heeds no variable that names another one.
    """
    said = subprocess.run(["tshark", "-G", "folders"], capture_output=True, text=True, check=True)
    (own,) = re.findall(r"^Extcap path:\s*(.*)$", said.stdout, re.M)
    script = 'mount --bind "$0" "$1" && shift && exec tshark "$@"'
    space = ("unshare", "--mount", "--propagation", "slave", "--")
    return (*space, "sh", "-c", script, str(folder), own)


def tshark(folder, *words):
    return subprocess.run(
        [*tshark_with(folder), *words], capture_output=True, text=True, check=False
    )


class Capture:
    """tshark on our interface: one line of fields for each packet, as it comes."""

    def __init__(self, folder, net, *words, fields):
        ready = folder.parent / "ready"
        os.mkfifo(ready)
        pipe = os.open(ready, os.O_RDONLY | os.O_NONBLOCK)
        # Nothing of the protocol says when all is attached: the program that tshark calls does.
        link = folder / "pmtutrace"
        link.unlink()
        inner = f"exec {Path(sys.executable).with_name('pmtutrace')} extcap"
        link.write_text(
            f'#!/bin/sh\ncase "$*" in *--capture*) {inner} --ready-file {ready} "$@";; esac\n'
            f'{inner} "$@"\n'
        )
        link.chmod(0o755)
        options = ["-o", f"extcap.pmtutrace.netns:{net['r'].name}", *words, "-l", "-n"]
        command = [*tshark_with(folder), "-i", "pmtutrace", "-X", f"lua_script:{DISSECTOR}"]
        columns = [word for field in fields for word in ("-e", field)]
        self._err = (folder.parent / "err").open("w+")
        self.child = subprocess.Popen(
            [*command, *options, "-T", "fields", *columns],
            stdout=subprocess.PIPE,
            stderr=self._err,
        )
        self._seen = b""
        try:
            assert select.select([pipe], [], [], READY_WITHIN_S)[0], self.said
        finally:
            os.close(pipe)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.child)
        self.child.stdout.close()
        self._err.close()

    @property
    def said(self):
        self._err.seek(0)
        return self._err.read()

    def rows(self, count):
        """Wait for so many lines, while it goes on; return them split."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        while self._seen.count(b"\n") < count:
            left = deadline - time.monotonic()
            assert select.select([self.child.stdout], [], [], left)[0], (self._seen, self.said)
            data = os.read(self.child.stdout.fileno(), 65536)
            assert data, self.said
            self._seen += data
        return [line.split("\t") for line in self._seen.decode().splitlines()]

    def end(self):
        """End it as ^C does; return its code and what else it showed."""
        self.child.send_signal(signal.SIGINT)
        rest, _ = self.child.communicate(timeout=ENDS_WITHIN_S)
        return self.child.returncode, rest.decode()


def test_wireshark_lists_the_interface_its_link_type_and_its_options(folder):
    assert "pmtutrace (Oversize packet drops, with verdicts)" in tshark(folder, "-D").stdout
    assert "RAW (Raw IP)" in tshark(folder, "-L", "-i", "pmtutrace").stdout
    options = tshark(folder, "-G", "currentprefs").stdout
    for name in ("interface", "netns", "site", "verdict", "host", "tunnel", "rate", "all"):
        assert f"extcap.pmtutrace.{name}:" in options


def test_drops_stream_in_while_they_happen_and_fields_filter(folder, net):
    fields = ("pmtutrace.verdict", "frame.interface_name", "ip.src", "frame.comment")
    silent = ("-Y", 'pmtutrace.verdict == "suppressed"', "-o", "extcap.pmtutrace.all:true")
    with Capture(folder, net, *silent, fields=fields) as capture:
        send(net, TOLD)
        send(net, SILENT)
        rows = capture.rows(COUNT)
        assert capture.child.poll() is None
        assert {tuple(row[:3]) for row in rows} == {("suppressed", "rb", STRANGER[4])}
        comment = rows[0][3]
        assert comment.startswith("pmtutrace type=drop verdict=suppressed cause=no_route_back ")
        assert f" netns={net['r'].name} " in comment
        send(net, SILENT)
        assert len(capture.rows(2 * COUNT)) == 2 * COUNT
        assert capture.end() == (0, "")
        assert "rror" not in capture.said
    assert _nobody_is_left(folder)


def test_options_of_the_interface_choose(folder, net):
    words = ("-o", "extcap.pmtutrace.all:true", "-o", f"extcap.pmtutrace.host:{A[4]}")
    with Capture(folder, net, *words, "-c", str(COUNT), fields=["pmtutrace.verdict"]) as capture:
        send(net, SILENT)
        send(net, TOLD)
        assert capture.rows(COUNT) == [["told"]] * COUNT
        assert capture.child.wait(ENDS_WITHIN_S) == 0
    assert _nobody_is_left(folder)


def _nobody_is_left(folder):
    """Say if the program that tshark called has ended, too."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while time.monotonic() < deadline:
        lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        if str(folder.parent / "ready") not in lines:
            return True
        select.select([], [], [], 0.05)
    return False


def test_it_streams_to_stdout_for_a_wireshark_elsewhere(tmp_path, net):
    ready, out = tmp_path / "ready", tmp_path / "out.pcapng"
    os.mkfifo(ready)
    pipe = os.open(ready, os.O_RDONLY | os.O_NONBLOCK)
    words = ("--all", "--netns", net["r"].name, "--ready-file", str(ready))
    with out.open("wb") as file:
        child = subprocess.Popen([*COMMAND, "extcap", "--capture", *words], stdout=file)
        try:
            assert select.select([pipe], [], [], READY_WITHIN_S)[0]
            send(net, TOLD)
            deadline = time.monotonic() + ENDS_WITHIN_S
            while out.read_bytes().count(b"verdict=told") < COUNT:
                assert time.monotonic() < deadline
                select.select([], [], [], 0.05)
            child.terminate()
            assert child.wait(ENDS_WITHIN_S) == 0
        finally:
            end(child)
            os.close(pipe)
    read = subprocess.run(["tshark", "-r", str(out)], capture_output=True, text=True, check=True)
    assert len(read.stdout.splitlines()) == COUNT


@pytest.mark.parametrize(
    "words",
    [
        ("--capture", "--extcap-interface", "pmtutrace", "--fifo", "{path}"),
        ("--capture", "--fifo", "{path}.none"),
        ("--capture", "--extcap-capture-filter", "port 53"),
        ("--extcap-interface", "eth0", "--extcap-dlts"),
        (),
    ],
)
def test_what_makes_no_sense(tmp_path, words):
    path = tmp_path / "kept"
    path.write_bytes(b"kept")
    done = run("extcap", *(word.format(path=path) for word in words))
    assert done.returncode == 2
    assert "hint: " in done.stderr
    assert path.read_bytes() == b"kept"


def test_a_pipe_that_nobody_reads_does_not_keep_it(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ready = shutil.which("timeout")
    done = run("1.5", *COMMAND, "extcap", "--capture", "--fifo", str(pipe), command=(ready,))
    assert done.returncode == 124  # its code for what had to be ended, and did
    assert done.stderr == ""
