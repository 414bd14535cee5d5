"""What can be said of each subject of a case: names with values, which rules are about.

A fact that is not known is None, and meets no condition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pmtutrace.events import Counter, CounterKey
    from pmtutrace.tunnels.tunnel import Tunnel

Value = int | float | str | bool | None
KINDS = ("tunnel", "destination", "sender", "site", "namespace")

# What facts are measured in; those that are not here are words, or yes or no.
UNITS = {
    "octets": (
        "mtu", "overhead", "room", "excess", "under_mtu", "path_mtu", "base", "floor", "now",
        "min_pmtu", "told_mtu", "longest", "fragment_mtu", "clamp_size", "clamp_most",
        "probe_mtu", "believed", "hole_first", "hole_last", "news_mtu", "effective",
    ),
    "packets": (
        "refused", "refused_df", "tcp", "fragmented", "packets", "told", "lost", "limited",
        "likely_limited",
    ),
    "s": ("period_s", "episode_s", "expires", "lasted"),
    "messages": ("unsent",),
}  # fmt: skip

Link = tuple[str, int, str | int]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a finding may be about.

    ``kind`` is one of :data:`KINDS`, ``name`` what it is called: a device, an address, two
    addresses, a function, an empty string. Subjects that share a link are about the same tunnel or
    the same path. ``times`` are pairs of since and until, by what they are the times of; until None
    means that it goes on.
    """

    kind: str
    netns: int
    name: str
    facts: Mapping[str, Value]
    links: frozenset[Link] = frozenset()
    times: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sums:
    """Counters added up."""

    packets: int = 0
    longest: int = 0
    mtu: int = 0
    first: int | None = None
    last: int | None = None

    @property
    def times(self) -> tuple[int | None, int | None]:
        """Return since when, and until when."""
        return self.first, self.last


def added(items: Iterable[tuple[CounterKey, Counter]]) -> Sums:
    """Return the sum of counters; the MTU is the least of theirs."""
    counters = [counter for _, counter in items]
    if not counters:
        return Sums()
    return Sums(
        sum(c.packets for c in counters),
        max(c.max_length for c in counters),
        min((c.mtu for c in counters if c.mtu), default=0),
        min(c.first for c in counters),
        max(c.last for c in counters),
    )


def path_link(netns: int, daddr: str) -> Link:
    """Return what subjects about a destination share."""
    return "path", netns, daddr


def tunnel_link(tunnel: Tunnel) -> Link:
    """Return what subjects about a tunnel share."""
    return "tunnel", tunnel.netns, tunnel.ifindex


def version(address: str) -> str:
    """Return the option of ip(8) for an address's IP version."""
    return "-6" if ":" in address else "-4"


def shown(text: str | None) -> str | None:
    """Return a name as it may be shown."""
    return None if text is None else printable(text)
