"""What both transports share: a socket that sends with DF at any length, and hears errors.

IP_PMTUDISC_PROBE sets DF, ignores every path MTU that the kernel has learned or been given, and
keeps only to the MTU of the device (ip(7)); IPv6 has the same, and IPV6_DONTFRAG besides, so that
nothing is fragmented here.
"""

from __future__ import annotations

import abc
import errno
import os
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from pmtutrace.probing import errqueue
from pmtutrace.probing.transport import Answer, Arrived, Refused, Unreachable

if TYPE_CHECKING:
    from types import TracebackType

    from pmtutrace.probing.errqueue import SocketError

    Address = tuple[str, int] | tuple[str, int, int, int]

IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, IPV6_DONTFRAG = 10, 23, 62  # linux/in.h, linux/in6.h
PMTUDISC_PROBE = 3
IP_HEADER = {socket.AF_INET: 20, socket.AF_INET6: 40}
SENDS = 3
ROOM_S = 0.1  # for the device's queue to take what is waiting


class Socket(abc.ABC):
    """A transport on a socket of its own.

    Args:
        sock: the socket; it is closed with this object.
        address: where to send, port 0.
        device: the device that packets must leave by; None leaves it to routing.

    Raises:
        OSError: the kernel refused an option.
    """

    name: str

    def __init__(self, sock: socket.socket, address: Address, device: str | None) -> None:
        self.family, self.address = sock.family, address
        self._sock = sock
        self._number = 0
        self._early: deque[Answer] = deque()
        self._fits: int | None = None  # what this kernel itself said that it would send
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN | select.POLLERR)
        sock.setblocking(False)
        if device is not None:
            option = os.fsencode(device) + b"\0"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, option)
        if self.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
            sock.setsockopt(socket.IPPROTO_IP, errqueue.IP_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, errqueue.IPV6_RECVERR, 1)

    def __enter__(self) -> Socket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sock.close()

    def now(self) -> float:
        """Return the time of the monotonic clock."""
        return time.monotonic()

    def send(self, length: int) -> int:
        """Send one packet; what goes wrong at once is an answer like any other."""
        self._number += 1
        number, failure = self._number, None
        for _ in range(SENDS):
            self._hear()
            # An error about an earlier packet would be raised in place of sending this one.
            self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            try:
                self._put(number, length - IP_HEADER[self.family])
            except BlockingIOError:
                select.select((), (self._sock,), (), ROOM_S)
            except OSError as error:
                failure = error
            else:
                return number
        if failure is not None:
            self._failed(number, failure)
        return number

    def wait(self, until: float) -> list[Answer]:
        """Wait for answers, at most until that time."""
        while True:
            self._hear()
            if self._early:
                answers = list(self._early)
                self._early.clear()
                return answers
            left = until - time.monotonic()
            if left <= 0:
                return []
            self._poll.poll(max(1, left * 1000))

    def rest(self) -> float:
        """Return 0: nobody is expected to limit answers."""
        return 0.0

    def deaf(self) -> None:  # noqa: B027 -- nothing follows from it where nobody limits answers
        """Do nothing about it."""

    @abc.abstractmethod
    def _put(self, number: int, length: int) -> None:
        """Send a packet with so many octets behind its IP header.

        Raises:
            OSError: it was not sent.
        """

    @abc.abstractmethod
    def _take(self) -> Answer | None:
        """Receive one packet; return what it says, None where it is not about a probe.

        Raises:
            BlockingIOError: there is none.
        """

    @abc.abstractmethod
    def _about(self, error: SocketError) -> int | None:
        """Return the number of the probe that an ICMP message quotes; None where it is not ours."""

    def _says(self, number: int, error: SocketError) -> Answer:
        """Return what an ICMP message about a probe says."""
        if error.code == errno.EMSGSIZE:
            return Refused(number, error.mtu, error.by)
        return Unreachable(number, os.strerror(error.code), error.by)

    def _hear(self) -> None:
        """Take in all that has come."""
        while error := errqueue.read(self._sock):
            if error.by is None:
                self._fits = error.mtu or self._fits
            number = self._about(error) if error.by else None
            if number is not None:
                self._early.append(self._says(number, error))
        while True:
            try:
                answer = self._take()
            except BlockingIOError:
                return
            except OSError:
                return  # the error of an entry that has been read already; recv() clears it
            if answer is not None:
                self._early.append(answer)

    def _failed(self, number: int, failure: OSError) -> None:
        """Note that this kernel did not send a packet, and why."""
        if failure.errno == errno.EMSGSIZE:
            self._hear()
            self._early.append(Refused(number, self._fits, None))
        elif failure.errno not in (errno.ENOBUFS, errno.EPERM):
            why = os.strerror(failure.errno or 0)
            self._early.append(Unreachable(number, why, None))
        # No room in a queue is an accident. EPERM is a filter of this host's: one that drops
        # longer packets only is a hole like any other, and no message comes of it.


def arrived(number: int | None, *, whole: bool = False) -> Arrived | None:
    """Return the answer for a probe that came through; None where it is nobody's."""
    return None if number is None else Arrived(number, whole)
