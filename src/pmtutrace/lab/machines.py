"""Machines that are busy all the time: connections, pings, jobs by the clock.

Each runs in a thread of its own until it is stopped; its sockets are opened inside its node's
namespace and stay there. Times are nanoseconds since 1970.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import select
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pmtutrace.lab import packets
from pmtutrace.lab.traffic import DPORT, IP_MTU_DISCOVER, PMTUDISC, SPORT

if TYPE_CHECKING:
    from pmtutrace.lab.net import Net

MESSAGE = 4096  # octets that a connection sends at once: more than fit into one packet
EVERY_S = 0.1
LAST_ANSWER_S = 2.0
GIVES_UP_MS = 1500  # TCP_USER_TIMEOUT of a connection: patience in the scale of the lab's time
FRAG_NEEDED = bytes((3, 4))  # type and code
ETH_P_IP = 0x0800
PING = 84  # what ping(8) sends if it is not told otherwise


class Machine(abc.ABC):
    """Something that goes on, in a thread, from entering the context to leaving it."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._body, name=type(self).__name__, daemon=True)
        self.failed: OSError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and wait until it has. Can be called again."""
        self.ended.set()
        self._thread.join()

    def _body(self) -> None:
        try:
            self.work()
        except OSError as error:
            if not self.ended.is_set():
                self.failed = error

    @abc.abstractmethod
    def work(self) -> None:
        """Go on until :attr:`ended`."""


@dataclass(frozen=True, slots=True)
class Where:
    """From which node and address to which."""

    node: str
    saddr: str
    daddr: str
    port: int = DPORT


class Listener(Machine):
    """Takes TCP connections to an address and reads whatever comes."""

    def __init__(self, net: Net, daddr: str, port: int = DPORT) -> None:
        super().__init__()
        node, _ = net.owner(daddr)
        self._socket = node.run(lambda: socket.create_server((daddr, port)))

    def work(self) -> None:
        """Read from all connections as octets come."""
        held = [self._socket]
        while not self.ended.is_set():
            ready, _, _ = select.select(held, [], [], EVERY_S)
            for one in ready:
                if one is self._socket:
                    held.append(one.accept()[0])
                elif not _read(one):
                    held.remove(one)
                    one.close()
        for one in held:
            one.close()


def _read(connection: socket.socket) -> bool:
    """Read what is there; False once nothing more will come."""
    with contextlib.suppress(OSError):
        return bool(connection.recv(1 << 16))
    return False


class Connection(Machine):
    """A TCP connection over which a message goes ten times a second; a new one once it is lost.

    ``made`` and ``lost`` are the times of those events.
    """

    def __init__(self, net: Net, where: Where) -> None:
        super().__init__()
        self.made: list[int] = []
        self.lost: list[int] = []
        self._node = net[where.node]
        self._where = where

    def work(self) -> None:
        """Send messages; connect again when the kernel has given up."""
        while not self.ended.is_set():
            with self._node.run(self._connected) as connection:
                self.made.append(time.time_ns())
                try:
                    while not self.ended.wait(EVERY_S):
                        connection.sendall(bytes(MESSAGE))
                except OSError:
                    self.lost.append(time.time_ns())

    def _connected(self) -> socket.socket:
        to = (self._where.daddr, self._where.port)
        connection = socket.create_connection(to, source_address=(self._where.saddr, 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVES_UP_MS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


class Pings(Machine):
    """Pings of the default size, four a second; ``sent`` and ``answered`` count them."""

    def __init__(self, net: Net, where: Where) -> None:
        super().__init__()
        self.sent = 0
        self.answered = 0
        self._where = where
        self._socket = net[where.node].run(
            lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        )

    def work(self) -> None:
        """Send one, and count what has come back, until it ends; wait for the last answer."""
        with self._socket as sender:
            sender.bind((self._where.saddr, 0))
            sender.settimeout(EVERY_S)
            while not self.ended.wait(EVERY_S * 2):
                request = packets.echo_request(self._where.daddr, PING - 20, self.sent)
                sender.sendto(request, (self._where.daddr, 0))
                self.sent += 1
                self._count(sender)
            sender.settimeout(LAST_ANSWER_S)
            self._count(sender)

    def _count(self, sender: socket.socket) -> None:
        with contextlib.suppress(TimeoutError):
            while self.answered < self.sent:
                octets = sender.recv(1 << 16)
                self.answered += octets[20:21] == b"\0"  # type 0: an echo reply


class Ear(Machine):
    """Counts the frag-needed that arrive at a device, whatever a firewall then makes of them."""

    def __init__(self, net: Net, node: str, dev: str) -> None:
        super().__init__()
        self.heard = 0
        self._socket = net[node].run(lambda: _tap(dev))
        net.stack.callback(self._socket.close)

    def work(self) -> None:
        """Count, until it ends; then what has come until then."""
        while not self.ended.is_set():
            self._hear()
        self._socket.setblocking(False)
        self._hear()

    def _hear(self) -> None:
        with contextlib.suppress(TimeoutError, BlockingIOError):
            while True:
                packet = self._socket.recv(1 << 16)
                header = (packet[0] & 0xF) * 4
                is_icmp = packet[9] == socket.IPPROTO_ICMP
                self.heard += is_icmp and packet[header : header + 2] == FRAG_NEEDED
                if self.ended.is_set():
                    self._socket.setblocking(False)


def _tap(dev: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    tap.bind((dev, ETH_P_IP))
    tap.settimeout(EVERY_S)
    return tap


class Job(Machine):
    """Something that a machine does again and again by the clock: datagrams from many ports.

    A router that hashes ports sends some of them by each of its ways. ``began`` and ``done`` are
    when each run began and ended, ``late_s`` how late one began at most.

    Args:
        net: the lab.
        where: from where to where.
        length: octets of each IP packet; they have DF. A run ends when the machine itself has
            learned that this is too much.
        count: datagrams of each run.
        gap_s: seconds from one to the next.
        period_s: seconds from the beginning of one run to that of the next.
    """

    def __init__(
        self, net: Net, where: Where, *, length: int, count: int, gap_s: float, period_s: float
    ) -> None:
        super().__init__()
        self.began: list[int] = []
        self.done: list[int] = []
        self.late_s = 0.0
        self._where = where
        self._payload = bytes(length - 28)
        self._gap_s, self._period_s = gap_s, period_s
        self._senders = net[where.node].run(lambda: [_sender(where, i) for i in range(count)])
        net.stack.callback(self._close)

    def _close(self) -> None:
        for sender in self._senders:
            sender.close()

    def work(self) -> None:
        """Run when it is time."""
        start = time.monotonic()
        while not self.ended.is_set():
            due = start + len(self.began) * self._period_s
            self.late_s = max(self.late_s, time.monotonic() - due)
            self.began.append(time.time_ns())
            self._run()
            self.done.append(time.time_ns())
            self.ended.wait(start + len(self.began) * self._period_s - time.monotonic())

    def _run(self) -> None:
        for sender in self._senders:
            try:
                sender.sendto(self._payload, (self._where.daddr, self._where.port))
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                return
            if self.ended.wait(self._gap_s):
                return


def _sender(where: Where, number: int) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC["do"])
    sender.bind((where.saddr, SPORT + number))
    return sender
