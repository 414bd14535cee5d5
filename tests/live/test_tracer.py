"""The tracer as a library: exact counters whatever happens to the events."""

import contextlib
import gc
import os
import resource
import subprocess
import sys
import threading
import time

import pytest
from traced import COMMAND, Trace

from pinned import on
from pmtutrace import lab
from pmtutrace.errors import NotSupported
from pmtutrace.events import Drop
from pmtutrace.lab import packets
from pmtutrace.lab.run import exercise
from pmtutrace.lab.scenarios import named
from pmtutrace.lab.scenarios.routed import STRANGER, A, B, routed
from pmtutrace.lab.traffic import COUNT, Traffic, send
from pmtutrace.pmtu.watch import Watch
from pmtutrace.tracing.tracer import Settings, Tracer

pytestmark = pytest.mark.live
V4 = Traffic("udp", "a", A[4], B[4])
# To an address of its own: the sender learns the path MTU to the other, and raw sockets obey.
ELSEWHERE = "10.77.2.99"
SILENT = Traffic("raw-udp", "a", STRANGER[4], ELSEWHERE)


@pytest.fixture
def net():
    with lab.built(routed()) as net:
        yield net


def of(net, tracer):
    """Return the counters of the lab's router: packets by key, without what differs by run."""
    return {
        (key.site, key.verdict, key.cause, key.family, key.flow, key.outer): (
            counter.packets,
            counter.bytes,
            counter.max_length,
            counter.mtu,
        )
        for key, counter in tracer.counters().items()
        if key.netns == net["r"].inum
    }


@pytest.mark.parametrize(
    "name",
    [
        "route-v4-udp-forward",
        "route-v6-tcp-forward",
        "route-v4-icmp-error",
        "route-v6-no-route-back",
        "vxlan-df-v6-udp-forward",
        "vxlan-bridge-v4-udp",
        "bridge-v6-udp",
    ],
)
def test_old_kernels_ways_count_the_same(name):
    """Both ways of reading kernel memory at once, on the same packets."""
    scenario = named(name)
    with (
        Tracer(Settings(plain=True)) as plain,
        Tracer() as default,
        lab.built(scenario) as net,
    ):
        assert default.image.tp_btf
        assert not plain.image.tp_btf
        exercise(net, scenario)
        assert of(net, plain) == of(net, default)
        assert sum(value[0] for value in of(net, default).values()) == scenario.count


def test_events_and_counters_tell_the_same(net):
    with Tracer(Settings(netns={net["r"].inum}, every=True)) as tracer:
        send(net, V4)
        send(net, SILENT)
        events = tracer.poll()
        counters = tracer.counters()
    assert [type(event) for event in events] == [Drop] * 2 * COUNT
    for key, counter in counters.items():
        mine = [event for event in events if (event.verdict, event.flow) == (key.verdict, key.flow)]
        assert (counter.packets, counter.bytes) == (len(mine), sum(e.length for e in mine))
        # Counters have the time of a tick.
        assert abs(counter.first - mine[0].ts) < 20_000_000
        assert abs(counter.last - mine[-1].ts) < 20_000_000
    assert abs(events[-1].ts - time.time_ns()) < 60_000_000_000


def test_the_packet_is_the_one_that_was_sent(net):
    with Tracer(Settings(netns={net["r"].inum}, snaplen=128)) as tracer:
        send(net, SILENT)
        event = tracer.poll()[0]
    sent = packets.udp(STRANGER[4], ELSEWHERE, 1500, 2323, 9)
    assert len(event.packet) == 128
    assert event.packet[12:28] == sent[12:28]  # addresses, ports, length, checksum


@pytest.mark.parametrize("snaplen", [0, 20, 60])
def test_snaplen_cuts(net, snaplen):
    with Tracer(Settings(netns={net["r"].inum}, snaplen=snaplen)) as tracer:
        send(net, V4)
        assert {len(event.packet) for event in tracer.poll()} == {snaplen}


def test_a_full_ring_loses_events_and_no_count(net):
    many = Traffic("udp", "a", A[4], B[4], count=9001)
    with Tracer(Settings(netns={net["r"].inum}, every=True)) as tracer:
        send(net, many)
        streamed, lost = len(tracer.poll()), tracer.losses()["ring_full"]
        assert lost > 0
        assert streamed + lost == 9001
        assert [value[0] for value in of(net, tracer).values()] == [9001]


def test_what_was_not_streamed_comes_with_the_next_event(net):
    """What is sent from one CPU is counted there, as far as the router is concerned."""
    everything = Settings(netns={net["r"].inum}, every=True)
    with on(min(os.sched_getaffinity(0))), Tracer(everything) as tracer:
        send(net, Traffic("udp", "a", A[4], B[4], count=9001))
        first = sum(event.count for event in tracer.poll())
        send(net, V4)
        assert first + sum(event.count for event in tracer.poll()) == 9001 + COUNT


def test_a_full_table_counts_all_the_same(net):
    flows = [Traffic("udp", "a", A[4], f"10.77.2.{n}", count=3) for n in range(100, 200)]
    with Tracer(Settings(flows=16, netns={net["r"].inum})) as tracer:
        for traffic in flows:
            send(net, traffic)
        counters = tracer.counters()
        rest = [counter for key, counter in counters.items() if key.site == "overflow"]
        assert len(counters) - len(rest) <= 16
        assert sum(counter.packets for counter in counters.values()) == 300
        assert tracer.losses()["counters_full"] == sum(counter.packets for counter in rest) > 0
        assert [key.verdict for key in counters if key.site == "overflow"] == ["told"]


