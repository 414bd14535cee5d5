"""Exact counters whatever else is being counted: more flows than places, and interrupts."""

from __future__ import annotations

import os
import socket

import pytest

from pinned import on
from pmtutrace import lab
from pmtutrace.lab import packets
from pmtutrace.lab.run import until
from pmtutrace.lab.scenarios.routed import R_TO_A, STRANGER, routed
from pmtutrace.lab.topology import Queue
from pmtutrace.tracing.tracer import Settings, Tracer
from routers import ip

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
# A stranger hears of nothing: where a sender learns the path MTU, raw sockets obey it.
TARGET, REFUSED_HERE = "10.77.2.99", "10.77.2.98"
FLOWS, WAITING = 3000, 2000
SO_SNDBUFFORCE = 32  # asm-generic/socket.h
# A packet each 1.5 ms: slower than even an emulated machine, so a timer sends nearly all of them.
SLOW = Queue("a", "a0", "tbf", {"rate": 1_000_000, "limit": 64 << 20, "burst": 2000})


def raw(node):
    """Return a socket to send whole IPv4 packets from, as many as one likes."""
    sender = node.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
    sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 128 << 20)
    return sender


def counted(tracer):
    """Return the counters by the port that the packets were for."""
    return {key.flow.dport: counter for key, counter in tracer.counters().items()}


def test_counters_that_have_a_place_of_their_own_and_those_that_have_none():
    """On each CPU other flows come first, and there are more of them than places."""
    ports = range(1, FLOWS + 1)
    flows = {port: packets.udp(STRANGER[4], TARGET, 1500, 2323, port) for port in ports}
    cpus = sorted(os.sched_getaffinity(0))
    passes = ((cpus[0], ports), (cpus[-1], ports[::-1]), (cpus[0], ports))
    with (
        lab.built(routed()) as net,
        Tracer(Settings(netns={net["r"].inum})) as tracer,
        raw(net["a"]) as sender,
    ):
        for number, (cpu, order) in enumerate(passes, 1):
            with on(cpu):
                for port in order:
                    sender.sendto(flows[port], (TARGET, 0))
            # Kernels before 6.4 may leave the last packets to a thread.
            enough = number * FLOWS
            found = until(
                lambda: counted(tracer),
                lambda found, enough=enough: sum(c.packets for c in found.values()) >= enough,
            )
            assert {port: c.packets for port, c in found.items()} == dict.fromkeys(ports, number)
            assert {c.bytes for c in found.values()} == {1500 * number}
        assert tracer.losses()["counters_full"] == 0


def nested(tracer):
    """Return how many drops were counted while their CPU was at another one."""
    layout = tracer.image.layout
    at = layout.names("flow_count").index("nested_packets")
    values = b"".join(value for _, value in tracer._running_counting().items())
    return sum(row[at] for row in layout.codec("flow_count").iter_unpack(values))


def test_drops_that_interrupt_the_counting_of_others():
    """A timer sends what waits in a queue, in the middle of what a process is doing.

    From 6.1 on the kernel does not run a program inside itself, and counts what it left out.
    """
    waits = packets.udp(STRANGER[4], TARGET, 1500, 2323, 1)
    refused = packets.udp(STRANGER[4], REFUSED_HERE, 1400, 2323, 2)
    with (
        lab.built(routed().having(queues=(SLOW,))) as net,
        Tracer(Settings(netns={net[label].inum for label in ("a", "r")})) as tracer,
        raw(net["a"]) as sender,
        on(min(os.sched_getaffinity(0))),
    ):
        ip(net["a"], "route", "add", REFUSED_HERE, "via", R_TO_A[4], "mtu", "1000")
        for _ in range(WAITING):
            sender.sendto(waits, (TARGET, 0))
        sent = 0
        while net["r"].counters()["IpFragFails"] < WAITING:
            for _ in range(100):
                with pytest.raises(OSError, match="too long"):
                    sender.sendto(refused, (REFUSED_HERE, 0))
            sent += 100
        dropped = net["a"].counters()["IpFragFails"] + WAITING
        found = sum(counter.packets for counter in tracer.counters().values())
        losses, interrupted = tracer.losses(), nested(tracer)
    assert dropped == sent + WAITING
    assert found <= dropped <= found + losses["recursion"]
    assert losses["nested"] == losses["counters_full"] == 0
    assert interrupted or losses["recursion"], "nothing interrupted anything"
