"""What is read of a packet in the kernel is what scapy says it is, however it is wrapped."""

import random
import socket

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw
from scapy.utils import checksum

from pmtutrace import lab
from pmtutrace.events import Flow, Outer
from pmtutrace.lab.scenarios.routed import A, B, routed
from pmtutrace.tracing.tracer import Settings, Tracer

pytestmark = pytest.mark.live
DF = {"flags": "DF"}
OUT4 = IP(src=A[4], dst=B[4], **DF)
OUT6 = IPv6(src=A[6], dst=B[6])
IN4 = IP(src="172.16.0.1", dst="172.16.0.2", **DF)
IN6 = IPv6(src="fd99::1", dst="fd99::2")
ETHER = Ether(src="02:00:00:00:aa:01", dst="02:00:00:00:aa:02")
PORTS = UDP(sport=1111, dport=2222)
ENDS4, ENDS6 = (A[4], B[4]), (A[6], B[6])
INNER4, INNER6 = ("172.16.0.1", "172.16.0.2"), ("fd99::1", "fd99::2")
UDP4, UDP6 = Flow(*INNER4, 17, 1111, 2222), Flow(*INNER6, 17, 1111, 2222)

# packet, flow, outer: of each the transport header is the last that is given
PACKETS = {
    "udp": (OUT4 / PORTS, Flow(*ENDS4, 17, 1111, 2222), None),
    "tcp": (OUT4 / TCP(sport=80, dport=4), Flow(*ENDS4, 6, 80, 4), None),
    "sctp": (OUT4 / SCTP(sport=80, dport=4), Flow(*ENDS4, 132, 80, 4), None),
    "echo": (OUT4 / ICMP(type=8, id=77), Flow(*ENDS4, 1, 77, None), None),
    "timestamp": (OUT4 / ICMP(type=13, id=77), Flow(*ENDS4, 1), None),
    "esp": (OUT4 / ESP(spi=7), Flow(*ENDS4, 50), None),
    "a protocol without a name": (OUT4.copy() / Raw(b"x" * 8), Flow(*ENDS4, 253), None),
    "options": (
        IP(src=A[4], dst=B[4], options=b"\x01" * 20, **DF) / PORTS,
        Flow(*ENDS4, 17, 1111, 2222),
        None,
    ),
    "first fragment": (
        IP(src=A[4], dst=B[4], flags="DF+MF") / PORTS,
        Flow(*ENDS4, 17, 1111, 2222),
        None,
    ),
    "later fragment": (IP(src=A[4], dst=B[4], frag=9, proto=17, **DF), Flow(*ENDS4, 17), None),
    "udp6": (OUT6 / PORTS, Flow(*ENDS6, 17, 1111, 2222), None),
    "echo6": (OUT6 / ICMPv6EchoRequest(id=78), Flow(*ENDS6, 58, 78, None), None),
    "extension headers": (
        OUT6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / PORTS,
        Flow(*ENDS6, 17, 1111, 2222),
        None,
    ),
    "routing header": (
        OUT6 / IPv6ExtHdrRouting(addresses=["fd99::9"], segleft=0) / PORTS,
        Flow(*ENDS6, 17, 1111, 2222),
        None,
    ),
    "first fragment of IPv6": (
        OUT6 / IPv6ExtHdrFragment(offset=0, m=1) / PORTS,
        Flow(*ENDS6, 17, 1111, 2222),
        None,
    ),
    "later fragment of IPv6": (
        OUT6 / IPv6ExtHdrFragment(offset=99, nh=17),
        Flow(*ENDS6, 17),
        None,
    ),
    "authenticated": (
        OUT6 / AH(nh=17, payloadlen=4, icv=b"x" * 12) / PORTS,
        Flow(*ENDS6, 17, 1111, 2222),
        None,
    ),
    "ipip": (OUT4 / IN4 / PORTS, UDP4, Outer(*ENDS4, 4)),
    "sit": (OUT4 / IN6 / PORTS, UDP6, Outer(*ENDS4, 41)),
    "ip6ip6": (OUT6 / IN6 / PORTS, UDP6, Outer(*ENDS6, 41)),
    "ipip6": (OUT6 / IN4 / PORTS, UDP4, Outer(*ENDS6, 4)),
    "gre": (OUT4 / GRE() / IN4 / PORTS, UDP4, Outer(*ENDS4, 47)),
    "gre, key, checksum, sequence": (
        OUT4 / GRE(key_present=1, key=5, chksum_present=1, seqnum_present=1) / IN6 / PORTS,
        UDP6,
        Outer(*ENDS4, 47),
    ),
    "gretap": (OUT6 / GRE(proto=0x6558) / ETHER / IN4 / PORTS, UDP4, Outer(*ENDS6, 47)),
    "vxlan": (
        OUT4 / UDP(sport=9, dport=4789) / VXLAN(vni=7) / ETHER / IN6 / PORTS,
        UDP6,
        Outer(*ENDS4, 17),
    ),
    "vxlan, two tags": (
        OUT6
        / UDP(sport=9, dport=4789)
        / VXLAN(vni=7)
        / ETHER
        / Dot1AD(vlan=3)
        / Dot1Q(vlan=4)
        / IN4
        / PORTS,
        UDP4,
        Outer(*ENDS6, 17),
    ),
    "vxlan of ARP": (
        OUT4 / UDP(sport=9, dport=4789) / VXLAN(vni=7) / ETHER.copy() / Raw(b"x" * 28),
        Flow(*ENDS4, 17, 9, 4789),
        None,
    ),
    "port of vxlan, without its flag": (
        OUT4 / UDP(sport=9, dport=4789) / Raw(bytes(60)),
        Flow(*ENDS4, 17, 9, 4789),
        None,
    ),
    "geneve": (
        OUT4 / UDP(sport=9, dport=6081) / GENEVE(vni=7) / ETHER / IN4 / PORTS,
        UDP4,
        Outer(*ENDS4, 17),
    ),
    "gre in ipip": (
        OUT4 / IP(src="192.0.2.1", dst="192.0.2.2") / GRE() / IN4 / PORTS,
        UDP4,
        Outer(*ENDS4, 4),
    ),
}
LENGTH = 1478


