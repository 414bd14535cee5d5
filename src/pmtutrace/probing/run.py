"""Probe destinations: resolve, ask the kernel, search, ask again, judge."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from pmtutrace.errors import UsageError
from pmtutrace.probing import flights
from pmtutrace.probing.belief import believed
from pmtutrace.probing.datagram import Datagrams
from pmtutrace.probing.echo import Echo
from pmtutrace.probing.flights import Log
from pmtutrace.probing.result import Result
from pmtutrace.probing.search import SMALLEST, Search
from pmtutrace.probing.verdict import NARROWEST, Judgement, News, Path, Under, judge, recursive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pmtutrace.probing.belief import Belief
    from pmtutrace.probing.sockets import Address
    from pmtutrace.tunnels.tunnel import Tunnel

AT_ONCE = 64
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
VERSIONS = {family: version for version, family in FAMILIES.items()}
NO_ECHO = "ICMP echo is not permitted to this user"
LET_ECHO = "run it as root, or let your group: sysctl net.ipv4.ping_group_range"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to probe: IP version (None: what the name gives first), and the tunnel to go through."""

    version: int | None = None
    tunnel: Tunnel | None = None
    tunnels: Mapping[int, Tunnel] = field(default_factory=dict)


def tunnels() -> dict[int, Tunnel]:
    """Return the tunnels of the calling thread's namespace by ifindex."""
    from pmtutrace.tunnels import dump

    dump.teach()
    return {tunnel.ifindex: tunnel for tunnel in dump.links(0)}


def check(dest: str) -> None:
    """Refuse what cannot be a single host.

    Raises:
        UsageError: it is empty, or an address of many or of none.
    """
    if not dest.strip():
        raise UsageError("a destination is empty", "give a host name or an address")
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(dest)
        if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
            raise UsageError(f"{dest} is not one host's address", "give that of a single host")


def probe_all(dests: Sequence[str], wanted: Wanted) -> Iterator[Result]:
    """Probe several destinations at once; yield in the order given, each as soon as it is known."""
    slots = threading.BoundedSemaphore(AT_ONCE)
    futures: list[Future[Result]] = [Future() for _ in dests]

    def work(dest: str, future: Future[Result]) -> None:
        with slots:
            try:
                future.set_result(probe(dest, wanted))
            except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
                future.set_exception(error)

    for dest, future in zip(dests, futures, strict=True):
        # Daemons, so that ^C need not wait for any of them.
        threading.Thread(target=work, args=(dest, future), daemon=True).start()
    for future in futures:
        yield future.result()


def probe(dest: str, wanted: Wanted) -> Result:
    """Probe one destination. What goes wrong with it is a result as well."""
    run = _Run(dest, wanted)
    try:
        return run.result()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return run.failed(why[:1].lower() + why[1:])


