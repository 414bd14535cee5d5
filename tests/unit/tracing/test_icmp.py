"""Messages as scapy makes them are read as scapy meant them."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

from pmtutrace.events import Flow
from pmtutrace.tracing.icmp import Message, read_message

SIX = {"src": "2001:db8::1", "dst": "2001:db8::2"}


def frag_needed(quoted, **ip):
    head = IP(src="192.0.2.9", dst="10.0.0.1", **ip)
    return bytes(head / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(bytes(quoted)))


def too_big(quoted):
    return bytes(IPv6(**SIX) / ICMPv6PacketTooBig(mtu=1280) / Raw(bytes(quoted)))


INNER = {"src": "10.0.0.1", "dst": "10.0.0.2"}
INNER6 = {"src": "fd00::1", "dst": "fd00::2"}


@pytest.mark.parametrize(
    ("packet", "flow"),
    [
        (IP(**INNER) / UDP(sport=2323, dport=9), Flow(*INNER.values(), 17, 2323, 9)),
        (IP(**INNER) / TCP(sport=1, dport=65535), Flow(*INNER.values(), 6, 1, 65535)),
        (IP(**INNER, options=b"\x01" * 8) / UDP(sport=5, dport=6), Flow(*INNER.values(), 17, 5, 6)),
        (IP(**INNER, frag=100) / Raw(b"no header"), Flow(*INNER.values(), 0)),
        (IP(**INNER, frag=1, proto=17) / Raw(b"no header"), Flow(*INNER.values(), 17)),
        (IP(**INNER, proto=50) / Raw(b"12345678"), Flow(*INNER.values(), 50)),
        (IP(**INNER, proto=17), Flow(*INNER.values(), 17)),
    ],
)
def test_frag_needed(packet, flow):
    assert read_message(frag_needed(packet)) == Message(4, "10.0.0.1", 1400, flow)


@pytest.mark.parametrize(
    ("packet", "flow"),
    [
        (IPv6(**INNER6) / UDP(sport=2323, dport=9), Flow(*INNER6.values(), 17, 2323, 9)),
        (IPv6(**INNER6) / TCP(sport=1, dport=2), Flow(*INNER6.values(), 6, 1, 2)),
        (IPv6(**INNER6, nh=59), Flow(*INNER6.values(), 59)),
    ],
)
def test_packet_too_big(packet, flow):
    assert read_message(too_big(packet)) == Message(6, "2001:db8::2", 1280, flow)


def test_options_of_the_message_itself():
    quoted = IP(**INNER) / UDP(sport=2323, dport=9)
    found = read_message(frag_needed(quoted, options=b"\x01" * 12))
    assert (found.mtu, found.quoted.sport) == (1400, 2323)


def test_a_quoted_header_that_is_too_short_has_no_ports():
    quoted = bytearray(bytes(IP(**INNER) / UDP(sport=2323, dport=9)))
    quoted[0] = 0x41
    assert read_message(frag_needed(bytes(quoted))).quoted == Flow(*INNER.values(), 17)


def test_an_echo_has_its_identifier():
    quoted = IP(**INNER) / ICMP(type=8, id=4711)
    assert read_message(frag_needed(quoted)).quoted == Flow(*INNER.values(), 1, 4711)


def test_what_is_cut_off_is_empty():
    whole = frag_needed(IP(**INNER) / UDP(sport=2323, dport=9))
    assert read_message(whole[:52]) == Message(
        4, "10.0.0.1", 1400, Flow(*INNER.values(), 17, 2323, 9)
    )
    assert read_message(whole[:50]) == Message(4, "10.0.0.1", 1400, Flow(*INNER.values(), 17))
    assert read_message(whole[:47]) == Message(4, "10.0.0.1", 1400, Flow("", "", 0))
    assert read_message(whole[:26]) == Message(4, "10.0.0.1", 0, Flow("", "", 0))
    assert read_message(b"") == Message(4, "", 0, Flow("", "", 0))
