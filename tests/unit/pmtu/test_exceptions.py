"""Netlink octets into exceptions: as kernels send them, and as nobody should."""

import contextlib
import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtutrace.kernel import netlink
from pmtutrace.pmtu import exceptions
from pmtutrace.pmtu.exceptions import PathMtu

# Bodies of RTM_NEWROUTE as Linux 6.18 sent them (x86-64).
LOCKED = bytes.fromhex(
    "02200000fe0000010002000008000f00fe000000080001000a0002030800040002000000080005000a0001fe"
    "140008000800010004000000080002002802000024000c00010000002a00000020ea00000000000000000000"
    "000000000000000000000000"
)
FOUR = PathMtu(4, "10.0.2.3", None, 2, "10.0.1.254", 254, 552, True, 599.36)
CLONE = bytes.fromhex(
    "0a800000fe0300010002000008000f00fe0000001400010020010db80002000000000000000000030c000800"
    "080002001405000008000600000400001400050020010db80001000000000000000000fe0800040002000000"
    "24000c0001000000340000002cea000000000000000000000000000000000000000000000500140000000000"
)
SIX = PathMtu(
    6, "2001:db8:2::3", None, 2, "2001:db8:1::fe", 254, mtu=1300, locked=False, expires=599.48
)


@contextlib.contextmanager
def refused_or_not():
    """Let pass only the one error that malformed octets may cause."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EBADMSG:
            raise


def attribute(kind, value):
    body = netlink.ATTRIBUTE.pack(4 + len(value), kind) + value
    return body + bytes(-len(body) % 4)


def number(value):
    return struct.pack("=I", value)


def message(item, *, flags=exceptions.RTM_F_CLONED, left=None, lock=None):
    """Return the body that tells of an exception."""
    family = exceptions.FAMILIES[item.family]
    address = {4: socket.AF_INET, 6: socket.AF_INET6}[item.family]
    length = 32 if item.family == 4 else 128
    body = exceptions.ROUTE.pack(family, length, 0, 0, min(item.table, 252), 0, 0, 1, flags)
    body += attribute(exceptions.TABLE, number(item.table))
    body += attribute(exceptions.DST, socket.inet_pton(address, item.daddr))
    if item.saddr:
        body += attribute(exceptions.SRC, socket.inet_pton(address, item.saddr))
    if item.gateway and (":" in item.gateway) == (item.family == 6):
        body += attribute(exceptions.GATEWAY, socket.inet_pton(address, item.gateway))
    elif item.gateway:
        via = struct.pack("=H", socket.AF_INET6) + socket.inet_pton(socket.AF_INET6, item.gateway)
        body += attribute(exceptions.VIA, via)
    body += attribute(exceptions.OIF, number(item.ifindex))
    locks = (1 << exceptions.MTU if item.locked else 0) if lock is None else lock
    metrics = attribute(exceptions.LOCK, number(locks))
    metrics += attribute(exceptions.MTU, number(item.mtu))
    body += attribute(exceptions.METRICS | 0x8000, metrics)  # NLA_F_NESTED
    ticks = round((item.expires or 0) * exceptions.USER_HZ) if left is None else left
    return body + attribute(exceptions.CACHEINFO, exceptions.CACHE.pack(1, 2, ticks) + bytes(20))


ADDRESSES = {
    4: st.ip_addresses(v=4).map(str),
    6: st.binary(min_size=16, max_size=16).map(lambda a: socket.inet_ntop(socket.AF_INET6, a)),
}


@st.composite
def items(draw):
    family = draw(st.sampled_from((4, 6)))
    return PathMtu(
        family,
        draw(ADDRESSES[family]),
        draw(st.none() | ADDRESSES[6]) if family == 6 else None,
        draw(st.integers(1, 2**31 - 1)),
        draw(st.none() | ADDRESSES[family] | ADDRESSES[6]),
        draw(st.integers(1, 2**32 - 1)),
        draw(st.integers(68, 2**32 - 1)),
        draw(st.booleans()),
        draw(st.integers(1, 2**31 - 1)) / 100,
    )


def test_what_a_kernel_sent():
    assert exceptions.exception(LOCKED) == FOUR
    assert exceptions.exception(CLONE) == SIX


@given(items())
def test_what_is_told_is_read(item):
    assert exceptions.exception(message(item)) == item


def test_a_request_is_what_strict_checking_asks_for():
    ((kind, flags, sequence, body),) = netlink.messages(exceptions.request(6, 7))
    assert (kind, flags, sequence) == (exceptions.RTM_GETROUTE, 0x301, 7)
    assert exceptions.ROUTE.unpack(body) == (socket.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0x200)


def test_routes_and_redirects_are_no_path_mtu():
    assert exceptions.exception(message(FOUR, flags=0)) is None
    redirect = exceptions.ROUTE.pack(socket.AF_INET, 32, 0, 0, 254, 0, 0, 1, 0x200)
    redirect += attribute(exceptions.DST, bytes(4))
    assert exceptions.exception(redirect) is None
    assert exceptions.exception(b"\7" + LOCKED[1:]) is None  # AF_BRIDGE, say


def test_a_redirect_that_took_a_path_mtu_along():
    found = exceptions.exception(message(FOUR, flags=0x200 | exceptions.RTCF_REDIRECTED))
    assert found == FOUR._replace(redirected=True)


def test_a_lock_of_another_metric_is_none():
    item = exceptions.exception(message(FOUR, lock=1 << 3))
    assert item == FOUR._replace(locked=False)


def test_no_time_left_is_none_of_ipv4_and_forever_of_ipv6():
    """IPv4: the MTU is then the one that the route has, and was not learned."""
    assert exceptions.exception(message(FOUR, left=0)) is None
    six = PathMtu(6, "fd77::1", None, 2, None, 254, 1300, False, None)
    assert exceptions.exception(message(six)) == six


def test_a_table_of_eight_bits_where_no_other_is_told():
    body = LOCKED[:12] + LOCKED[20:]
    assert exceptions.exception(body) == FOUR


@given(st.binary(max_size=200))
def test_any_octets_are_read_or_refused(octets):
    with refused_or_not():
        exceptions.exception(octets)


@given(items(), st.data())
def test_a_body_cut_or_bent_is_read_or_refused(item, data):
    body = bytearray(message(item))
    for _ in range(data.draw(st.integers(0, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])
    with refused_or_not():
        found = exceptions.exception(cut)
        assert found is None or isinstance(found, PathMtu)


class TestMessages:
    def test_several_in_one_go(self):
        one = netlink.HEADER.pack(19, 24, 2, 5, 0) + b"abc\0"
        two = netlink.HEADER.pack(20, netlink.DONE, 2, 5, 0) + bytes(4)
        assert list(netlink.messages(one + two)) == [(24, 2, 5, b"abc"), (3, 2, 5, bytes(4))]

    @given(st.binary(max_size=120))
    def test_any_octets_are_read_or_refused(self, octets):
        with refused_or_not():
            for *_, payload in netlink.messages(octets):
                assert len(payload) <= len(octets) - netlink.HEADER.size

    @pytest.mark.parametrize("length", [0, 4, 15, 17, 2**32 - 1])
    def test_lengths_that_cannot_be(self, length):
        with pytest.raises(OSError, match="netlink"):
            list(netlink.messages(netlink.HEADER.pack(length, 24, 0, 0, 0)))

    @pytest.mark.parametrize("length", [0, 3, 6, 65535])
    def test_lengths_of_attributes_that_cannot_be(self, length):
        with pytest.raises(OSError, match="netlink"):
            netlink.attributes(netlink.ATTRIBUTE.pack(length, 1))

    def test_outcomes(self):
        assert netlink.outcome(struct.pack("=i", -errno.EPERM) + b"more") == errno.EPERM
        assert netlink.outcome(bytes(4)) == 0
        with pytest.raises(OSError, match="netlink"):
            netlink.outcome(b"abc")