def octets_of(packet):
    """Return the packet with payload up to 1478 octets, and lengths and checksums to match."""
    return bytes(packet / Raw(bytes(LENGTH - len(packet))))


@pytest.fixture(scope="module")
def net():
    with lab.built(routed()) as net:
        yield net


@pytest.fixture(scope="module")
def tracer(net):
    with Tracer(Settings(netns={net["r"].inum}, every=True)) as tracer:
        yield tracer


def send(net, *packets):
    """Put packets on the cable from a to the router, behind Ethernet headers."""
    ends = {"src": net["a"].macs["a0"], "dst": net["r"].macs["ra"]}
    frames = {four: bytes(Ether(**ends, type=0x0800 if four else 0x86DD)) for four in (True, False)}

    def body():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as cable:
            cable.bind(("a0", 0))
            for octets in packets:
                cable.send(frames[octets[0] >> 4 == 4] + octets)

    net["a"].run(body)


@pytest.mark.parametrize("name", PACKETS)
def test_flow(name, net, tracer):
    packet, flow, outer = PACKETS[name]
    packet = packet.copy()
    if name == "a protocol without a name":
        packet[IP].proto = 253
    if name == "vxlan of ARP":
        packet[Ether].type = 0x0806
    send(net, octets_of(packet))
    (event,) = tracer.poll()
    assert (event.flow, event.outer) == (flow, outer)
    assert (event.length, event.mtu) == (LENGTH, 1400)


IN_UDP = UDP(sport=4500, dport=4500)


@pytest.mark.parametrize(
    ("packet", "spi"),
    [
        (OUT4 / ESP(spi=7), 7),
        (OUT6 / ESP(spi=0xFFFFFFFF), 0xFFFFFFFF),
        (OUT4 / IN_UDP / ESP(spi=8), 8),
        (OUT6 / UDP(sport=4500, dport=1024) / ESP(spi=9), 9),
        (OUT4 / IN_UDP / Raw(bytes(8)), None),  # IKE
        (OUT4 / PORTS / ESP(spi=7), None),
    ],
)
def test_esp_is_named_by_its_spi(packet, spi, net, tracer):
    send(net, octets_of(packet))
    (event,) = tracer.poll()
    assert event.spi == spi
    assert event.outer is None


def damaged(octets, noise):
    """Return a packet with some octets changed, those of its addresses not; still a header."""
    octets = bytearray(octets)
    four = octets[0] >> 4 == 4
    addresses = range(12, 20) if four else range(8, 40)
    for _ in range(noise.randrange(1, 6)):
        at = noise.randrange(140)
        if at not in addresses:
            octets[at] = noise.randrange(256)
    if noise.random() < 0.3:
        octets = octets[: noise.randrange(1380, LENGTH)]
    header = (octets[0] & 15) * 4
    if four and header >= 20:
        if noise.random() < 0.5:
            octets[2:4] = len(octets).to_bytes(2, "big")
        octets[10:12] = bytes(2)
        octets[10:12] = checksum(bytes(octets[:header])).to_bytes(2, "big")
    return bytes(octets)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_whatever_comes_is_counted_and_told_as_the_kernel_says(seed, plain, net):
    noise = random.Random(seed)  # noqa: S311 -- the same damage each time
    whole = [octets_of(packet) for packet, _, _ in PACKETS.values()]
    before = net["r"].counters()
    with Tracer(Settings(netns={net["r"].inum}, every=True, plain=plain)) as tracer:
        send(net, *(damaged(octets, noise) for octets in whole * 20))
        events, losses = tracer.poll(), tracer.losses()
        counted = sum(counter.packets for counter in tracer.counters().values())
    after = net["r"].counters()

    def moved(*names):
        return sum(after[name] - before.get(name, 0) for name in names)

    told = [event for event in events if event.verdict == "told"]
    assert losses == dict.fromkeys(losses, 0)
    assert len(events) == counted == moved("IpFragFails", "Ip6FragFails") > 300
    assert len(told) == moved("IcmpOutDestUnreachs", "Icmp6OutPktTooBigs")
