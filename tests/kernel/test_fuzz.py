"""Hostile packets by the thousand through every hook at once, and well-formed ones among them.

No crash, nothing lost, not one wrong flow, and counters that agree with the kernel's to the last
packet. ``PMTUTRACE_FUZZ=20000`` sends so many, ``PMTUTRACE_SEED`` repeats a run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import socket
from collections import Counter
from dataclasses import dataclass

import pytest

import hostile
from pmtutrace import lab
from pmtutrace.events import Drop, Flow
from pmtutrace.lab import packets, run
from pmtutrace.lab.scenarios import BY_NAME
from pmtutrace.tracing.tracer import Settings, Tracer

from .test_mixed import since
from .test_rungs import NO_FENTRY, NO_PROBES

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]

PACKETS = int(os.environ.get("PMTUTRACE_FUZZ", "500"))
GOOD = 0.4  # of the packets are well-formed
BATCH = 100
LONGEST = 3900  # all of a packet lies in the linear part: less than a page
RUNGS = {"best": frozenset(), "kprobe": NO_FENTRY, "tracepoint": NO_PROBES}
R, SAID, LIED = "192.0.2.1", "10.77.1.1", "10.77.1.2"
SAID6, LIED6 = "fd77:1::1", "fd77:1::2"
MUST_NOT_LOSE = ("counters_full", "news_full", "nested")
OOPS = re.compile(r"BUG:|WARNING:|Oops|general protection|Kernel panic|\bstall|hung task|lockup")


@dataclass(frozen=True)
class Way:
    """Where packets go, by their destination, and what makes all of them too long there.

    ``overhead`` is what the tunnel puts in front of those that it wraps and that are refused then.
    """

    name: str
    to: dict[int, str]
    padding: int
    dev: str = "a0"
    overhead: int = 0
    outer: tuple[str, int] | None = None


SMALL = Way("small", {4: "10.79.1.2"}, 48)
SIX = Way("six", {6: "fd79:6::2"}, 1300)
VXLAN = Way("vxlan", {4: "10.79.2.2", 6: "fd79:2::2"}, 1300, overhead=50, outer=("192.0.2.12", 17))
BRIDGED = Way("bridged", {4: "10.79.4.2", 6: "fd79:4::2"}, 1400, dev="a1")
GRE = Way("gre", {4: "10.79.3.2"}, 1300, overhead=24, outer=("192.0.2.13", 47))
WAYS = (SMALL, SIX, VXLAN, BRIDGED)


def topology(*, gre: bool) -> lab.Topology:
    """Return ``a = r = b``: one way in is routed, one bridged; all ways out are too small."""
    cables = (
        (
            lab.Port(
                "a", "a0", ("10.77.1.1/24", "10.77.1.2/24", "fd77:1::1/64", "fd77:1::2/64"), 4000
            ),
            lab.Port("r", "ra", ("10.77.1.254/24", "fd77:1::fe/64"), 4000),
        ),
        (lab.Port("a", "a1", (), 4000), lab.Port("r", "rb", (), 4000, "br0")),
        # IPv6 is not to be had below 1280.
        (lab.Port("r", "rs", ("10.79.1.1/24",), 68), lab.Port("b", "bs", ("10.79.1.2/24",), 68)),
        (
            lab.Port("r", "r6", ("fd79:6::1/64",), 1280),
            lab.Port("b", "b6", ("fd79:6::2/64",), 1280),
        ),
        (
            lab.Port("r", "ru", (f"{R}/24",)),
            lab.Port("b", "bu", ("192.0.2.12/24", "192.0.2.13/24", "192.0.2.14/24")),
        ),
    )
    tunnels = [
        lab.Tunnel(
            "vxlan",
            (
                lab.Port("r", "t2", ("10.79.2.1/24", "fd79:2::1/64"), 4000),
                lab.Port("b", "t2", ("10.79.2.2/24", "fd79:2::2/64"), 4000),
            ),
            (R, "192.0.2.12"),
            key=2,
            df="set",
        ),
        lab.Tunnel(
            "vxlan",
            (lab.Port("r", "t4", (), 4000, "br0"), lab.Port("b", "t4", (), 4000)),
            (R, "192.0.2.14"),
            key=4,
        ),
    ]
    if gre:
        ends = (
            lab.Port("r", "t3", ("10.79.3.1/24",), 4000),
            lab.Port("b", "t3", ("10.79.3.2/24",), 4000),
        )
        tunnels.append(lab.Tunnel("gre", ends, (R, "192.0.2.13")))
    return lab.Topology(
        tuple(lab.Veth(cable) for cable in cables),
        tuple(tunnels),
        (lab.Bridge("r", "br0"),),
        (
            lab.Route("a", "10.79.0.0/16", via="10.77.1.254"),
            lab.Route("a", "fd79::/16", via="fd77:1::fe"),
            lab.Route("r", "192.0.2.12", dev="ru", mtu=600),
            lab.Route("r", "192.0.2.13", dev="ru", mtu=1000),
            lab.Route("r", "192.0.2.14", dev="ru", mtu=1400),
        ),
        routers=("r",),
    )


class Sent:
    """Packets as they are made, and what must be reported of the well-formed ones, by number."""

    def __init__(self, ways: tuple[Way, ...], seed: int) -> None:
        self.ways = ways
        self.chance = random.Random(seed)  # noqa: S311 -- can be repeated
        self.good: dict[int, hostile.Built] = {}
        self.hostile = 0
        self.refused = 0  # sockets of r's own

    def next(self, number: int) -> tuple[Way, int, bytes]:
        """Return where a packet goes, the version of its first header, and its octets."""
        chance = self.chance
        way = chance.choice(self.ways)
        version = chance.choice(tuple(way.to))
        right = chance.random() < GOOD
        ends = ((SAID, SAID6) if right else (LIED, LIED6))[version == 6], way.to[version]
        while True:
            # What bridges turn into a message has DF alone, and is neither fragment nor error.
            built = hostile.well_formed(
                chance, version, *ends, number=number, padding=way.padding, whole=way is BRIDGED
            )
            error = way is BRIDGED and is_error(built.headers[0], built.octets)
            if len(built.octets) <= LONGEST and not error:
                break
        if right:
            self.good[number] = built
            return way, version, built.octets
        self.hostile += 1
        while True:  # not even by chance may its address be that of the good ones
            octets = hostile.hostile(chance, built)[:LONGEST]
            if not said(octets):
                return way, version, octets

    def wanted(self, drop: Drop) -> tuple[int, Flow, object] | None:
        """Return the number of a good packet, and the flow and outer header that it must have."""
        octets, wrapped = drop.packet, None
        for way in self.ways:
            if way.outer and octets[12:20] == packets.packed(R) + packets.packed(way.outer[0]):
                wrapped, octets = way, octets[way.overhead :]
        if not said(octets):
            return None
        four = octets[0] >> 4 == 4
        number = int.from_bytes(octets[4:6] if four else octets[2:4], "big")
        headers = self.good[number].headers
        if wrapped:
            # The source port of VXLAN is a hash of what is inside.
            far, proto = wrapped.outer
            ports = (None, None) if proto == 47 else (drop.flow.sport, hostile.VXLAN)
            headers = (Flow(R, far, proto, *ports), *headers)
        return number, *hostile.seen(headers)


def said(octets: bytes) -> bool:
    """Say whether a packet has the source address of the good ones."""
    if octets[0] >> 4 == 4:
        return octets[12:16] == packets.packed(SAID)
    return octets[8:24] == packets.packed(SAID6)


def is_error(first: Flow, octets: bytes) -> bool:
    """Say whether a packet without options is an ICMP error: nobody answers those."""
    at = 20 if octets[0] >> 4 == 4 else 40
    return (first.proto == 1 and octets[at] not in (0, 8)) or (
        first.proto == 58 and (octets[at] < 128 or octets[at] == 137)
    )


@contextlib.contextmanager
def attached():
    """Give a tracer on each rung, all at once; the first one streams every drop."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(Tracer(Settings(every=name == "best", without=without)))
            for name, without in RUNGS.items()
        }


