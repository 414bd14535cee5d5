"""What is read from the kernel: error queues and checksums; and the guess at a rate limit."""

import errno
import socket
import struct

import pytest

from pmtutrace.errors import UsageError
from pmtutrace.probing import check, errqueue
from pmtutrace.probing.datagram import Bucket
from pmtutrace.probing.echo import checksum


def extended(code, origin, kind, subcode, info, offender=b""):
    return struct.pack("=IBBBxII", code, origin, kind, subcode, info, 0) + offender


V4 = struct.pack("=HH", socket.AF_INET, 0) + bytes([192, 0, 2, 9]) + bytes(8)
V6 = struct.pack("=HHI", socket.AF_INET6, 0, 0) + socket.inet_pton(socket.AF_INET6, "2001:db8::9")


@pytest.mark.parametrize(
    ("data", "by", "mtu", "port_unreachable"),
    [
        (extended(errno.EMSGSIZE, 2, 3, 4, 1400, V4), "192.0.2.9", 1400, False),
        (extended(errno.EMSGSIZE, 2, 3, 4, 0, V4), "192.0.2.9", None, False),
        (extended(errno.EMSGSIZE, 3, 2, 0, 1280, V6), "2001:db8::9", 1280, False),
        (extended(errno.EMSGSIZE, 1, 0, 0, 1500), None, 1500, False),
        (extended(errno.ECONNREFUSED, 2, 3, 3, 0, V4), "192.0.2.9", None, True),
        (extended(errno.ECONNREFUSED, 3, 1, 4, 0, V6), "2001:db8::9", None, True),
        (extended(errno.EHOSTUNREACH, 2, 3, 1, 7, V4), "192.0.2.9", None, False),
        (extended(errno.EHOSTUNREACH, 2, 3, 1, 0, bytes(16)), None, None, False),
        (extended(errno.EHOSTUNREACH, 2, 3, 1, 0), None, None, False),
    ],
)
def test_an_entry_of_the_error_queue(data, by, mtu, port_unreachable):
    error = errqueue.parse(data, b"quoted", 33434)
    assert (error.by, error.mtu, error.port_unreachable) == (by, mtu, port_unreachable)
    assert error.port == 33434
    assert error.quoted == (b"" if data[4] == errqueue.LOCAL else b"quoted")


def test_checksum():
    """An echo request of ping(8), from RFC 1071's rule: what is sent sums up to nothing."""
    head = bytes.fromhex("0800000000170001")
    value = checksum(head)
    assert checksum(head[:2] + value.to_bytes(2) + head[4:]) == 0
    assert value == 0xF7E7


def test_the_bucket_fills_and_empties():
    bucket = Bucket(6, 1.0, 0.0)
    assert bucket.rest(0.0) == 0
    bucket.take(0.0, 6)
    assert bucket.rest(0.0) == pytest.approx(1.0)
    assert bucket.rest(0.75) == pytest.approx(0.25)
    assert bucket.rest(1.0) == 0
    bucket.empty(100.0)
    assert bucket.rest(100.0) == pytest.approx(1.0)


@pytest.mark.parametrize("dest", ["", " ", "224.0.0.1", "ff02::1", "::", "255.255.255.255"])
def test_what_cannot_be_one_host(dest):
    with pytest.raises(UsageError):
        check(dest)


@pytest.mark.parametrize("dest", ["localhost", "192.0.2.1", "2001:db8::1", "fe80::1%eth0", "a b"])
def test_what_may_be_one(dest):
    check(dest)
