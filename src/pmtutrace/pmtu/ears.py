"""Raw ICMP sockets, one for each family in each namespace, where nothing better hears of messages.

They get a copy of each message that the kernel also takes up itself, and no other packet: filters
in the kernel leave the rest out. They must not be taken for somebody who sends: the kernel would
set path MTUs because of news that nobody here has asked for.

In a storm a socket is never empty. So a look takes a fixed number of messages and leaves the rest
where it is: the kernel drops, and counts, what a socket has no room for.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from pmtutrace.pmtu.news import News

if TYPE_CHECKING:
    from collections.abc import Iterator

RECEIVED_AT_MOST = 65535
LOOK_AT_MOST = 50  # messages of a socket: twenty looks a second make it the thousand of a program
# When nobody will look again: more than a socket has room for, unless somebody has made it more.
LAST_AT_MOST = 4096
NSEC = 1_000_000_000
UNREACHABLE, FRAG_NEEDED, TOO_BIG = 3, 4, 2
# linux/in.h, linux/in6.h, linux/icmp.h, linux/icmpv6.h, linux/filter.h
IP_MTU_DISCOVER, IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 10, 8, 49, 50
PMTUDISC_OMIT = 5  # such a socket's errors change no route: ip_sk_accept_pmtu()
SOL_RAW, ICMP_FILTER, ICMPV6_FILTER = 255, 1, 1
SO_ATTACH_FILTER, SO_TIMESTAMPNS, SO_MEMINFO = 26, 35, 55
MEMINFO, DROPS = struct.Struct("=9I"), 8  # linux/sock_diag.h: SK_MEMINFO_DROPS
PKTINFO = struct.Struct("=I4s4s")  # struct in_pktinfo
PKTINFO6 = struct.Struct("=16sI")
TIMESPEC = struct.Struct("=qq")
MESSAGE = struct.Struct("!BBHHH")  # type, code, checksum, unused, MTU
ROOM = socket.CMSG_SPACE(PKTINFO6.size) + socket.CMSG_SPACE(TIMESPEC.size)
# Classic BPF over an IPv4 packet: is the octet behind the ICMP type a 4?
CODE_IS_FRAG_NEEDED = (
    (0xB1, 0, 0, 0),  # x = length of the IP header
    (0x50, 0, 0, 1),  # a = the octet at x + 1
    (0x15, 0, 1, FRAG_NEEDED),
    (0x06, 0, 0, 0xFFFFFFFF),
    (0x06, 0, 0, 0),
)


@dataclasses.dataclass(slots=True)
class _Heard:
    """A socket, the inode of its namespace, and what it had no room for when last asked."""

    inum: int
    socket: socket.socket
    dropped: int = 0


class Ear:
    """The sockets of one namespace. Closed, they are heard no more."""

    def __init__(self, ears: Ears, sockets: list[socket.socket]) -> None:
        self._ears = ears
        self._sockets = sockets

    def close(self) -> None:
        """Let go of the namespace."""
        for one in self._sockets:
            self._ears.forget(one)
            one.close()


class Ears:
    """All of them, asked at once whether there is anything."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._open: dict[int, _Heard] = {}
        self._left: list[News] = []  # by those that are closed
        self._lost = 0

    def close(self) -> None:
        """Stop listening; each ear is closed by whoever opened it."""
        self._open.clear()
        self._epoll.close()

    def fileno(self) -> int:
        """Return a descriptor that can be read while there is something to hear."""
        return self._epoll.fileno()

    def open(self, inum: int, families: frozenset[int]) -> Ear:
        """Return the ear of the calling thread's namespace, whose inode this is."""
        with contextlib.ExitStack() as stack:
            made = []
            for family in sorted(families):
                one = stack.enter_context(_heard4() if family == 4 else _heard6())
                made.append(one)
                self._epoll.register(one, select.EPOLLIN)
            stack.pop_all()
        self._open.update((one.fileno(), _Heard(inum, one)) for one in made)
        return Ear(self, made)

    def forget(self, one: socket.socket) -> None:
        """Take what a socket that is about to be closed has heard, and what it has lost."""
        heard = self._open.pop(one.fileno(), None)
        if heard is not None:
            self._epoll.unregister(one)
            self._left += _messages(heard, LAST_AT_MOST)
            self._count(heard)

    def heard(self, *, last: bool = False) -> list[News]:
        """Return messages that have come in, without waiting; ``last`` if nobody asks again."""
        found, self._left = self._left, []
        for one in self._ready():
            found += _messages(one, LAST_AT_MOST if last else LOOK_AT_MOST)
            self._count(one)
        return found

    def lost(self) -> int:
        """Return how many messages have been lost so far because there was no room for them."""
        # One that has lost any since it was last asked is full, and so can be read.
        for one in self._ready():
            self._count(one)
        return self._lost

    def _ready(self) -> list[_Heard]:
        """Return the sockets that have something to be heard."""
        found = self._epoll.poll(0, max(1, len(self._open)))
        return [self._open[number] for number, _ in found]

    def _count(self, one: _Heard) -> None:
        dropped = _dropped(one.socket)
        self._lost += more(one.dropped, dropped)
        one.dropped = dropped


