"""ICMP echo: the answer is as long as the question, so it tells of both directions at once.

An ordinary user may send echo requests where his group is in ``net.ipv4.ping_group_range``
(icmp(7)); everybody else with CAP_NET_RAW uses a raw socket. Some hosts cut long answers short:
then the question has arrived all the same.
"""

from __future__ import annotations

import secrets
import socket
import struct
from typing import TYPE_CHECKING

from pmtutrace.probing.sockets import Socket, arrived

if TYPE_CHECKING:
    from pmtutrace.probing.errqueue import SocketError
    from pmtutrace.probing.sockets import Address
    from pmtutrace.probing.transport import Answer

PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
SOL_RAW, ICMP_FILTER = 255, 1  # linux/icmp.h
ICMP6_FILTER = 1  # linux/icmpv6.h
SEQUENCES = 1 << 16
LONGEST = 1 << 16


class Echo(Socket):
    """Echo requests to one address.

    Raises:
        PermissionError: this user may not send them.
        OSError: the kernel refused.
    """

    name = "icmp"

    def __init__(self, family: socket.AddressFamily, address: Address, device: str | None) -> None:
        self._raw = False
        self._identifier = 0
        self._lengths: dict[int, int] = {}
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM, PROTOCOL[family])
        except PermissionError:
            sock = socket.socket(family, socket.SOCK_RAW, PROTOCOL[family])
            self._raw = True
            self._identifier = secrets.randbelow(SEQUENCES)
            _replies_only(sock)
        try:
            super().__init__(sock, address, device)
            sock.connect(address)  # so that the kernel drops what others send
        except OSError:
            sock.close()
            raise

    def _put(self, number: int, length: int) -> None:
        sequence = number % SEQUENCES
        self._lengths[sequence] = length
        body = bytes(length - HEADER.size)
        head = HEADER.pack(REQUEST[self.family], 0, 0, self._identifier, sequence)
        # Of IPv6, and of a datagram socket, the kernel makes the checksum.
        if self._raw and self.family == socket.AF_INET:
            value = checksum(head)  # the rest is zero
            head = HEADER.pack(REQUEST[self.family], 0, value, self._identifier, sequence)
        self._sock.send(head + body)

    def _take(self) -> Answer | None:
        # All of it: a ping socket does not tell the true length of what it cuts (ping_recvmsg()).
        data = self._sock.recv(LONGEST)
        if self._raw and self.family == socket.AF_INET:
            data = data[(data[0] & 15) * 4 :]
        if len(data) < HEADER.size or data[0] != REPLY[self.family]:
            return None
        number = self._number_of(data)
        whole = number is not None and len(data) == self._lengths[number]
        return arrived(number, whole=whole)

    def _about(self, error: SocketError) -> int | None:
        if len(error.quoted) < HEADER.size or error.quoted[0] != REQUEST[self.family]:
            return None
        return self._number_of(error.quoted)

    def _number_of(self, message: bytes) -> int | None:
        """Return the number of the probe with this ICMP header; None where it is another's."""
        identifier, sequence = int.from_bytes(message[4:6]), int.from_bytes(message[6:8])
        if sequence not in self._lengths or (self._raw and identifier != self._identifier):
            return None
        return sequence  # fewer are ever sent than there are sequence numbers


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of octets."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - int(total)


def _replies_only(sock: socket.socket) -> None:
    """Keep everything but echo replies from a raw socket; errors come all the same."""
    if sock.family == socket.AF_INET:
        blocked = struct.pack("=I", 0xFFFFFFFF & ~(1 << REPLY[socket.AF_INET]))
        sock.setsockopt(SOL_RAW, ICMP_FILTER, blocked)
    else:
        words = [0xFFFFFFFF] * 8
        words[REPLY[socket.AF_INET6] // 32] &= ~(1 << REPLY[socket.AF_INET6] % 32)
        sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("=8I", *words))
