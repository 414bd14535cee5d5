"""Packets that the lab makes, read back by scapy."""

import struct

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import Ether

from pmtutrace.lab import packets

V4, V6 = ("192.0.2.1", "198.51.100.2"), ("2001:db8::1", "2001:db8:1::2")
BOTH = pytest.mark.parametrize(("ends", "header"), [(V4, IP), (V6, IPv6)])


@BOTH
def test_udp(ends, header):
    octets = packets.udp(*ends, 1500, 2323, 9)
    packet = header(octets)
    rebuilt = packet.copy()
    del rebuilt[UDP].chksum
    assert len(octets) == 1500
    assert (packet.src, packet.dst, packet.sport, packet.dport) == (*ends, 2323, 9)
    assert packet[UDP].chksum == header(bytes(rebuilt))[UDP].chksum
    assert packet[UDP].len == 1500 - packets.header_length(ends[0])


def test_an_ipv4_header_has_df_and_a_true_checksum():
    packet = IP(packets.udp(*V4, 100, 1, 2))
    given = packet.chksum
    del packet.chksum
    assert packet.flags == "DF"
    assert IP(bytes(packet)).chksum == given


def test_a_later_fragment_has_df_and_an_offset():
    packet = IP(packets.later_fragment(*V4, 1500))
    assert (len(packet), packet.flags, packet.frag, packet.proto) == (1500, "DF", 64, 17)


def test_an_icmp_error_quotes_a_packet_the_other_way():
    octets = packets.icmp_error(*V4, 1500)
    packet = IP(octets)
    rebuilt = packet.copy()
    del rebuilt[ICMP].chksum
    assert (len(octets), packet[ICMP].type, packet[ICMP].code) == (1500, 3, 1)
    assert packet[ICMP].chksum == IP(bytes(rebuilt))[ICMP].chksum
    assert IP(octets[28:]).dst == V4[0]


def test_an_icmpv6_error_has_a_true_checksum():
    packet = IPv6(packets.icmp_error(*V6, 1500))
    rebuilt = packet.copy()
    del rebuilt[ICMPv6DestUnreach].cksum
    assert len(packet) == 1500
    assert packet[ICMPv6DestUnreach].cksum == IPv6(bytes(rebuilt))[ICMPv6DestUnreach].cksum


def test_an_echo_request_has_a_true_checksum():
    message = ICMP(packets.echo_request("192.0.2.1", 1480, 22))
    given = message.chksum
    del message.chksum
    assert (len(message), message.type, message.seq, message.id) == (1480, 8, 22, 23)
    assert ICMP(bytes(message)).chksum == given


@BOTH
def test_segments_carry_whole_payloads_and_the_kernel_completes_the_checksum(ends, header):
    octets = packets.tcp_segments(*ends, 1400, 23)
    packet = header(octets)
    network = packets.header_length(ends[0])
    assert len(octets) == network + 20 + 23 * (1400 - network - 20)
    # What the kernel does with CHECKSUM_PARTIAL: sum from csum_start, store at csum_offset.
    total = ~packets.checksum(octets[network:]) & 0xFFFF
    rebuilt = packet.copy()
    del rebuilt[TCP].chksum
    assert total == header(bytes(rebuilt))[TCP].chksum


@pytest.mark.parametrize(("ends", "kind", "headers"), [(V4, 1, 54), (V6, 4, 74)])
def test_the_virtio_header_describes_the_segments(ends, kind, headers):
    octets = packets.tcp_segments(*ends, 1400, 3)
    flags, gso, length, size, start, offset = struct.unpack(
        "=BBHHHH", packets.virtio_header(octets, 1400, 14)
    )
    assert (flags, gso, length, size) == (1, kind, headers, 1400 - (headers - 14))
    assert (start, offset) == (headers - 20, 16)


@pytest.mark.parametrize(("address", "kind"), [("192.0.2.1", 0x0800), ("2001:db8::1", 0x86DD)])
def test_ethernet(address, kind):
    frame = Ether(packets.ethernet("02:00:00:00:00:02", "02:00:00:00:00:01", address))
    assert (frame.dst, frame.src, frame.type) == ("02:00:00:00:00:02", "02:00:00:00:00:01", kind)


@pytest.mark.parametrize(
    ("octets", "total"),
    # RFC 1071, section 3: the sum of its example is ddf2.
    [
        (bytes.fromhex("0001f203f4f5f6f7"), 0xDDF2),
        (b"", 0),
        (b"\x01", 0x0100),
        (b"\xff" * 4, 0xFFFF),
    ],
)
def test_checksum(octets, total):
    assert packets.checksum(octets) == total
