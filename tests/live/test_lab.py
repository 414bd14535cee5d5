"""That nothing of a lab is left, however it ends, and that it can fail."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from pmtutrace import lab
from pmtutrace.errors import LabError, NotSupported
from pmtutrace.kernel import netns
from pmtutrace.lab import traffic
from pmtutrace.lab.run import differences, exercise, run, until
from pmtutrace.lab.scenarios import named

pytestmark = pytest.mark.live
MAIN = (sys.executable, "-m", "pmtutrace.cli.main")


def labs(pid=None):
    prefix = f"pmtu-{pid or os.getpid()}-"
    return [name for name in netns.names().values() if name.startswith(prefix)]


def test_a_wrong_expectation_fails():
    """The lab itself can fail: the same traffic, declared to be dropped, where it is not."""

    class Nothing:
        attached = ()

        def holds(self, hook):
            return True

        def fragments(self):
            return {}

        def refresh(self):
            pass

        def counters(self):
            return {}

    result = run(named("route-v4-udp-forward"), Nothing())
    assert result.result == "failed"
    assert "expected 23, counted 0, kernel: r IpFragFails 23" in result.reason


def test_the_same_lab_twice_at_once():
    scenario = named("route-v4-udp-forward")
    with lab.built(scenario) as one, lab.built(scenario) as other:
        assert {node.inum for node in one}.isdisjoint(node.inum for node in other)
        kernel = exercise(one, scenario)
        assert differences(scenario, kernel) == []
        assert other["r"].counters()["IpFragFails"] == 0


def test_ends_of_a_cable_never_have_the_same_number():
    """Else the kernel lets the news of their carrier wait for up to a second."""
    with lab.built(named("vxlan-v4-udp-forward")) as net:
        for veth in net.topology.veths:
            near, far = (net[end.node].ifindexes[end.dev] for end in veth.ends)
            assert near != far


def test_what_a_tun_has_sent_can_be_read():
    with lab.built(named("tun-v4-udp-device")) as net:
        port = net.topology.tunnels[0].ends[0]
        traffic.send(net, named("tun-v4-ring-full").traffic)
        node, dropped = net[port.node], f"{port.dev}:tx_dropped"
        until(lambda: node.counters()[dropped], lambda count: count >= traffic.COUNT)
        read = list(iter(lambda: net.files[port].read(1500), None))
    assert {len(packet) for packet in read} == {1400}
    assert len(read) == 500


def test_the_lab_itself_sends_nothing():
    with lab.built(named("vxlan-v6-udp-fits")) as net:
        for node in net:
            counters = node.counters()
            assert {dev: counters[f"{dev}:tx_packets"] for dev in node.ifindexes} == dict.fromkeys(
                node.ifindexes, 0
            )


def test_an_exception_leaves_nothing():
    def fail():
        with lab.built(named("vxlan-bridge-v4-udp")):
            found.extend(labs())
            raise RuntimeError

    found = []
    with pytest.raises(RuntimeError):
        fail()
    assert len(found) == 3
    assert labs() == []


def test_a_lab_that_cannot_be_built_leaves_nothing():
    broken = named("route-v4-udp-fits").topology.having(
        routes=(lab.Route("r", "10.9.9.0/24", via="10.8.8.8"),)
    )
    with pytest.raises(LabError), lab.built(broken):
        pytest.fail("built")
    assert labs() == []


def test_what_the_kernel_has_not_is_not_supported():
    topology = named("route-v4-udp-fits").topology.having(
        sysctls=(("r", "ipv4.no_such_thing", "1"),)
    )
    with pytest.raises(NotSupported), lab.built(topology):
        pytest.fail("built")
    assert labs() == []


def test_unknown_traffic_and_nodes_are_refused():
    with lab.built(named("route-v4-udp-fits")) as net:
        with pytest.raises(LabError, match="no node 'z'"):
            net["z"]
        with pytest.raises(LabError, match="no such traffic"):
            lab.send(net, lab.Traffic("smoke", "a", "10.77.1.1", "10.77.2.1"))
        with pytest.raises(LabError, match="not sent"):
            lab.send(net, lab.Traffic("udp", "a", "10.99.9.9", "10.77.2.1"))


def in_a_lab(ending):
    """Start a process that builds a lab, says so, and waits; end it by a signal."""
    # A signal that comes just before a call that waits is seen when that call ends.
    program = (
        "import select, sys\nfrom pmtutrace import lab\n"
        "from pmtutrace.lab.scenarios import named\n"
        "with lab.built(named('route-v4-udp-fits')):\n    print('built', flush=True)\n"
        "    while not select.select([sys.stdin], [], [], 1)[0]:\n        pass\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout.readline() == "built\n"
        assert len(labs(child.pid)) == 3
        child.send_signal(ending)
        child.wait(30)
    return child.pid


def test_control_c_leaves_nothing():
    assert labs(in_a_lab(signal.SIGINT)) == []


def test_what_a_killed_process_left_is_removed_at_the_next_start():
    pid = in_a_lab(signal.SIGKILL)
    assert len(labs(pid)) == 3
    lab.sweep()
    assert labs(pid) == []


def test_a_living_process_keeps_its_lab():
    with lab.built(named("route-v4-udp-fits")):
        subprocess.run([sys.executable, "-c", "from pmtutrace import lab; lab.sweep()"], check=True)
        assert len(labs()) == 3


def test_run_prints_one_line_of_json_for_each():
    names = ("route-v4-udp-forward", "route-v4-udp-fits")
    done = subprocess.run(
        [*MAIN, "lab", "run", "-j", *names], capture_output=True, check=False, text=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [(line["scenario"], line["result"], line["counted"]) for line in lines] == [
        ("route-v4-udp-forward", "ok", 23),
        ("route-v4-udp-fits", "ok", 0),
    ]
    fields = {"scenario", "result", "reason", "expected", "counted", "kernel", "also"}
    assert set(lines[0]) == fields
    # What must agree with what was counted does; the sender's side is the other word on it.
    assert lines[0]["kernel"]["IpFragFails"] == lines[0]["counted"] == 23
    assert all(value == line["counted"] for line in lines for value in line["kernel"].values())


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_ending_a_run_removes_its_namespaces(ending):
    with subprocess.Popen(
        [*MAIN, "lab", "run", "--all"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline().startswith("ok")
        child.send_signal(ending)
        child.communicate(timeout=60)
    assert child.returncode == 0
    assert labs(child.pid) == []


@pytest.mark.parametrize(
    ("words", "hint"),
    [(["route-v4-udp-forwrd"], "did you mean route-v4-udp-forward"), ([], "--all")],
)
def test_naming_nothing_or_the_wrong_thing_is_usage(words, hint):
    done = subprocess.run(
        [*MAIN, "lab", "run", *words], capture_output=True, check=False, text=True
    )
    assert done.returncode == 2
    assert f"hint: {hint}" in done.stderr.replace("name some, or ", "")
    assert done.stdout == ""


def test_two_threads_can_have_a_lab_each():
    scenario = named("route-v6-udp-forward")
    found = []

    def body():
        with lab.built(scenario) as net:
            found.append(differences(scenario, exercise(net, scenario)))

    threads = [threading.Thread(target=body) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [[], []]
