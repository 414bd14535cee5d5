"""Messages that arrive, and what the kernel does with them: each outcome, from real packets.

On whichever rung this kernel takes, and on those below.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import contextmanager

import pytest

from pmtutrace import lab
from pmtutrace.errors import NotSupported
from pmtutrace.events import OUTCOMES, Flow, IcmpReceived, Outer, PathMtuChange
from pmtutrace.lab import Port, Tunnel, packets
from pmtutrace.pmtu.watch import Watch
from pmtutrace.tracing.tracer import Settings, Tracer
from pmtutrace.tunnels.inventory import Inventory
from routers import GATES, LENGTH, TARGETS, TOPOLOGY, WITHIN_S, awaited, ip, provoke, refused

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
PROBES = ("fentry", "fexit", "kprobe", "kretprobe")
RUNGS = {"best": (), "kprobe": PROBES[:2], "socket": PROBES}
SENDER = {4: "10.77.1.1", 6: "fd77:1::1"}
STRANGER = {4: "203.0.113.9", 6: "2001:db8::9"}
MET = set()


class Traced:
    """A lab whose sender's path MTUs are followed."""

    def __init__(self, net, tracer):
        self.net, self.tracer, self.node = net, tracer, net["a"]
        self.told = tracer.tells("path")

    def events(self, *wanted, number=1):
        """Return events of the sender's namespace, once so many of each wanted kind are there."""
        found, end = [], time.monotonic() + WITHIN_S
        while any(sum(isinstance(e, kind) for e in found) < number for kind in wanted):
            assert time.monotonic() < end, found
            found += [e for e in self.tracer.poll() if e.netns == self.node.inum]
        return found

    def received(self):
        """Return the next message that arrives."""
        (message,) = (e for e in self.events(IcmpReceived) if isinstance(e, IcmpReceived))
        MET.add(message.outcome)
        return message


@contextmanager
def traced(settings, topology=TOPOLOGY):
    with lab.built(topology) as net, Tracer(settings) as tracer:
        tracer.follow(Watch({net["a"].inum}, listen=not tracer.tells("received")))
        yield Traced(net, tracer)


@pytest.fixture(scope="module", params=RUNGS)
def there(request):
    with traced(Settings(without=frozenset(RUNGS[request.param]))) as made:
        yield made


def heard(there, family, number, mtu):
    """Have a router refuse a packet to a target; return what became of its message."""
    provoke(there.net, family, TARGETS[family][number], mtu)
    message = there.received()
    assert (message.family, message.mtu, message.to) == (family, mtu, SENDER[family])
    assert message.router == GATES[family]["r"]
    assert (message.flow.saddr, message.flow.daddr) == (SENDER[family], TARGETS[family][number])
    assert (message.flow.proto, message.flow.dport, message.outer) == (17, 9, None)
    assert (message.dev, message.tunnel) == ("a0", None)
    assert abs(message.ts - time.time_ns()) < WITHIN_S * 1e9
    return message.outcome, message.effective


def send(there, address, packet):
    """Send a packet of the sender's as it is."""

    def sent():
        with socket.socket(packets.family(address), socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(packet, (address, 0))

    there.node.run(sent)


def tell(there, family, mtu, quoted):
    """Have a router tell the sender something that no router would."""

    def told():
        if family == 4:
            message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted
            total = struct.pack("!H", ~packets.checksum(message) & 0xFFFF)
            message, proto = message[:2] + total + message[4:], socket.IPPROTO_ICMP
        else:
            message, proto = struct.pack("!BBHI", 2, 0, 0, mtu) + quoted, socket.IPPROTO_ICMPV6
        with socket.socket(packets.family(SENDER[family]), socket.SOCK_RAW, proto) as raw:
            raw.sendto(message, (SENDER[family], 0))

    there.net["r"].run(told)


def tcp(family, number, length, saddr=None):
    """Return a TCP segment, the sender's if nobody else is named, that belongs to no socket."""
    saddr, daddr = saddr or SENDER[family], TARGETS[family][number]
    payload = length - packets.header_length(saddr)
    header = struct.pack("!HHIIBBHHH", 1024, 9, 1, 1, 5 << 4, 0x10, 1024, 0, 0)
    return packets.ip_header(saddr, daddr, 6, payload) + header + bytes(payload - len(header))


@contextmanager
def no_pmtu_disc(there, mode):
    write = "/proc/sys/net/ipv4/ip_no_pmtu_disc"
    there.node.run(lambda: open(write, "w").write(str(mode)))  # noqa: SIM115, PTH123
    try:
        yield
    finally:
        there.node.run(lambda: open(write, "w").write("0"))  # noqa: SIM115, PTH123


class TestOutcomes:
    def test_applied_then_not_lower_and_lower(self, there):
        for family in (4, 6):
            provoke(there.net, family, TARGETS[family][0], 1390)
            events = there.events(IcmpReceived, PathMtuChange)
            kinds = {type(event): event for event in events}
            message, change = kinds[IcmpReceived], kinds[PathMtuChange]
            MET.add(message.outcome)
            assert (message.outcome, message.effective) == ("applied", 1390)
            assert (change.change, change.daddr, change.new) == (
                "created",
                TARGETS[family][0],
                1390,
            )
            assert (change.via, change.dev, change.gateway) == ("icmp", "a0", GATES[family]["r"])
            assert 0 <= change.ts - message.ts < 50_000_000
            assert heard(there, family, 0, 1395) == ("not_lower", 1390)
            assert heard(there, family, 0, 1300) == ("applied", 1300)

    def test_clamped_then_locked(self, there):
        assert heard(there, 4, 1, 500) == ("clamped", 552)
        assert heard(there, 4, 1, 540) == ("locked", 552)

    @pytest.mark.parametrize("family", [4, 6])
    def test_no_match(self, there, family):
        way = [f"-{family}", "route", "replace", TARGETS[family][2], "dev", "rb", "mtu", "lock"]
        ip(there.net["r"], *way, "1350")
        send(there, TARGETS[family][2], tcp(family, 2, LENGTH))
        message = there.received()
        assert (message.outcome, message.effective) == ("no_match", 1500)
        assert message.flow == Flow(SENDER[family], TARGETS[family][2], 6, 1024, 9)

    @pytest.mark.parametrize("mode", [2, 3])
    def test_no_pmtu_disc(self, there, mode):
        quoted = packets.udp(SENDER[4], TARGETS[4][3], LENGTH, 1024, 9)[:48]
        with no_pmtu_disc(there, mode):
            tell(there, 4, 1350, quoted)
            message = there.received()
        assert (message.outcome, message.effective) == ("no_pmtu_disc", 1500)

    def test_below_minimum(self, there):
        quoted = packets.udp(SENDER[6], TARGETS[6][3], LENGTH, 1024, 9)[:88]
        tell(there, 6, 1279, quoted)
        message = there.received()
        assert (message.outcome, message.mtu) == ("below_minimum", 1279)

    @pytest.mark.parametrize("family", [4, 6])
    def test_not_sent_here(self, there, family):
        tell(there, family, 1350, tcp(family, 3, LENGTH, STRANGER[family])[:88])
        message = there.received()
        assert message.outcome == "not_sent_here"
        assert message.flow == Flow(STRANGER[family], TARGETS[family][3], 6, 1024, 9)

    def test_unknown(self, there):
        """No packet is quoted that could be read; and what is no news at all is not told of."""
        tell(there, 4, 1350, b"\x45" * 12)
        message = there.received()
        assert (message.outcome, message.flow) == ("unknown", Flow("", "", 0))


def test_each_outcome_was_met():
    """Runs after those above."""
    assert OUTCOMES.keys() == MET


def test_many_at_once(there):
    """Each message is told of, in the order in which they came."""
    quoted = tcp(4, 4, LENGTH, STRANGER[4])[:48]
    for number in range(200):
        tell_now = struct.pack("!HH", number, 0)
        tell(there, 4, 1000 + number, quoted + tell_now)
    found = [e for e in there.events(IcmpReceived, number=200) if isinstance(e, IcmpReceived)]
    assert [message.mtu for message in found] == list(range(1000, 1200))


ENDS = (Port("a", "t0", ("172.16.0.1/24",), None), Port("b", "t1", ("172.16.0.2/24",), None))
KINDS = {
    "vxlan": (Tunnel("vxlan", ENDS, (SENDER[4], TARGETS[4][0]), key=7, df="set"), 17, 50),
    "gre": (Tunnel("gre", ENDS, (SENDER[4], TARGETS[4][0])), 47, 24),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tunnel_learns_and_passes_it_on(kind, kernel):
    """The message names the tunnel and the flow inside; what that does to the route inside, too."""
    tunnel, proto, overhead = KINDS[kind]
    try:
        with traced(Settings(), TOPOLOGY.having(tunnels=(tunnel,))) as there:
            inventory = Inventory()
            inventory.start()
            awaited(lambda: any(one.name == "t0" for one in inventory.tunnels()))
            there.tracer.use(inventory)
            learn(there, proto, overhead)
    except NotSupported as error:
        kernel.skip(f"{kind}-received", error.message)


def learn(there, proto, overhead):
    way = ("route", "replace", TARGETS[4][0], "dev", "rb", "mtu", "lock", "1300")
    ip(there.net["r"], *way)
    there.node.run(lambda: push("172.16.0.2"))
    events = there.events(IcmpReceived, PathMtuChange)
    (message,) = (e for e in events if isinstance(e, IcmpReceived))
    assert (message.outcome, message.effective, message.mtu) == ("applied", 1300, 1300)
    assert message.outer == Outer(SENDER[4], TARGETS[4][0], proto)
    assert (message.flow.saddr, message.flow.daddr) == ("172.16.0.1", "172.16.0.2")
    assert (message.flow.proto, message.flow.dport) == (17, 9)
    assert message.tunnel.name == "t0"
    # GRE notes its own MTU for the route inside with its first packet.
    (change,) = (e for e in events if isinstance(e, PathMtuChange) and e.daddr == TARGETS[4][0])
    assert (change.new, change.via) == (1300, "icmp")
    assert [(t.name, t.mtu) for t in change.tunnels] == [("t0", 1300 - overhead)]
    there.node.run(lambda: refused(4, "172.16.0.2", within_s=1))  # VXLAN never tells its socket
    ip(there.node, "route", "get", "172.16.0.2")  # no dump has it until somebody has looked
    # The sender is told, too, which may set it once more.
    change = next(e for e in there.events(PathMtuChange) if isinstance(e, PathMtuChange))
    assert (change.daddr, change.new, change.dev) == ("172.16.0.2", 1300 - overhead, "t0")
    assert change.via == ("tunnel" if there.told else "unknown")


def push(address):
    """Send one datagram with DF that fits the tunnel."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, 10, 3)  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
        sender.sendto(bytes(LENGTH - 28), (address, 9))
