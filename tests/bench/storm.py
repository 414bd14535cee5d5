"""A storm of drops: are the counters exact, and what does a drop cost?

Prints a table and fails if a count differs from the kernel's own. For each setting: packets that
the kernel refused (IpFragFails), packets counted, packets a second, events streamed and lost, and
the kernel's run_time_ns/run_cnt of the drop program, and the median of that over a quarter of a
second each, which others on the machine move less; beside it, in the same run, that of an empty
program (what the measurement itself costs) and of bpftrace counting by reason there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace import lab
from pmtutrace.kernel import features, libbpf
from pmtutrace.lab.scenarios import routed
from pmtutrace.tracing.tracer import Settings, Tracer

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 5
WINDOW_S = 0.25
PAUSE_S = 0.002  # in which nobody sends as many events as the ring has room for
OCTETS = 1450
WANTED_RATE = 50_000
SOURCE = Path(__file__).with_name("storm.c")
COUNT_BY_REASON = "tracepoint:skb:kfree_skb { @[args->reason] = count(); }"


@dataclass(frozen=True)
class Setting:
    name: str
    flows: int
    settings: Settings
    warm_up: bool = False  # every flow has had its first packet before counting begins


# What `trace` asks for, which shows nothing of what is in a packet, and what `record` does.
SETTINGS = (
    Setting("1 flow, counted", 1, Settings(snaplen=0)),
    Setting("1 flow, all streamed", 1, Settings(snaplen=0, every=True)),
    Setting("1 flow, all with packet", 1, Settings(every=True)),
    Setting("50 000 flows, new", 50_000, Settings(snaplen=0, rate=1)),
    Setting("50 000 flows, known", 50_000, Settings(snaplen=0, rate=1), warm_up=True),
)


@dataclass(frozen=True)
class Outcome:
    refused: int
    counted: int
    streamed: int
    lost: int
    rest: int
    seconds: float
    drop_ns: float
    median_ns: float
    empty_ns: float


def compiled(folder: Path) -> Path:
    program = folder / "storm"
    subprocess.run(["gcc", "-O2", "-o", program, SOURCE], check=True)
    return program


@contextlib.contextmanager
def empty_program(tracer: Tracer) -> Iterator[int]:
    """Attach a program that does nothing to the same tracepoint."""
    target = libbpf.Target(libbpf.TRACE_RAW_TP, tracer.image.tracepoints["kfree_skb"])
    fd = libbpf.prog_load(libbpf.PROG_TRACING, "empty", features.NOTHING, target)
    link = libbpf.raw_tracepoint_open(None, fd)
    try:
        yield fd
    finally:
        os.close(link)
        os.close(fd)


def drained(tracer: Tracer, seconds: float) -> int:
    """Empty the ring for some seconds; return how many events there were."""
    end, number = time.monotonic() + seconds, 0
    while True:
        tracer._ring.consume()
        number += len(tracer._raw)
        tracer._raw.clear()
        if time.monotonic() >= end:
            return number
        time.sleep(PAUSE_S)


def send(
    tracer: Tracer, node: str, program: Path, daddr: str, flows: int, seconds: float
) -> tuple[int, float]:
    """Send for some seconds, and take events out of the ring as fast as they come.

    They are not decoded: one that finds no room costs less than one that does, and a reader who
    takes his time would make all of them look cheap.

    Returns:
        how many were read, and the median of what a drop cost, in nanoseconds.
    """
    command = ["ip", "netns", "exec", node, program, daddr, str(OCTETS), str(flows), str(seconds)]
    costs = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as sender:
        read, (time_ns, runs) = 0, tracer.run_times()["kfree_skb"]
        while sender.poll() is None:
            read += drained(tracer, WINDOW_S)
            before, (time_ns, runs) = (time_ns, runs), tracer.run_times()["kfree_skb"]
            if runs > before[1]:
                costs.append((time_ns - before[0]) / (runs - before[1]))
    return read + drained(tracer, 0), statistics.median(costs)


def run_times(tracer: Tracer, empty: int) -> tuple[int, int, int, int]:
    info = libbpf.program_info(empty)
    return (*tracer.run_times()["kfree_skb"], info.run_time_ns, info.run_cnt)


def measure(net: lab.Net, program: Path, setting: Setting) -> Outcome:
    daddr = routed.B[4]
    with Tracer(setting.settings) as tracer, empty_program(tracer) as empty:
        if setting.warm_up:
            send(tracer, net["a"].name, program, daddr, setting.flows, 3)
        inum = net["r"].inum

        def counted() -> int:
            return sum(c.packets for k, c in tracer.counters().items() if k.netns in (inum, 0))

        base, kernel = counted(), net["r"].counters()["IpFragFails"]
        losses, times = tracer.losses(), run_times(tracer, empty)
        began = time.monotonic()
        streamed, median = send(tracer, net["a"].name, program, daddr, setting.flows, SECONDS)
        took = time.monotonic() - began
        spent = [now - then for now, then in zip(run_times(tracer, empty), times, strict=True)]
        return Outcome(
            net["r"].counters()["IpFragFails"] - kernel,
            counted() - base,
            streamed,
            tracer.losses()["ring_full"] - losses["ring_full"],
            tracer.losses()["counters_full"] - losses["counters_full"],
            took,
            spent[0] / spent[1],
            median,
            spent[2] / spent[3],
        )


def bpftrace(net: lab.Net, program: Path) -> float | None:
    """Return ns per run of bpftrace's count by reason, or None where it cannot run."""
    if not shutil.which("bpftrace") or not shutil.which("bpftool"):
        return None
    mount = 'mount -t tracefs tracefs /sys/kernel/tracing && exec bpftrace -e "$0"'
    command = ["unshare", "--mount", "sh", "-c", mount, COUNT_BY_REASON]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as peer:
        try:
            assert peer.stdout
            peer.stdout.readline()  # "Attaching 1 probe..."
            storm = ["ip", "netns", "exec", net["a"].name, program, routed.B[4]]
            subprocess.run(
                [*storm, str(OCTETS), "1", str(SECONDS)], check=True, stdout=subprocess.DEVNULL
            )
            shown = subprocess.run(
                ["bpftool", "--json", "prog", "show"], check=True, capture_output=True, text=True
            )
        finally:
            peer.send_signal(signal.SIGINT)
    runs = [
        p["run_time_ns"] / p["run_cnt"]
        for p in json.loads(shown.stdout)
        if p.get("name") == "kfree_skb" and p["type"] == "tracepoint" and p.get("run_cnt", 0) > 1000
    ]
    return runs[0] if runs else None


