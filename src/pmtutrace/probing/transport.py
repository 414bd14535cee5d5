"""What a search needs of the network: to send packets of any length, and to hear of them.

Real ones are :mod:`.echo` and :mod:`.datagram`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Arrived:
    """Say that a packet reached its destination.

    ``whole`` says that the answer, as long as the packet, has also come all the way back.
    """

    probe: int
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Say that a packet was too big for somebody.

    ``mtu`` is None where the message names none (RFC 792 had no field for it), ``by`` None where
    this kernel itself has refused to send.
    """

    probe: int
    mtu: int | None
    by: str | None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Say that a packet cannot reach its destination at any length.

    ``why`` is the kernel's word for the error, ``by`` None where this kernel itself said it.
    """

    probe: int
    why: str
    by: str | None


Answer = Arrived | Refused | Unreachable


class Transport(Protocol):
    """A way to send packets and to hear of them.

    ``name`` is that of the protocol. Probes are numbered in the order in which they are sent.
    """

    name: str

    def now(self) -> float:
        """Return the time, seconds of a clock that never goes back."""
        ...

    def send(self, length: int) -> int:
        """Send a packet of so many octets, IP header included, with DF; return its number."""
        ...

    def wait(self, until: float) -> list[Answer]:
        """Wait for answers; return them as soon as there are any, none when the time has come."""
        ...

    def rest(self) -> float:
        """Return for how many seconds the far end may not answer, because it has answered a lot."""
        ...

    def deaf(self) -> None:
        """Take note that nothing at all was answered to a flight."""
        ...