class _Run:
    """One destination while it is being probed."""

    def __init__(self, dest: str, wanted: Wanted) -> None:
        self._dest, self._wanted = dest, wanted
        self._at, self._began = time.time_ns(), time.monotonic()
        self._daddr: str | None = None
        self._device = wanted.tunnel.name if wanted.tunnel else None
        self._under: Under | None = None
        self._logs: list[Log] = []
        self._refused = ""  # why there is no ICMP echo

    def result(self) -> Result:
        """Do it all.

        Raises:
            OSError: there is no such host, no route to it, or the kernel refused.
        """
        family, address = resolve(self._dest, self._wanted.version)
        self._daddr = address[0]
        oif = self._wanted.tunnel.ifindex if self._wanted.tunnel else None
        before = believed(address[0], oif)
        tunnel = self._wanted.tunnels.get(before.ifindex)
        if tunnel is not None and tunnel.remote is not None:
            self._under = below(tunnel)
        with contextlib.ExitStack() as stack:
            log = flights.reach(self._opened(family, address, stack), _smallest(family, before))
            if log is None:
                return self._unanswered()
            search = Search(SMALLEST[VERSIONS[family]], before.dev_mtu, (before.mtu,))
            flights.fly(log, search)
            mtu, answered = search.low, search.low if log.whole == search.low else None
            if answered and search.silent:
                mtu = max(mtu, self._one_way(family, address, search, log, stack))
        after = believed(address[0], oif)
        narrow = min(mtu, before.mtu, after.mtu) < before.dev_mtu
        if self._under and narrow and not self._under.recursive:
            self._under = measured(self._under)
        path = Path(
            family=VERSIONS[family],
            mtu=mtu,
            round_trip=answered,
            silent=search.silent,
            news=self._news(mtu),
            before=before,
            after=after,
            under=self._under,
            fails=max(mtu + 1, search.high or 0),
            settled=search.settled and not _answers_may_be_lost(log, search, VERSIONS[family]),
        )
        return self._report(judge(path), path, log)

    def failed(self, why: str, hint: str = "") -> Result:
        """Return the result where nothing could be measured."""
        found = recursive(self._under) if self._under and self._under.recursive else None
        judgement = found or Judgement("no_answer", why, hint)
        return self._report(judgement, None, None)

    def _opened(
        self, family: socket.AddressFamily, address: Address, stack: contextlib.ExitStack
    ) -> list[Log]:
        """Open what this user may: echo first, for it tells of both directions."""
        try:
            self._logs.append(Log(stack.enter_context(Echo(family, address, self._device))))
        except PermissionError:
            self._refused = NO_ECHO
        self._logs.append(Log(stack.enter_context(Datagrams(family, address, self._device))))
        return self._logs

    def _one_way(
        self,
        family: socket.AddressFamily,
        address: Address,
        search: Search,
        log: Log,
        stack: contextlib.ExitStack,
    ) -> int:
        """Return the longest packet that gets there, whatever comes back; 0 where nobody says."""
        once = Log(stack.enter_context(Datagrams(family, address, self._device)))
        self._logs.append(once)
        if flights.reach((once,), search.smallest, (log.patience, log.patience)) is None:
            return 0
        there = Search(search.smallest, search.top, (search.low,))
        # One flight says whether more gets there than comes back; only then how much matters.
        flights.fly(once, there, 1)
        if there.low > search.low:
            flights.fly(once, there)
        return there.low

    def _news(self, mtu: int) -> News | None:
        """Return what was said about the shortest packet that was refused."""
        refusals = [item for log in self._logs for item in log.refusals if item[0] > mtu]
        if not refusals:
            return None
        _, refusal = min(refusals, key=lambda item: item[0])
        return News(refusal.by, refusal.mtu)

    def _unanswered(self) -> Result:
        said = next((log.unreachable for log in self._logs if log.unreachable), None)
        if said:
            by = f", says {said.by}" if said.by else ""
            return self.failed(said.why[:1].lower() + said.why[1:] + by)
        if self._refused:
            return self.failed(f"no answer over UDP, and {self._refused}", LET_ECHO)
        return self.failed(
            "no answer, neither to ICMP echo nor from a closed UDP port",
            "probe a host behind it that does answer",
        )

    def _report(self, judgement: Judgement, path: Path | None, log: Log | None) -> Result:
        return Result(
            dest=self._dest,
            daddr=self._daddr,
            judgement=judgement,
            path=path,
            by=log.transport.name if log else None,
            rtt=min(log.rtts) if log else None,
            probes=sum(len(log.sent) for log in self._logs),
            seconds=time.monotonic() - self._began,
            under=self._under,
            at=self._at,
        )


def resolve(dest: str, version: int | None) -> tuple[socket.AddressFamily, Address]:
    """Return the family and the socket address of a host.

    Raises:
        OSError: there is none of that name, in the resolver's words.
        UnicodeError: it cannot be a name.
    """
    family = FAMILIES[version] if version else socket.AF_UNSPEC
    found, _, _, _, address = socket.getaddrinfo(dest, 0, family, socket.SOCK_DGRAM)[0]
    return found, cast("Address", address)


def below(tunnel: Tunnel) -> Under | None:
    """Return what the kernel believes of the path between a tunnel's endpoints."""
    remote = tunnel.remote or ""
    if ipaddress.ip_address(remote).is_multicast:
        return None  # VXLAN floods to it; its far ends are many
    try:
        belief = believed(remote, tunnel.link)
    except OSError:
        return None
    return Under(
        tunnel=tunnel.name,
        remote=remote,
        overhead=tunnel.overhead,
        mtu=None,
        believed=belief,
        recursive=belief.ifindex == tunnel.ifindex,
    )


def measured(under: Under) -> Under:
    """Return the path below with its MTU measured, if the far end answers."""
    path = probe(under.remote, Wanted()).path
    return replace(under, mtu=path.mtu if path else None)


def _answers_may_be_lost(log: Log, search: Search, version: int) -> bool:
    """Say whether silence may as well be that of answers that are too long for the way back.

    A port unreachable quotes as much of the packet as fits into the least MTU (RFC 1812, 4443).
    """
    quoting = search.low + {4: 28, 6: 48}[version]
    return log.transport.name == "udp" and search.silent and quoting < NARROWEST[version]


def _smallest(family: socket.AddressFamily, belief: Belief) -> int:
    return min(SMALLEST[VERSIONS[family]], belief.dev_mtu)