def main() -> int:
    stats = libbpf.enable_stats()
    failures = []
    with tempfile.TemporaryDirectory() as folder, lab.built(routed.routed()) as net:
        program = compiled(Path(folder))
        print(
            f"{'':23} {'refused':>9} {'counted':>9} {'per s':>8} {'streamed':>9} {'not':>8} "
            f"{'no room':>8} {'ns/drop':>8} {'median':>6} {'empty':>6} {'net':>5}"
        )
        for setting in SETTINGS:
            o = measure(net, program, setting)
            rate = o.refused / o.seconds
            print(
                f"{setting.name:23} {o.refused:>9} {o.counted:>9} {rate:>8.0f} {o.streamed:>9} "
                f"{o.lost:>8} {o.rest:>8} {o.drop_ns:>8.0f} {o.median_ns:>6.0f} "
                f"{o.empty_ns:>6.0f} {o.drop_ns - o.empty_ns:>5.0f}",
                flush=True,
            )
            if o.refused != o.counted:
                failures.append(f"{setting.name}: refused {o.refused}, counted {o.counted}")
            if rate < WANTED_RATE:
                failures.append(f"{setting.name}: only {rate:.0f} packets a second")
        peer = bpftrace(net, program)
        print(
            f"{'bpftrace, by reason':23} {'':>9} {'':>9} {'':>8} {'':>9} {'':>8} {'':>8} "
            + (f"{peer:>8.0f}" if peer else "not to be had here")
        )
    os.close(stats)
    for failure in failures:
        print(f"FAILED {failure}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
