"""A frag-needed or packet-too-big that arrived, and what became of it.

Pure: what there is to know of the kernel comes with the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pmtutrace.events import Flow

IPV6_MINIMUM = 1280
# linux/net/ipv4/icmp.c: icmp_unreach(). With 3, only what checks that the message is not made up.
NOBODY, STRICT = 2, 3
STRICT_PROTOCOLS = (6, 33, 132)  # TCP, DCCP, SCTP


class News(NamedTuple):
    """A message as it arrived.

    ``ts`` is in nanoseconds since 1970. ``router`` is whom it came from, ``to`` whom it was sent
    to, ``mtu`` what it reports, ``quoted`` the octets of the packet that it is about, from its IP
    header on and as many as there are. ``dev`` may be empty where only its index is known.
    """

    ts: int
    netns: int
    cpu: int
    family: int
    router: str
    to: str
    mtu: int
    quoted: bytes
    ifindex: int
    dev: str = ""


class InForce(NamedTuple):
    """The MTU in force on the way to an address, and whether that is locked."""

    mtu: int
    locked: bool


class Outcome(NamedTuple):
    """One of :data:`pmtutrace.events.OUTCOMES`, and the MTU in force then; None if not seen."""

    word: str
    effective: int | None


def applied(mtu: int, *, locked: bool) -> Outcome:
    """Return the outcome of a message because of which a path MTU was set.

    The kernel locks what it sets only where it sets it to more than the message reports.
    """
    return Outcome("clamped" if locked else "applied", mtu)


def ignored(news: News, outermost: Flow, now: InForce | None, no_pmtu_disc: int) -> Outcome:
    """Return why the kernel has set nothing because of a message: its own tests, in its order.

    Args:
        news: the message.
        outermost: the packet that it quotes, by its first IP header; without addresses if there
            is none that can be read.
        now: what is in force on the way to its destination after that; None if there is no way.
        no_pmtu_disc: ``net.ipv4.ip_no_pmtu_disc``.
    """
    if not outermost.saddr:
        return Outcome("unknown", None)
    return Outcome(_why(news, outermost, now, no_pmtu_disc), now.mtu if now else None)


def _why(news: News, outermost: Flow, now: InForce | None, no_pmtu_disc: int) -> str:
    kept = no_pmtu_disc == STRICT and outermost.proto not in STRICT_PROTOCOLS
    if outermost.saddr != news.to:
        return "not_sent_here"
    if news.family == 6 and news.mtu < IPV6_MINIMUM:
        return "below_minimum"
    if news.family == 4 and (kept or no_pmtu_disc == NOBODY):
        return "no_pmtu_disc"
    if now is None:
        return "unknown"
    if now.locked and news.family == 4:
        return "locked"
    return "not_lower" if now.mtu <= news.mtu else "no_match"