def more(before: int, now: int) -> int:
    """Return by how much a counter of 32 bits has moved, which may have begun anew meanwhile."""
    return now - before & 0xFFFFFFFF


def _dropped(one: socket.socket) -> int:
    """Return how many packets the kernel had for a socket, and no room, in 32 bits.

    What a filter leaves out is not among them, but from 6.9 on (d721812aa875, 026763ece881) the
    kernel looks for room first: as long as there is none, other ICMP counts as well.
    """
    octets = one.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size)
    dropped: int = MEMINFO.unpack(octets)[DROPS]
    return dropped


def _raw(family: socket.AddressFamily, protocol: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_RAW, protocol)
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    made.setblocking(False)
    return made


def _heard4() -> socket.socket:
    made = _raw(socket.AF_INET, socket.IPPROTO_ICMP)
    made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_OMIT)
    made.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    made.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << UNREACHABLE)))
    code = b"".join(struct.pack("=HBBI", *one) for one in CODE_IS_FRAG_NEEDED)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", len(CODE_IS_FRAG_NEEDED), ctypes.addressof(buffer))
    made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    return made


def _heard6() -> socket.socket:
    # Neither connected nor asking for errors, it gets none, and so changes no route: rawv6_err().
    made = _raw(socket.AF_INET6, socket.IPPROTO_ICMPV6)
    made.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
    blocked = [0xFFFFFFFF] * 8
    blocked[TOO_BIG // 32] &= ~(1 << TOO_BIG % 32)
    made.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, struct.pack("=8I", *blocked))
    return made


def _messages(one: _Heard, at_most: int) -> Iterator[News]:
    for _ in range(at_most):
        try:
            octets, told, _, sender = one.socket.recvmsg(RECEIVED_AT_MOST, ROOM)
        except OSError:  # no more, or its namespace goes
            return
        if one.socket.family == socket.AF_INET6:
            news = _news6(one.inum, octets, told, sender[0])
        else:
            news = _news4(one.inum, octets, told)
        if news is not None:
            yield news


def _news4(inum: int, octets: bytes, told: list[tuple[int, int, bytes]]) -> News | None:
    start = (octets[0] & 15) * 4 if octets else 0
    # The kernel looks at the checksum only after it has handed out copies.
    if len(octets) < start + MESSAGE.size or not _sound(octets[start:]):
        return None
    *_, mtu = MESSAGE.unpack_from(octets, start)
    ts, ifindex, _ = _circumstances(told)
    saddr, daddr = (socket.inet_ntop(socket.AF_INET, octets[at : at + 4]) for at in (12, 16))
    quoted = octets[start + MESSAGE.size :]
    return News(ts, inum, 0, 4, saddr, daddr, mtu, quoted, ifindex)


def _news6(
    inum: int, octets: bytes, told: list[tuple[int, int, bytes]], sender: str
) -> News | None:
    if len(octets) < MESSAGE.size:
        return None
    mtu = int.from_bytes(octets[4:8], "big")
    ts, ifindex, to = _circumstances(told)
    quoted = octets[MESSAGE.size :]
    return News(ts, inum, 0, 6, sender.partition("%")[0], to, mtu, quoted, ifindex)


def _circumstances(told: list[tuple[int, int, bytes]]) -> tuple[int, int, str]:
    """Return when a message came in, by which device and, of IPv6, whom it was for."""
    ts, ifindex, to = time.time_ns(), 0, ""
    for level, kind, value in told:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            whole, rest = TIMESPEC.unpack(value)
            ts = whole * NSEC + rest
        elif (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            ifindex = PKTINFO.unpack(value)[0]
        elif (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
            address, ifindex = PKTINFO6.unpack(value)
            to = socket.inet_ntop(socket.AF_INET6, address)
    return ts, ifindex, to


def _sound(message: bytes) -> bool:
    """Say if the Internet checksum over a message is right (RFC 1071)."""
    words = struct.unpack(f"!{len(message) // 2}H", message[: len(message) & ~1])
    total: int = sum(words) + (message[-1] << 8 if len(message) % 2 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF
