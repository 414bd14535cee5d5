"""Reading all path MTU exceptions of one network namespace, as often as once a second.

A library for netlink would cost the tracer more memory than all else that it does, and a process of
its own would cost more time than the kernel's whole answer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.errors import PmtutraceError
from pmtutrace.kernel import links, netlink, netns
from pmtutrace.pmtu import exceptions, ways
from pmtutrace.pmtu.changes import NSEC, TOLERANCE, Dump
from pmtutrace.pmtu.news import InForce

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pmtutrace.pmtu.ears import Ears
    from pmtutrace.pmtu.exceptions import PathMtu, Way

ATTEMPTS = 5
# Nanoseconds that we may be kept from running in a call: what a part says would be taken for that
# much younger.
KEPT_AT_MOST = TOLERANCE // 2
SWITCH = 0  # no family
NO_PMTU_DISC = "/proc/sys/net/ipv4/ip_no_pmtu_disc"
INIT = "/proc/1/ns/net"
# What cuts off exceptions, or may. Nexthops have notifications of their own from 5.3 on.
GROUPS = (
    netlink.LINK,
    netlink.IPV4_ADDRESS,
    netlink.IPV4_ROUTE,
    netlink.IPV6_ADDRESS,
    netlink.IPV6_ROUTE,
    netlink.NEXTHOP,
)
OF_A_FAMILY = range(20, 28)  # RTM_NEWADDR to RTM_GETROUTE begin with their address family


class _Clocks(NamedTuple):
    """What it is by two clocks, nanoseconds: one goes on while we are kept from running."""

    monotonic: int
    ours: int


def _clocks() -> _Clocks:
    return _Clocks(time.monotonic_ns(), time.thread_time_ns())


def _kept(began: _Clocks, ended: _Clocks) -> int:
    return ended.monotonic - began.monotonic - (ended.ours - began.ours)


class Reader:
    """Reads the namespace that it is made in.

    Two sockets, so that a storm of route changes cannot disturb a dump.

    Args:
        inum: inode of that namespace.
        families: what to read, of 4 and 6.
        ears: where to hear of messages that arrive; None if nobody wants that, or knows better.
    """

    def __init__(
        self,
        inum: int,
        families: frozenset[int] = frozenset((4, 6)),
        ears: Ears | None = None,
    ) -> None:
        self._inum = inum
        self._families = families
        self._sequence = 0
        self._kept = 0  # nanoseconds that one call of the last answer took, and we did not run
        self._bell = netlink.opened(GROUPS)
        self._asked = netlink.opened()
        self._asked.setsockopt(netlink.SOL_NETLINK, netlink.GET_STRICT_CHECK, 1)
        self._sysctls = {family: _lifetime_file(family) for family in sorted(families)}
        self._sysctls[SWITCH] = _switch_file()
        self._ear = ears.open(inum, families) if ears else None

    def close(self) -> None:
        """Let go of the namespace."""
        if self._ear is not None:
            self._ear.close()
        self._bell.close()
        self._asked.close()
        for descriptor in self._sysctls.values():
            if descriptor is not None:
                os.close(descriptor)

    def read(self, unmet: Iterable[PathMtu] = ()) -> Dump:
        """Read all exceptions.

        Args:
            unmet: exceptions whose routes to ask for first: a dump may leave them out.

        Raises:
            OSError: the kernel refuses, or what it says cannot be understood.
        """
        asked = time.time_ns()
        met, answers = self._ask(unmet)
        ts, monotonic = time.time_ns(), time.monotonic_ns()
        found = []
        for family in sorted(self._families):
            found += [
                item._replace(expires=item.expires + (at - monotonic) / NSEC)
                if item.expires is not None
                else item
                for item, at in self._dump(family)
            ]
        done = ts + time.monotonic_ns() - monotonic
        devices = {item.ifindex for item in (*found, *answers)}
        return Dump(
            self._inum,
            ts,
            done,
            monotonic,
            tuple(found),
            self._families,
            {f: seconds for f in self._families if (seconds := self._number(f)) is not None},
            {index: links.name(self._asked, index) for index in devices},
            self._rerouted(),
            met,
            answers,
            asked=asked,
            mtus={index: links.mtu(self._asked, index) for index in devices},
        )

    def in_force(self, daddr: str) -> InForce | None:
        """Return the MTU in force on the way to an address now, None where there is no way."""
        try:
            ifindex, mtu, locked = exceptions.in_force(self._route(daddr))
            return InForce(mtu or links.mtu(self._asked, ifindex), locked)
        except OSError:
            return None

    def no_pmtu_disc(self) -> int:
        """Return ``net.ipv4.ip_no_pmtu_disc``; 0, the default, where it cannot be read."""
        return int(self._number(SWITCH) or 0)

    def _ask(self, unmet: Iterable[PathMtu]) -> tuple[frozenset[Way], tuple[PathMtu, ...]]:
        """Ask for the routes of exceptions; return which ways they are, and what IPv6 found there.

        IPv4 shows in the next dump what it found.
        """
        met, answers = set(), []
        for item in unmet:
            if item.saddr is not None:
                continue  # nobody can say which other route that would lead to
            # IPv6 knows no such flag, and tells the table in any case.
            flags = ways.RTM_F_LOOKUP_TABLE if item.family == 4 else 0
            with contextlib.suppress(OSError):
                route = self._route(item.daddr, item.ifindex, flags)
                answer = exceptions.exception(route) if item.family == 6 else None
                if answer is None or answer.expires is None:
                    met.add(exceptions.way(route))
                else:
                    answers.append(answer._replace(saddr=None))  # the source "::" of the question
        return frozenset(met), tuple(answers)

    def _route(self, daddr: str, oif: int | None = None, flags: int = 0) -> bytes:
        """Return the route that packets to an address take now.

        Raises:
            OSError: there is none.
        """
        self._sequence += 1
        request = ways.request(daddr, oif=oif, flags=flags, sequence=self._sequence)
        answers = [p for kind, _, p, _ in self._answer(request) if kind == exceptions.RTM_NEWROUTE]
        if not answers:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        return answers[0]

    def _dump(self, family: int) -> list[tuple[PathMtu, int]]:
        """Return the exceptions, each with CLOCK_MONOTONIC when it was read."""
        for attempt in range(ATTEMPTS):
            self._sequence += 1
            request = exceptions.request(family, self._sequence)
            found, interrupted = [], False
            for kind, flags, payload, at in self._answer(request):
                interrupted |= bool(flags & netlink.INTERRUPTED)
                if kind == exceptions.RTM_NEWROUTE and (item := exceptions.exception(payload)):
                    found.append((item, at))
            if not interrupted and (self._kept <= KEPT_AT_MOST or attempt):
                break
        # A kernel without IPv6 answers for all families that it has.
        return [(item, at) for item, at in found if item.family == family]

    def _answer(self, request: bytes) -> Iterator[tuple[int, int, bytes, int]]:
        """Yield what answers a request, up to its end, with CLOCK_MONOTONIC of each part.

        The kernel writes the first part while it is asked, and each other one while that before it
        is taken (netlink_recvmsg() calls netlink_dump()).
        """
        began = _clocks()
        self._asked.send(request)
        later = _clocks()
        self._kept = _kept(began, later)
        while True:
            at, began = later.monotonic, _clocks()
            octets, later = self._asked.recv(netlink.RECEIVED_AT_MOST), _clocks()
            self._kept = max(self._kept, _kept(began, later))
            for kind, flags, sequence, payload in netlink.messages(octets):
                if sequence != self._sequence:
                    continue  # of a dump that failed in the middle
                if kind in (netlink.ERROR, netlink.DONE):
                    if code := netlink.outcome(payload):
                        raise OSError(code, os.strerror(code), "netlink")
                    return
                yield kind, flags, payload, at

    def _rerouted(self) -> frozenset[int]:
        """Return the families whose ways may have changed since last asked."""
        found: set[int] = set()
        for octets in netlink.heard(self._bell):
            if not octets:
                found.update(self._families)  # it overflowed
            for kind, _, _, payload in netlink.messages(octets):
                of_one = kind in OF_A_FAMILY and payload
                found.update(
                    family
                    for family in self._families
                    if not of_one or payload[0] == exceptions.FAMILIES[family]
                )
        return frozenset(found)

    def _number(self, which: int) -> float | None:
        """Return a sysctl: the seconds that a new exception of a family has, or the switch.

        None where it cannot be read.
        """
        descriptor = self._sysctls[which]
        try:
            return None if descriptor is None else float(os.pread(descriptor, 32, 0))
        except (OSError, ValueError):
            return None


def _switch_file() -> int | None:
    try:
        return os.open(NO_PMTU_DISC, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _lifetime_file(family: int) -> int | None:
    """Open the calling thread's ``mtu_expires``; what is open stays that of this namespace."""
    path = f"/proc/sys/net/ipv{family}/route/mtu_expires"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    except OSError:
        return None
    # Before 5.18 (1de6b15a434c) IPv4 had one for the whole host, seen in the first namespace only.
    try:
        with netns.entered(INIT):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, PmtutraceError):
        return None
