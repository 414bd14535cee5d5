"""UDP to ports where nobody listens: the answer is a short port unreachable.

It tells of one direction only, which is what tells a hole on the way there from one on the way
back. Any user may send it. Hosts limit such answers, Linux to six and then one a second
(icmp_ratelimit, inet_peer_xrlim_allow() of net/ipv4/inetpeer.c).
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from pmtutrace.probing.sockets import Socket, arrived
from pmtutrace.probing.transport import Arrived

if TYPE_CHECKING:
    from pmtutrace.probing.errqueue import SocketError
    from pmtutrace.probing.sockets import Address
    from pmtutrace.probing.transport import Answer

UDP_HEADER = 8
# The ports of traceroute(8), which firewalls know. Each probe has one of its own: a router need
# not quote more than the header, so the port is all that tells which probe it means.
PORT, PORTS = 33434, 512
BURST = 6
INTERVAL_S = {socket.AF_INET: 1.05, socket.AF_INET6: 0.3}  # IPv6: shorter the wider the route


class Bucket:
    """A guess at how many answers the far end still has to give.

    Args:
        burst: how many it gives at once after a long silence.
        interval: seconds after which it has one more.
        now: the time.
    """

    def __init__(self, burst: int, interval: float, now: float) -> None:
        self._burst, self._interval = burst, interval
        self._left, self._at = float(burst), now

    def take(self, now: float, many: float) -> None:
        """Note that it gave so many."""
        self._refill(now)
        self._left = max(0.0, self._left - many)

    def empty(self, now: float) -> None:
        """Note that it gave none although it was asked."""
        self._left, self._at = 0.0, now

    def rest(self, now: float) -> float:
        """Return the seconds until it can give one."""
        self._refill(now)
        return max(0.0, (1 - self._left) * self._interval)

    def _refill(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._at) / self._interval)
        self._at = now


class Datagrams(Socket):
    """Datagrams to one address.

    Raises:
        OSError: the kernel refused.
    """

    name = "udp"

    def __init__(self, family: socket.AddressFamily, address: Address, device: str | None) -> None:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self._ports: dict[int, int] = {}
        self._bucket = Bucket(BURST, INTERVAL_S[family], time.monotonic())
        try:
            super().__init__(sock, address, device)
        except OSError:
            sock.close()
            raise

    def rest(self) -> float:
        """Return the seconds until the far end can be expected to answer again."""
        return self._bucket.rest(self.now())

    def deaf(self) -> None:
        """Expect nothing for a while."""
        self._bucket.empty(self.now())

    def _put(self, number: int, length: int) -> None:
        port = PORT + number % PORTS
        self._ports[port] = number
        host, _, *scope = self.address
        self._sock.sendto(bytes(length - UDP_HEADER), (host, port, *scope))

    def _take(self) -> Answer | None:
        # Somebody listens after all, and has something to say.
        _, address = self._sock.recvfrom(1)
        return arrived(self._ports.get(address[1]))

    def _about(self, error: SocketError) -> int | None:
        return self._ports.get(error.port)

    def _says(self, number: int, error: SocketError) -> Answer:
        if error.port_unreachable and error.by == self.address[0].partition("%")[0]:
            self._bucket.take(self.now(), 1)
            return Arrived(number)
        return super()._says(number, error)
