"""What a scenario is: a topology, traffic, and what must be seen of it by us and by the kernel."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pmtutrace.errors import LabError
from pmtutrace.lab.traffic import COUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmtutrace.lab.topology import Topology
    from pmtutrace.lab.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Expected:
    """The drops that must be counted: exactly ``count``, all alike.

    ``dev`` of ``node`` is the device that they were to leave by, None where nothing shows it,
    ``tunnel`` the name of the tunnel that they were for. ``outer`` says that they had their outer
    header already: it is the outer packet that died, and the flow is still that of the inner one.
    ``blind`` names the kernel function without which nothing shows the cause: it must be
    ``unknown`` where that cannot be attached to. ``saddr`` is the source where it is not that of
    the traffic, ``ends`` are both addresses where neither is.
    """

    site: str
    verdict: str
    mtu: int
    dev: str | None
    cause: str | None = None
    count: int = COUNT
    node: str = "r"
    tunnel: str | None = None
    outer: bool = False
    saddr: str | None = None
    blind: str | None = None
    ends: tuple[str, str] | None = None


def split(mtu: int, dev: str, tunnel: str, count: int = COUNT) -> Expected:
    """Return what is expected of a tunnel's outer packets that leave in fragments."""
    return Expected("other", "none", mtu, dev, count=count, tunnel=tunnel, outer=True)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A counter of the kernel's own that must move by ``delta``; named as in :mod:`.mib`.

    ``EMSGSIZE`` is the number of those errors that the sender's system calls returned. Where
    ``less`` names a second one, it is their difference that must; ``plus`` is added. A ``recent``
    one is not in every kernel, and then no evidence.
    """

    node: str
    counter: str
    delta: int
    less: str | None = None
    recent: bool = False
    plus: str | None = None

    @property
    def name(self) -> str:
        """Return what it is called in results: ``r IpFragFails``."""
        less = f" - {self.less}" if self.less else ""
        return f"{self.node} {self.counter}{less}" + (f" + {self.plus}" if self.plus else "")

    def value(self, counters: Mapping[str, int]) -> int:
        """Return its value among a node's counters.

        Raises:
            LabError: the kernel has no such counter.
        """
        try:
            more = counters[self.plus] if self.plus else 0
            return counters[self.counter] - (counters[self.less] if self.less else 0) + more
        except KeyError as error:
            raise LabError(f"this kernel has no counter {error.args[0]}") from error


@dataclass(frozen=True, slots=True)
class Scenario:
    """One declaration. ``expected`` None is a control: traffic of which nothing is dropped.

    ``then`` are the drops of a second kind, where the kernel has learned from the first, or the
    news of those was dropped in its turn. ``prelude`` is sent before, and nothing of it may be
    dropped; with ``flush``, what waits in queues is freed afterwards. ``targets`` are kernel
    functions and tracepoints without which what is expected cannot be seen. ``fragments`` are outer
    packets that must be counted as having left in fragments, see :func:`split`.
    """

    name: str
    title: str
    topology: Topology
    traffic: Traffic
    expected: Expected | None
    kernel: tuple[Evidence, ...]
    then: tuple[Expected, ...] = ()
    prelude: tuple[Traffic, ...] = ()
    flush: bool = False
    targets: tuple[str, ...] = ()
    fragments: Expected | None = None

    @property
    def drops(self) -> tuple[Expected, ...]:
        """Return all kinds of drops that must be counted."""
        return (self.expected, *self.then) if self.expected else ()

    @property
    def count(self) -> int:
        """Return how many drops must be counted."""
        return sum(drop.count for drop in self.drops)

    @property
    def hooks(self) -> tuple[str, ...]:
        """Return the hooks without which nothing of it can be seen."""
        socket = self.expected is not None and self.expected.verdict == "local"
        return ("local",) if socket else ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the features of the kernel and the host that building it takes."""
        found = ["veth", *(tunnel.type for tunnel in self.topology.tunnels)]
        found += ["ipsec"] * bool(self.topology.security)
        found += [bridge.type for bridge in self.topology.bridges]
        found += ["nftables"] * bool(self.topology.rules)
        return tuple(dict.fromkeys(found))

    def json(self) -> dict[str, Any]:
        """Return the whole declaration as one line of ``pmtutrace lab list -j``."""
        kernel = {item.name: item.delta for item in self.kernel}
        return {**asdict(self), "kernel": kernel, "count": self.count, "needs": self.needs}
