"""Real guests on a stock kernel: what comes back, what is refused, and that nothing is left.

Each boot takes 4 s without KVM on an idle machine. The kernel is fetched if it is not in the cache.
"""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pmtutrace import paths
from pmtutrace.errors import VmError
from pmtutrace.vm import btf, kernels
from pmtutrace.vm.guest import Listener, NotReadyError
from pmtutrace.vm.qemu import Machine
from pmtutrace.vm.run import Command, run

pytestmark = pytest.mark.live
NAME = "6.12"

# Each line is one thing that a guest must be able to do; the first that it cannot ends the script.
SCRIPT = """
set -e
uname -r
pwd
[ "$(id -u)" = 0 ]
[ "$(cat /proc/sys/kernel/hostname)" = guest ]
ip link show lo | grep -q LOWER_UP
modprobe -a ip_gre vxlan wireguard
ip netns add inside
ip -n inside link add tunnel type gre local 192.0.2.1 remote 192.0.2.2
for folder in /sys/kernel/tracing /sys/kernel/debug /sys/fs/bpf /sys/fs/cgroup /dev/shm /dev/pts; do
    grep -q " $folder " /proc/mounts
done
echo to stderr >/dev/stderr
printf 'binary \\000 data' >"$PMTUTRACE_OUT/result"
cat /sys/kernel/btf/vmlinux >"$PMTUTRACE_OUT/btf"
echo shared >"$PMTUTRACE_CACHE/vm/from-guest"
echo spoilt >"$SPOILT"
mkdir /mnt/host
mount -t virtiofs host /mnt/host
if touch "/mnt/host$SPOILT" 2>/dev/null; then exit 98; fi
if sh -c 'echo spoilt >/mnt/host/proc/sys/kernel/hostname' 2>/dev/null; then exit 99; fi
sh -c 'exit 7'
"""


@pytest.fixture(scope="module")
def kernel():
    return kernels.fetch(NAME)


class Heard:
    """What a guest said, by stream."""

    def __init__(self):
        self.streams = {1: b"", 2: b""}
        self.console, self.notices = [], []
        self.at_output = lambda: None

    def output(self, stream, data):
        self.streams[stream] += data
        self.at_output()

    @property
    def listener(self):
        return Listener(self.output, self.console.append, notice=self.notices.append)


def children():
    """Return the process ids of this process's children."""
    return {
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
    }


def test_command_has_the_hosts_tree_and_leaves_it_alone(kernel, tmp_path, monkeypatch):
    spoilt = tmp_path / "spoilt"
    spoilt.write_text("host's")
    monkeypatch.setenv("PMTUTRACE_X", "passed on")
    heard, before = Heard(), children()
    environment = {"PATH": os.environ["PATH"], "SPOILT": str(spoilt)}
    command = Command(("sh", "-c", SCRIPT), tmp_path, 60, tmp_path / "out", environment)
    outcome = run(kernel, command, Machine(), heard.listener)
    assert outcome.code == 7, heard.streams
    assert heard.streams[1].decode().split() == [kernel.release, str(tmp_path)]
    assert heard.streams[2] == b"to stderr\n"
    assert (tmp_path / "out/result").read_bytes() == b"binary \0 data"
    assert (tmp_path / "out/btf").read_bytes() == btf.btf(kernel).read_bytes()
    shared = paths.cache("vm") / "from-guest"
    assert shared.read_text() == "shared\n"
    shared.unlink()
    assert spoilt.read_text() == "host's"
    assert Path("/proc/sys/kernel/hostname").read_text().strip() not in {"guest", "spoilt"}
    assert children() == before
    assert 0 < outcome.ready < 60


# What it has written and nobody has read dies with it.
CRASH = """
echo last words
until [ -e "$PMTUTRACE_OUT/heard" ]; do sleep 0.1; done
echo c >/proc/sysrq-trigger
"""


def test_guest_that_dies_is_a_failure_with_its_console(kernel, tmp_path):
    heard, before = Heard(), children()
    heard.at_output = (tmp_path / "heard").touch
    command = Command(("sh", "-c", CRASH), Path("/"), 60, tmp_path)
    with pytest.raises(VmError, match=r"6\.12: the guest died: sysrq triggered crash") as caught:
        run(kernel, command, Machine(), heard.listener)
    assert "sysrq_handle_crash" in caught.value.__notes__[0]
    assert heard.streams[1] == b"last words\n"
    assert heard.notices == []  # a guest that was ready is not tried again
    assert children() == before


def test_command_that_takes_too_long_is_stopped(kernel):
    before = children()
    started = time.monotonic()
    with pytest.raises(VmError, match="stopped after 1 s") as caught:
        run(kernel, Command(("sleep", "1000"), Path("/"), timeout=1), Machine())
    assert "--timeout" in caught.value.hint
    assert time.monotonic() - started < 60
    assert children() == before


def test_guest_that_is_never_ready_is_tried_twice(kernel):
    heard, before = Heard(), children()
    with pytest.raises(NotReadyError, match=r"not ready after 0\.3 s"):
        run(kernel, Command(("true",), Path("/")), Machine(), heard.listener, ready_limit=0.3)
    assert len(heard.notices) == 1
    assert heard.notices[0].endswith("trying once more")
    assert children() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_runner(kernel, number):
    words = [sys.executable, "-m", "pmtutrace.cli.main", "vm", "run", "-k", NAME, "--", "cat"]
    runner = subprocess.Popen([*words, "/dev/zero"], stdout=subprocess.PIPE)
    try:
        assert runner.stdout.read(1) == b"\0"  # the guest is up
        with os.scandir(f"/proc/{runner.pid}/task") as tasks:
            pids = [
                pid for task in tasks for pid in Path(task.path, "children").read_text().split()
            ]
        handles = [os.pidfd_open(int(pid)) for pid in pids]
        assert len(handles) == 2  # QEMU and virtiofsd
        runner.send_signal(number)
        runner.stdout.close()
        assert runner.wait(20) == (-number if number == signal.SIGKILL else 130)
        for handle in handles:
            assert select.select([handle], [], [], 20)[0], "still running"
            os.close(handle)
    finally:
        runner.kill()
        runner.wait()
