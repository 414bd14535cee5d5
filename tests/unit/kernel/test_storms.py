"""What comes faster than it is taken is taken in pieces."""

import ctypes
import errno
import itertools

from pmtutrace.kernel import libbpf, netlink


class Libbpf:
    """A libbpf whose ring is filled again as soon as anything is taken."""

    def __init__(self, number=None):
        self.left = itertools.count() if number is None else iter(range(number))

    def ring_buffer__new(self, _fd, callback, _context, _options):
        self.callback = callback
        return 1

    def ring_buffer__consume(self, _ring):
        record = ctypes.create_string_buffer(20)
        for _ in self.left:
            if (result := self.callback(None, ctypes.addressof(record), 20)) < 0:
                ctypes.set_errno(-result)
                return result
        return 100


def test_of_a_ring_no_more_than_it_holds(monkeypatch):
    lib = Libbpf()
    monkeypatch.setattr(libbpf, "_bpf", lambda: lib)
    taken = []
    ring = libbpf.Ring(7, 4096, lambda _data, size: taken.append(size))
    for times in (1, 2):
        ring.consume()
        # 20 octets, their header of 8, and 4 to the next multiple of 8.
        assert taken == [20] * (4096 // 32) * times


def test_of_a_ring_all_that_is_there(monkeypatch):
    lib = Libbpf(100)
    monkeypatch.setattr(libbpf, "_bpf", lambda: lib)
    taken = []
    libbpf.Ring(7, 4096, lambda _data, size: taken.append(size)).consume()
    assert taken == [20] * 100


class Bell:
    """A socket for which there are always more messages, or none."""

    def __init__(self, number):
        self.left = number

    def recv(self, _size, _flags):
        if not self.left:
            raise BlockingIOError
        self.left -= 1
        if self.left == 5:
            raise OSError(errno.ENOBUFS, "")
        return b"ring"


def test_of_a_bell_a_part():
    bell = Bell(10_000)
    assert sum(1 for _ in netlink.heard(bell)) == netlink.HEARD_AT_MOST
    assert bell.left == 10_000 - netlink.HEARD_AT_MOST


def test_of_a_bell_all_and_what_was_lost():
    assert list(netlink.heard(Bell(10))) == [*[b"ring"] * 4, b"", *[b"ring"] * 5]
