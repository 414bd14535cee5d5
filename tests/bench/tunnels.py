"""What tracing costs a packet that fits into its tunnel: for each kind of tunnel that the lab has.

TUN, TAP and Open vSwitch's datapath are among them. Every packet is as long, and must arrive.

Two tracers run at once, one that attaches by fentry wherever it can and one by kprobe, so that both
are measured on the same packets. By the kernel's run_time_ns/run_cnt it prints for each tunnel what
a run of the hook takes that names the device, and of an empty program beside it; and what all our
programs took, by packet, and how many of them ran. Fails if a packet that fits is counted.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from pmtutrace.errors import LabError, NotSupported
from pmtutrace.kernel import features, libbpf
from pmtutrace.kernel.hooks import TUNNEL_FUNCTIONS
from pmtutrace.lab import traffic
from pmtutrace.lab.build import built
from pmtutrace.lab.scenarios import ALL
from pmtutrace.tracing.tracer import Settings, Tracer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pmtutrace.lab.net import Net
    from pmtutrace.lab.scenario import Scenario
    from pmtutrace.lab.topology import Port, Topology

# Each figure is the median of rounds: a virtual CPU that is taken away counts as time spent.
ROUNDS, PACKETS = 20, 100
# Octets of a packet before the tunnel: with any headers more than 1280, and less than 1400.
LENGTH, AT_LEAST = 1300, 1400
PATIENCE_S = 60
WAYS = {"fentry": Settings(), "kprobe": Settings(without=frozenset({"fentry", "fexit"}))}
HOT = {*(function.program for function in TUNNEL_FUNCTIONS), "vport_send"}
USER_SPACE = ("tun", "tap")
SWITCH = "openvswitch"
# Ends that do not agree: nothing arrives.
AT_ODDS = {"ikey", "iflags"}
EVERYWHERE = ("iptunnel_xmit", "ip6_local_out")


@dataclass(frozen=True)
class Ran:
    """How long programs ran, and how often."""

    ns: int = 0
    runs: int = 0

    def __add__(self, other: Ran) -> Ran:
        return Ran(self.ns + other.ns, self.runs + other.runs)

    def __sub__(self, other: Ran) -> Ran:
        return Ran(self.ns - other.ns, self.runs - other.runs)

    def each(self) -> float | None:
        return self.ns / self.runs if self.runs else None


class Bench:
    """Both tracers, and the empty programs of both ways."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.tracers = {way: stack.enter_context(Tracer(s)) for way, s in WAYS.items()}
        self.empty = {way: list(self._attached(way, stack)) for way in WAYS}

    def _attached(self, way: str, stack: contextlib.ExitStack) -> Iterator[int]:
        """Attach a program that does nothing where all tunnels pass, if the kernel lets us."""
        for function in EVERYWHERE:
            if way == "kprobe" and not features.KPROBE_PMU.exists():
                continue
            number = self.tracers["fentry"].image.functions[function]
            target = libbpf.Target(libbpf.TRACE_FENTRY, number) if way == "fentry" else None
            kind = libbpf.PROG_TRACING if target else libbpf.PROG_KPROBE
            with contextlib.suppress(OSError):
                fd = libbpf.prog_load(kind, "empty", features.NOTHING, target)
                stack.callback(os.close, fd)
                if target:
                    link = libbpf.raw_tracepoint_open(None, fd)
                else:
                    entry = libbpf.KPROBE_ENTRY
                    link = libbpf.attach_kprobe(fd, entry, f"empty_{function}", function)
                stack.callback(os.close, link)
                yield fd

    def ran(self) -> dict[tuple[str, str], Ran]:
        """Return the sums so far, by way and which programs: hot, empty, all (of ours)."""
        out = {}
        for way, tracer in self.tracers.items():
            times = {name: Ran(*spent) for name, spent in tracer.run_times().items()}
            hot = (ran for name, ran in times.items() if name.rpartition("_")[0] in HOT)
            out[way, "hot"] = sum(hot, Ran())
            out[way, "all"] = sum(times.values(), Ran())
            infos = map(libbpf.program_info, self.empty[way])
            out[way, "empty"] = sum((Ran(i.run_time_ns, i.run_cnt) for i in infos), Ran())
        return out

    def counted(self, net: Net) -> int:
        own = {node.inum for node in net}
        counters = [item for t in self.tracers.values() for item in t.counters().items()]
        return sum(counter.packets for key, counter in counters if key.netns in own)


