"""Whatever was captured of a message, reading it does not fail."""

import ipaddress

from hypothesis import example, given
from hypothesis import strategies as st

from pmtutrace.tracing.icmp import read_message

FIRST = st.sampled_from([0x45, 0x46, 0x4F, 0x40, 0x60, 0x6F, 0x00, 0xFF])


@given(st.binary(max_size=160))
@example(b"\x60".ljust(28, b"\0"))  # as many octets of an IPv6 address as IPv4 has
def test_any_octets(packet):
    check(read_message(packet))


@given(FIRST, st.binary(min_size=27, max_size=60), FIRST, st.binary(max_size=120))
def test_what_begins_like_a_message(outer, middle, inner, rest):
    check(read_message(bytes([outer]) + middle + bytes([inner]) + rest))


@given(st.binary(max_size=128), st.integers(0, 128))
def test_cutting_it_off_only_takes_away(packet, length):
    whole, cut = read_message(packet), read_message(packet[:length])
    if cut.quoted.saddr:
        assert cut.quoted.saddr == whole.quoted.saddr
    if cut.quoted.sport is not None:
        assert cut.quoted == whole.quoted


def check(message):
    assert message.family in (4, 6)
    assert 0 <= message.mtu < 2**32
    for address in (message.to, message.quoted.saddr, message.quoted.daddr):
        assert not address or ipaddress.ip_address(address).version == message.family
    assert 0 <= message.quoted.proto < 256
    for port in (message.quoted.sport, message.quoted.dport):
        assert port is None or 0 <= port < 65536
