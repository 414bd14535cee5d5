"""A storm of messages: the tracer stays small, ends when it is told to, and counts each of them."""

import contextlib
import re
import signal
import subprocess
from pathlib import Path

import pytest
from traced import COMMAND, Trace, end

from pmtutrace import lab
from pmtutrace.lab import Traffic
from pmtutrace.lab.scenarios.routed import A, B, routed
from pmtutrace.lab.traffic import send
from pmtutrace.pmtu.ears import LOOK_AT_MOST, Ears
from routers import awaited

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]
SOURCE = Path(__file__).parents[1] / "bench" / "storm.c"
SOME, SECONDS = 20_000, 3  # messages; where nothing is emulated, more than 100 000 in a second
AT_MOST_KB = 100_000
ENDS_WITHIN_S = 10  # where nothing is emulated, in a moment


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    made = tmp_path_factory.mktemp("storm") / "storm"
    subprocess.run(["gcc", "-O2", "-o", made, SOURCE], check=True)
    return made


@pytest.fixture
def net():
    with lab.built(routed()) as net:
        yield net


@contextlib.contextmanager
def storm(net, program, seconds):
    """Have a router refuse all that one core can send."""
    command = [program, B[4], "1450", "1", str(seconds)]
    child = net["a"].run(lambda: subprocess.Popen(command, stdout=subprocess.DEVNULL))
    try:
        yield child
    finally:
        end(child)


def heard(net):
    """Return how many messages the kernel has taken up: of this type, all are frag-needed."""
    return net["a"].counters().get("IcmpMsgInType3", 0)


def most_kb(process):
    """Return the most memory that a process has taken so far."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def test_each_message_is_counted_and_most_are_let_go(net, program):
    assert heard(net) == 0
    with Trace("--netns", net["a"].name) as trace:
        with storm(net, program, SECONDS) as child:
            child.wait()
        awaited(lambda: heard(net) == heard(net))  # what is on its way still arrives
        assert most_kb(trace.child.pid) < AT_MOST_KB
        assert trace.end() == 0
        told = [line for line in trace.lines if line["type"] == "icmp_received"]
        summary = trace.summary
    lost = summary["losses"]["received"]
    assert summary["icmp_received"] == heard(net) == len(told) + lost
    assert told
    assert lost
    assert {line["quoted"]["daddr"] for line in told} == {B[4]}


def test_it_ends_while_messages_go_on_arriving(net, program):
    with Trace("--netns", net["a"].name) as trace, storm(net, program, 60):
        awaited(lambda: heard(net) >= SOME)
        trace.child.send_signal(signal.SIGINT)
        assert trace.child.wait(ENDS_WITHIN_S) == 0
        assert trace.summary["losses"]["received"] > 0


def test_pmtu_watch_too(net, program, tmp_path):
    """It hears by sockets wherever it is, and is woken by each message."""
    out, err = tmp_path / "out", tmp_path / "err"
    command = [*COMMAND, "pmtu", "--watch", "-j", "--netns", net["a"].name]
    with out.open("wb") as lines, err.open("wb") as said, storm(net, program, 60):
        child = subprocess.Popen(command, stdout=lines, stderr=said)
        try:
            awaited(lambda: out.read_bytes().count(b"icmp_received") > 2 * LOOK_AT_MOST)
            assert most_kb(child.pid) < AT_MOST_KB
            child.send_signal(signal.SIGINT)
            assert child.wait(ENDS_WITHIN_S) == 0
        finally:
            end(child)
    assert re.fullmatch(r"pmtutrace: \d+ messages .* too many\n", err.read_text())


def test_what_a_closed_ear_has_heard_and_lost_is_not_forgotten(net):
    node, many = net["a"], 997
    ears = Ears()
    try:
        ear = node.run(lambda: ears.open(node.inum, frozenset((4, 6))))
        send(net, Traffic("udp", "a", A[4], B[4], count=many))
        awaited(lambda: heard(net) == many)
        first = ears.heard()
        assert len(first) == LOOK_AT_MOST
        before = ears.lost()
        assert before == ears.lost() > 0
        ear.close()
        rest = ears.heard()
        assert ears.heard() == []
        assert len(first) + len(rest) + ears.lost() == many
        assert ears.lost() == before
    finally:
        ears.close()
