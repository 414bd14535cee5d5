"""The plugin as its users have it: the example passes, wrong expectations fail and say why."""

import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pmtutrace.events import Counter, CounterKey, Drop, Flow
from pmtutrace.lab import Traffic, send
from pmtutrace.lab.scenarios import named
from pmtutrace.pytest_plugin.assertions import Trace
from pmtutrace.pytest_plugin.drops import device

pytestmark = pytest.mark.live
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "regression-tests.md"
EXAMPLE = ROOT / "examples" / "regression" / "test_vxlan_pmtu.py"
HERE, THERE = "10.77.1.1", "10.77.3.2"
OVERSIZE = Traffic("udp", "a", HERE, THERE)
NOBODY = 65534
UNSUPPORTED = """
from pmtutrace.lab.scenarios import named

def test(pmtu_lab):
    pmtu_lab(named("route-v4-udp-fits").topology.having(sysctls=(("r", "ipv4.none", "1"),)))
"""


def run(folder, source, *options, **more):
    """Run a test file in a process of its own; return its exit code and what it said."""
    (folder / "test_it.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "--tb=short", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "200",
            "PYTEST_ADDOPTS": "",  # those of the run that this is part of
        },
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
        **more,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def open_folder():
    """Give a folder that others than root can read, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def net(pmtu_lab):
    return pmtu_lab(named("vxlan-v4-udp-forward"))


def test_the_example_passes(tmp_path):
    code, said = run(tmp_path, EXAMPLE.read_text(), "--pmtutrace-strict")
    assert code == 0, said
    assert "4 passed" in said


@pytest.mark.parametrize(
    ("right", "wrong", "test", "says"),
    [
        (
            "mtu=1450, tunnel",
            "mtu=1460, tunnel",
            "octet_more",
            ("counted 0, and 23 that were not", "!  mtu      1460        1450 "),
        ),
        (
            "drops=23, verdict",
            "drops=22, verdict",
            "octet_more",
            ("expected 22 drops, counted 23", "!  drops    22          23 "),
        ),
        (
            'verdict="told", site',
            'verdict="suppressed", site',
            "octet_more",
            ("counted 0, and 23 that were not", "!  verdict  suppressed  told "),
        ),
        (
            "length=1450, count",
            "length=1451, count",
            "what_fits",
            ("expected 0 drops, counted 23", "!  drops  0         23 "),
        ),
    ],
)
def test_a_wrong_expectation_fails_and_says_what_was_counted(tmp_path, right, wrong, test, says):
    source = EXAMPLE.read_text()
    assert source.count(right) == 1
    source = source.replace(right, wrong).replace("trace.expect(", "trace.expect(timeout=0.5, ")
    code, said = run(tmp_path, source, "-k", test)
    assert code == 1, said
    assert "1 failed" in said
    key = "23  r  vx0  ip_forward  told  mtu 1450  udp 10.77.1.1 2323 > 10.77.3.2 9"
    for part in (*says, "expected", "the kernel's own counters", "r IpFragFails +23", key):
        assert part in said
    # It is the test's line that is shown, not the plugin's.
    assert "assertions.py" not in said


def test_the_failure_on_the_page_is_a_true_one(tmp_path):
    right, wrong = "mtu=1450, tunnel", "mtu=1460, tunnel"
    _, said = run(tmp_path, EXAMPLE.read_text().replace(right, wrong), "-k", "octet_more")
    block = re.search(r"```\n(AssertionError.*?)```", PAGE.read_text(), re.DOTALL)[1]
    real = "".join(f"{line[4:]}\n" for line in said.splitlines() if line.startswith("E   "))
    # Which counters move beside those that matter is for each kernel to say.
    edge = block.splitlines()[1].index("the kernel's")

    def ours(text):
        table, _, keys = text.partition("counted, key by key:")
        return [left for line in table.splitlines() if (left := line[:edge].rstrip())], keys

    assert ours(real) == ours(block)


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ((), 0, "4 skipped"),
        (("--pmtutrace-strict",), 1, "4 errors"),
        (("-o", "pmtutrace_strict=true"), 1, "4 errors"),
    ],
)
def test_without_root_tests_skip_unless_none_may(open_folder, options, code, says):
    nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    ended, said = run(open_folder, EXAMPLE.read_text(), *options, **nobody)
    assert ended == code, said
    assert says in said
    assert "pmtutrace: tracing needs root (run it with sudo)" in said
    assert "During handling" not in said


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [((), 0, "1 skipped"), (("--pmtutrace-strict",), 1, "1 failed")],
)
def test_what_the_kernel_lacks_skips_unless_nothing_may(tmp_path, options, code, says):
    ended, said = run(tmp_path, UNSUPPORTED, *options)
    assert ended == code, said
    assert says in said
    assert "pmtutrace: this kernel has no sysctl net.ipv4.none" in said


def test_each_drop_is_expected_once(net, trace):
    for number in (23, 7):
        send(net, Traffic("udp", "a", HERE, THERE, count=number))
        found = trace.expect(drops=number, verdict="told", proto="udp", dev="vx0", node="r")
        assert [counter.packets for counter in found.values()] == [number]
        trace.expect_none()
    assert [counter.packets for counter in trace.counters().values()] == [30]


def test_others_are_counted_unless_they_may_be_there(net, trace):
    send(net, OVERSIZE)
    with pytest.raises(AssertionError, match="23 that were not expected"):
        trace.expect(drops=0, verdict="suppressed")
    trace.expect(drops=0, verdict="suppressed", others=True)
    with pytest.raises(AssertionError, match="expected 0 drops, counted 23"):
        trace.expect_none()
    trace.expect(drops=23, cause=None, tunnel="vx0", others=True)
    trace.expect_none()


def test_a_word_that_there_is_not_is_an_error_of_the_test(trace):
    with pytest.raises(TypeError, match="verdikt"):
        trace.expect(drops=0, verdikt="told")


def test_what_a_lab_dropped_before_it_was_followed_is_not_seen(net, pmtu_tracer):
    before = Trace(pmtu_tracer, [net])
    send(net, OVERSIZE)
    before.expect(drops=23)
    after = Trace(pmtu_tracer, [net])
    after.expect_none()
    assert (after.counters(), after.events()) == ({}, [])


def test_two_labs_in_one_test(pmtu_lab, trace):
    one, other = (pmtu_lab(named("vxlan-v4-udp-forward")) for _ in range(2))
    send(one, OVERSIZE)
    send(other, Traffic("udp", "a", HERE, THERE, count=5))
    with pytest.raises(AssertionError, match=r"counted 28(.*\n)*.*r IpFragFails \+28"):
        trace.expect(drops=23)
    trace.expect(drops=28, site="ip_forward")
    assert {key.netns for key in trace.counters()} == {one["r"].inum, other["r"].inum}


def test_events_are_those_of_the_labs(net, trace):
    assert trace.events() == []
    send(net, OVERSIZE)
    trace.expect(drops=23)
    events = trace.events()
    assert events
    assert trace.events() == events
    for event in events:
        assert isinstance(event, Drop)
        assert (event.netns, event.dev, event.mtu) == (net["r"].inum, "vx0", 1450)


def test_devices_that_a_test_made_itself_are_asked_for_and_escaped(net):
    def make():
        subprocess.run(["ip", "link", "add", "own\x1b", "type", "veth"], check=True)
        return socket.if_nametoindex("own\x1b")

    node = net["r"]
    assert device(node, node.run(make)) == r"own\x1b"
    assert device(node, node.ifindexes["vx0"]) == "vx0"
    assert device(node, 999) == ""


def test_inodes_used_again_and_drops_that_nobody_can_place(net):
    """Counters made up, on a real lab: those of an inode's last owner, and the overflow entry."""

    class Made:
        table: dict

        def refresh(self):
            pass

        def watch(self, inum):
            pass

        def poll(self):
            return []

        def counters(self):
            return dict(self.table)

    def counter(packets):
        return Counter(packets, 1500 * packets, 1500, 1450, 1, 2)

    flow = Flow(HERE, THERE, 17)
    ours = CounterKey(net["r"].inum, 1, "ip_forward", "told", None, 4, flow, None)
    unknown = CounterKey(0, 0, "overflow", "told", None, 0, Flow("", "", 0), None)
    Made.table = {ours: counter(100), unknown: counter(1000)}
    trace = Trace(Made(), [net])
    trace.expect_none()
    Made.table = {ours: counter(123), unknown: counter(1000)}
    assert trace.expect(drops=23, site="ip_forward")[ours].packets == 23
    Made.table = {ours: counter(123), unknown: counter(1001)}
    with pytest.raises(AssertionError, match=r"!  1 +overflow  told  mtu 1450$"):
        trace.expect_none()