class Log:
    """What the kernel says from now on."""

    def __init__(self) -> None:
        self._file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._file, 0, os.SEEK_END)

    def complaints(self) -> list[str]:
        """Return all lines in which something is wrong with the kernel."""
        found = []
        while True:
            try:
                line = os.read(self._file, 8192).decode(errors="replace")
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.EPIPE:  # overwritten before it was read
                    raise
                continue
            if OOPS.search(line):
                found.append(line)


def send(net: lab.Net, sent: Sent, first: int, count: int) -> None:
    """Put so many packets on a's cables."""

    def put() -> None:
        macs = {"a0": net["r"].macs["ra"], "a1": net["b"].macs["t4"]}
        with contextlib.ExitStack() as stack:
            cables = {}
            for dev in macs:
                cables[dev] = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
                cables[dev].bind((dev, 0))
            frames = {
                (dev, version): packets.ethernet(
                    macs[dev], net["a"].macs[dev], SAID if version == 4 else SAID6
                )
                for dev in macs
                for version in (4, 6)
            }
            for number in range(first, first + count):
                way, version, octets = sent.next(number)
                cables[way.dev].send(frames[way.dev, version] + octets)

    net["a"].run(put)


def send_own(net: lab.Net, sent: Sent) -> None:
    """Have r itself send what it has not the MTU for, with whatever headers: EMSGSIZE at once."""

    def put() -> None:
        for way, version in ((SMALL, 4), (SIX, 6)):
            to = way.to[version]
            with socket.socket(packets.family(to), socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
                octets = sent.chance.randbytes(1400)
                if version == 4:
                    octets = b"\x45" + octets
                try:
                    sender.sendto(octets, (to, 0))
                except OSError as error:
                    if error.errno != errno.EMSGSIZE:
                        raise
                    sent.refused += 1

    net["r"].run(put)


def refusals(counters: dict) -> Counter:
    """Return packets by site, sockets' own left out, and without what only one rung can know."""
    found = Counter()
    for key, counter in counters.items():
        if key.verdict != "local":
            found[key.site] += counter.packets
    return found


def in_net(net: lab.Net, counters: dict) -> dict:
    inodes = {node.inum for node in net}
    return {key: counter for key, counter in counters.items() if key.netns in inodes}


def test_hostile_packets(kernel):
    seed = int(os.environ.get("PMTUTRACE_SEED", random.SystemRandom().randrange(1 << 32)))
    log = Log()
    with attached() as tracers:
        gre = run.run(BY_NAME["gre-v4-udp-forward"], tracers["best"]).result != "skipped"
        assert gre or not kernel.known or kernel.may_skip("gre-v4-udp-forward")
        ways = (*WAYS, GRE) if gre else WAYS
        with lab.built(topology(gre=gre)) as net:
            fuzz(net, tracers, Sent(ways, seed), f"PMTUTRACE_SEED={seed}")
        for name, tracer in tracers.items():
            # Whatever has been through it, a tracer goes on as before.
            result = run.run(BY_NAME["vxlan-df-v6-udp-forward"], tracer)
            assert result.result == "ok", (name, result.reason, seed)
            losses = tracer.losses()
            amiss = {kind: losses[kind] for kind in MUST_NOT_LOSE if losses[kind]}
            assert not amiss, (name, amiss, seed)
    assert log.complaints() == []


def fuzz(net: lab.Net, tracers: dict[str, Tracer], sent: Sent, seed: str) -> None:
    """Send everything; compare events with what was built, and counters with the kernel's."""
    for tracer in tracers.values():
        tracer.refresh()
    before = {name: tracer.counters() for name, tracer in tracers.items()}
    start = net["r"].counters()
    reported, wrong = Counter(), []
    for first in range(0, PACKETS, BATCH):
        send(net, sent, first, BATCH)
        send_own(net, sent)
        take(net, tracers["best"], sent, reported, wrong)
    run.until(
        lambda: take(net, tracers["best"], sent, reported, wrong),
        lambda _: len(reported) >= len(sent.good),
    )
    assert not wrong, "\n".join([seed, str(len(wrong)), *wrong[:5]])
    assert not tracers["best"].losses()["ring_full"]
    # Each of the well-formed was too long, and was refused once.
    amiss = {number: reported[number] for number in sent.good if reported[number] != 1}
    assert not amiss, (seed, len(amiss), [(n, sent.good[n]) for n in list(amiss)[:3]])
    counted = {
        name: in_net(net, since(before[name], tracer.counters()))
        for name, tracer in tracers.items()
    }
    sites = refusals(counted["best"])
    now = net["r"].counters()
    fails = sum(now[name] - start[name] for name in ("IpFragFails", "Ip6FragFails"))
    at_ip = ("ip_forward", "ip6_forward", "ip_fragment", "ip6_fragment")
    assert sum(sites[site] for site in at_ip) == fails, (seed, sites)
    errors = now.get("t3:tx_errors", 0) - start.get("t3:tx_errors", 0)
    assert sites["ip_tunnel_xmit"] == errors, (seed, sites)
    assert set(sites) <= {*at_ip, "ip_tunnel_xmit", "skb_tunnel_check_pmtu"}, (seed, sites)
    print(f"{PACKETS} packets, {sent.hostile} of them hostile; {dict(sites)}; {seed}")
    for name, tracer in tracers.items():
        own = sum(c.packets for key, c in counted[name].items() if key.verdict == "local")
        assert own == sent.refused * has_hook(tracer, "local"), (name, seed)
        found = refusals(counted[name])
        if name == "tracepoint":
            # There the tunnel's own refusal shows only if its sender was told.
            assert found.pop("ip_tunnel_xmit", 0) <= sites.pop("ip_tunnel_xmit", 0), seed
        assert found == sites, (name, seed)


def has_hook(tracer: Tracer, name: str) -> bool:
    """Say whether a hook is attached."""
    return next(bool(hook.rung) for hook in tracer.attached if hook.hook.name == name)


def take(net: lab.Net, tracer: Tracer, sent: Sent, reported: Counter, wrong: list) -> None:
    """Take in the events that have come."""
    for event in tracer.poll():
        if isinstance(event, Drop) and event.netns == net["r"].inum and event.verdict != "local":
            judge(sent, event, reported, wrong)


def judge(sent: Sent, drop: Drop, reported: Counter, wrong: list) -> None:
    """Compare one event with the packet that it is about, if that was a well-formed one."""
    wanted = sent.wanted(drop)
    if wanted is None:
        return
    number, flow, outer = wanted
    reported[number] += 1
    if (drop.flow, drop.outer) != (flow, outer):
        octets = sent.good[number].octets[:200].hex()
        wrong.append(f"{drop.site}: {drop.flow} {drop.outer} for {flow} {outer}: {octets}")