def scenarios() -> Iterator[tuple[str, Scenario]]:
    """Yield a scenario for each kind of tunnel, version of its outer header, and set of options."""
    seen = set()
    for scenario in ALL:
        name = kind(scenario)
        sent, expected = scenario.traffic, scenario.expected
        # Other traffic is not measured; elsewhere something is in the way of messages, or packets.
        plain = sent.what == "udp" and sent.node == "a" and not scenario.topology.rules
        silent = expected and expected.verdict != "told" and name != SWITCH
        if name and plain and not silent and name not in seen:
            seen.add(name)
            yield name, scenario


def kind(scenario: Scenario) -> str | None:
    """Return what kind of tunnel a scenario has; None for none, several, or one that fails."""
    tunnels, bridges = scenario.topology.tunnels, scenario.topology.bridges
    if [bridge.type for bridge in bridges] == [SWITCH]:
        return SWITCH
    if len(tunnels) != 1 or bridges or AT_ODDS & tunnels[0].options.keys():
        return None
    tunnel = tunnels[0]
    if tunnel.type in USER_SPACE:
        return tunnel.type
    version = 6 if ":" in tunnel.endpoints[0] else 4
    options = [f"{key}={value}" for key, value in tunnel.options.items() if value]
    options += ["external"] * tunnel.external
    return " ".join([tunnel.type, f"over IPv{version}", *options])


def roomy(topology: Topology) -> Topology:
    """Return a topology in which no route is narrower than its device."""
    return replace(topology, routes=tuple(replace(route, mtu=None) for route in topology.routes))


def send(net: Net, scenario: Scenario, count: int, *, sink: bool = False) -> None:
    """Send packets that fit, and wait until the last has arrived."""
    port, column = arrival(net)
    file = net.files.get(port)
    sent = replace(scenario.traffic, length=LENGTH, count=count, longer=0, segments=1, sink=sink)

    def arrived() -> int:
        # A TUN has sent what somebody has read.
        while file and file.read(AT_LEAST):
            pass
        return net[port.node].counters()[f"{port.dev}:{column}"]

    wanted, end = arrived() + count, time.monotonic() + PATIENCE_S
    traffic.send(net, sent)
    while (missing := wanted - arrived()) > 0:
        if time.monotonic() > end:
            raise LabError(f"{missing} packets did not arrive")
        os.sched_yield()


def arrival(net: Net) -> tuple[Port, str]:
    """Return the device that packets come to in the end, and which column of it counts them."""
    tunnels = net.topology.tunnels
    if not tunnels:
        return next(port for port in net.topology.ports if port.node == "b"), "rx_packets"
    near, far = tunnels[0].ends
    return (near, "tx_packets") if near in net.files else (far, "rx_packets")


def measure(bench: Bench, scenario: Scenario) -> list[dict[tuple[str, str], Ran]]:
    """Return what programs took in each round, by way and which programs."""
    with built(roomy(scenario.topology)) as net:
        for tracer in bench.tracers.values():
            tracer.refresh()
        # Nobody answers for an address behind a TUN.
        send(net, scenario, 50, sink=not net.files)
        counted, sums = bench.counted(net), [bench.ran()]
        for _ in range(ROUNDS):
            send(net, scenario, PACKETS)
            sums.append(bench.ran())
        if bench.counted(net) != counted:
            raise LabError("packets that fit were counted")
        return [{key: now[key] - then[key] for key in now} for then, now in pairwise(sums)]


def cells(rounds: list[dict[tuple[str, str], Ran]]) -> Iterator[str]:
    """Yield the columns of a row, "-" for what did not run."""

    def middle(values: Iterable[float | None], digits: int = 0) -> str:
        there = [value for value in values if value is not None]
        return f"{statistics.median(there):.{digits}f}" if there else "-"

    for what in ("hot", "empty"):
        yield from (middle(spent[way, what].each() for spent in rounds) for way in WAYS)
    yield from (middle(spent[way, "all"].ns / PACKETS for spent in rounds) for way in WAYS)
    yield from (middle((spent[way, "all"].runs / PACKETS for spent in rounds), 1) for way in WAYS)


def main() -> int:
    stats, failed = libbpf.enable_stats(), False
    heads = [f"{what} {way}" for what in ("hot", "empty", "all", "runs") for way in WAYS]
    print(f"{'tunnel':32} " + " ".join(f"{head:>12}" for head in heads))
    with contextlib.ExitStack() as stack:
        bench = Bench(stack)
        for name, scenario in scenarios():
            try:
                rounds = measure(bench, scenario)
            except NotSupported as error:
                print(f"{name:32} {error.message}", flush=True)
                continue
            except LabError as error:
                print(f"{name:32} FAILED {scenario.name}: {error.message}", flush=True)
                failed = True
                continue
            print(f"{name:32} " + " ".join(f"{cell:>12}" for cell in cells(rounds)), flush=True)
    os.close(stats)
    return failed


if __name__ == "__main__":
    sys.exit(main())