def test_a_namespace_can_be_added_later(net):
    with Tracer(Settings(netns=set())) as tracer:
        send(net, V4)
        assert tracer.counters() == {}
        tracer.watch(net["r"].inum)
        send(net, V4)
        assert sum(value[0] for value in of(net, tracer).values()) == COUNT


def test_attached_it_follows_path_mtus_and_counts_once_it_is_started(net):
    with contextlib.closing(Tracer(Settings(netns={net["r"].inum}, every=True))) as tracer:
        tracer.attach()
        tracer.follow(Watch({net["r"].inum}, listen=not tracer.tells("received")))
        send(net, V4)
        assert tracer.counters() == {}
        assert tracer.poll() == []
        tracer.start()
        send(net, V4)
        assert sum(value[0] for value in of(net, tracer).values()) == COUNT
        assert len(tracer.poll()) == COUNT


def test_starting_in_the_middle_of_a_storm_leaves_no_wrong_verdict(net):
    """A message may have been sent before its drop could be seen: later drops are not told."""
    over = threading.Event()

    def storm():
        while not over.is_set():
            send(net, Traffic("raw-udp", "a", A[4], ELSEWHERE, count=200))

    storms = [threading.Thread(target=storm) for _ in range(2)]
    for thread in storms:
        thread.start()
    try:
        with Tracer(Settings(netns={net["r"].inum}, rate=1)) as tracer:
            over.set()
            for thread in storms:
                thread.join()
            send(net, Traffic("raw-udp", "a", STRANGER[4], ELSEWHERE, count=997))
            found = {
                (key.flow.saddr, key.verdict, key.cause): counter.packets
                for key, counter in tracer.counters().items()
            }
    finally:
        over.set()
    found.pop((A[4], "told", None), None)
    assert found == {(STRANGER[4], "suppressed", "no_route_back"): 997}


def test_two_tracers_do_not_disturb_each_other(net):
    with Tracer(Settings(netns={net["r"].inum})) as one:
        with Tracer(Settings(netns={net["r"].inum})) as other:
            send(net, V4)
            assert of(net, one) == of(net, other)
        send(net, V4)
        assert sum(value[0] for value in of(net, one).values()) == 2 * COUNT


def test_stop_ends_the_iterator_and_shows_what_there_is(net):
    with Tracer(Settings(netns={net["r"].inum}, every=True)) as tracer:
        send(net, V4)
        tracer.stop()
        assert len(list(tracer.events())) == COUNT


def test_stop_from_another_thread():
    with Tracer(Settings(netns=set())) as tracer:
        threading.Timer(0.1, tracer.stop).start()
        began = time.monotonic()
        assert list(tracer.events(timeout=30)) == []
        assert time.monotonic() - began < 5


def test_stop_is_safe_where_a_signal_interrupts_it():
    """A handler may run between any two steps of the iterator's wait, and must not wait for it."""
    program = (
        "import itertools, signal, sys\n"
        "from pmtutrace.tracing.tracer import Settings, Tracer\n"
        "with Tracer(Settings(netns=set())) as tracer:\n"
        "    def handle(*_):\n"
        "        tracer.stop()\n"
        "    signal.signal(signal.SIGALRM, handle)\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)\n"
        "    for _ in range(2000):\n"
        "        tracer._wait(0.0002)\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_closing_twice_and_asking_afterwards():
    tracer = Tracer(Settings(netns=set()))
    with pytest.raises(NotSupported):
        tracer.counters()
    tracer.start()
    tracer.close()
    tracer.close()
    assert tracer.poll() == []
    with pytest.raises(NotSupported):
        tracer.losses()


def test_no_descriptor_is_left():
    with Tracer(Settings(netns=set())):
        pass
    gc.collect()  # what other tests have left
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- names are what is wanted
    for _ in range(3):
        with Tracer(Settings(netns=set())) as tracer:
            tracer.counters()
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


STARTS = """
import os, resource
from pmtutrace.errors import LoadError
from pmtutrace.tracing.tracer import Settings, Tracer

def held():
    return os.listdir("/proc/self/fd")

os.closerange(3, 4096)
for plain in (False, True):  # both images are in the cache then
    with Tracer(Settings(netns=set(), plain=plain)) as tracer:
        whole = [attached.rung for attached in tracer.attached]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
for limit in (5, 12, 17, 18, 22, 26, 30, 35, 40, 50, 60, 100):
    before = held()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        with Tracer(Settings(netns=set())) as tracer:
            assert [attached.rung for attached in tracer.attached] == whole, limit
            print("started")
    except LoadError as error:
        assert "Too many open files" in error.message, error
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert held() == before, limit
"""


def test_a_failed_start_leaves_nothing():
    """It fails at one step after the other, for want of descriptors, and then it works."""
    done = subprocess.run(
        [sys.executable, "-c", STARTS], capture_output=True, check=False, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.startswith("started")


def test_ready_soon_and_small():
    """Loosely: the exact figures are measured by `make bench` on an idle machine."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        with Trace("-d", "30") as trace:
            times.append(time.monotonic() - began)
            status = open(f"/proc/{trace.child.pid}/status").read()  # noqa: PTH123, SIM115
            trace.end()
    assert min(times) < 1
    (peak,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 40 * 1024


def test_a_file_descriptor_limit_is_an_error_and_no_crash():
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))

    done = subprocess.run(
        [*COMMAND, "trace", "-d", "0.1"],
        preexec_fn=few,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("pmtutrace: ")
    assert len(done.stderr.splitlines()) == 2
