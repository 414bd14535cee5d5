"""From the octets of the kernel side to typed events and counters."""

from __future__ import annotations

import functools
import socket
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.events import Counter, CounterKey, Device, Flow, Outer
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmtutrace.layout import Layout
    from pmtutrace.tracing.clock import Ticks

PORTS_SOURCE, PORTS_DESTINATION = 1, 2
OVERFLOW = "overflow"
WHOLE = 1 << 64  # counters are unsigned


def address(octets: bytes, family: int) -> str:
    """Return an address as text; 16 octets, IPv4 mapped. Family 0 has none."""
    if not family:
        return ""
    if family == 4:
        return socket.inet_ntop(socket.AF_INET, octets[12:])
    return socket.inet_ntop(socket.AF_INET6, octets)


def name(octets: bytes) -> str:
    """Return an interface name or the like, which ends at the first zero.

    Names are hostile: what is not printable is escaped.
    """
    return printable(octets.partition(b"\0")[0].decode(errors="surrogateescape"))


class Sums(NamedTuple):
    """``struct flow_count`` over all CPUs; times are jiffies."""

    packets: int
    bytes: int
    first: int
    last: int
    max_length: int
    mtu: int


class Decoder:
    """Decodes keys and counts of one layout.

    Args:
        layout: the layout of the image that writes them.
        sites: number to name.
    """

    def __init__(self, layout: Layout, sites: dict[int, str]) -> None:
        self.layout = layout
        self.sites = sites
        self.verdicts = layout.words("verdict", "VERDICT_")
        self.causes = layout.words("cause", "CAUSE_")
        self.losses = layout.words("loss", "LOSS_")
        self._count = layout.codec("flow_count")
        self._key = layout.codec("flow_key")
        self._key_names = layout.names("flow_key")
        # A storm of flows is read again and again with the same keys; memory stays bounded.
        self.key = functools.lru_cache(maxsize=4096)(self._decode_key)

    def _decode_key(self, octets: bytes) -> tuple[CounterKey, int, int]:
        """Return the key, the tunnel id (VNI, GRE key or SPI) and the outer destination port."""
        f = dict(zip(self._key_names, self._key.unpack(octets), strict=True))
        sport = socket.ntohs(f["be_sport"]) if f["has_ports"] & PORTS_SOURCE else None
        dport = socket.ntohs(f["be_dport"]) if f["has_ports"] & PORTS_DESTINATION else None
        outer = None
        if f["outer_family"]:
            family = f["outer_family"]
            outer = Outer(
                address(f["outer_saddr"], family),
                address(f["outer_daddr"], family),
                f["outer_proto"],
            )
        key = CounterKey(
            f["netns"],
            f["ifindex"],
            self.sites.get(f["site"], str(f["site"])),
            self.verdicts.get(f["verdict"], str(f["verdict"])),
            self.causes.get(f["cause"]) if f["cause"] else None,
            f["family"],
            Flow(
                address(f["saddr"], f["family"]),
                address(f["daddr"], f["family"]),
                f["proto"],
                sport,
                dport,
            ),
            outer,
            Device(f["maker_netns"], f["maker_ifindex"]) if f["maker_ifindex"] else None,
        )
        return key, f["tunnel_id"], socket.ntohs(f["be_outer_dport"])

    def sums(self, octets: bytes) -> Sums:
        """Add up one per-CPU value: a ``struct flow_count`` for each possible CPU.

        One of them may have gone below zero, when it gave back what another had counted.
        """
        names = self.layout.names("flow_count")
        rows = [
            f
            for f in (dict(zip(names, r, strict=True)) for r in self._count.iter_unpack(octets))
            if (f["packets"] + f["nested_packets"]) % WHOLE
        ]
        if not rows:
            return Sums(0, 0, 0, 0, 0, 0)
        latest = max(rows, key=lambda f: f["last"])
        return Sums(
            sum(f["packets"] + f["nested_packets"] for f in rows) % WHOLE,
            sum(f["bytes"] + f["nested_bytes"] for f in rows) % WHOLE,
            min((f["first"] for f in rows if f["first"]), default=0),
            latest["last"],
            max(f["max_length"] for f in rows),
            latest["mtu"],
        )

    def overflow_key(self, index: int) -> CounterKey:
        """Return the key of an overflow entry: only verdict and cause are known."""
        cause = index & 31
        return CounterKey(
            0,
            0,
            OVERFLOW,
            self.verdicts.get(index >> 5, str(index >> 5)),
            self.causes.get(cause) if cause else None,
            0,
            Flow("", "", 0),
            None,
        )

    def counters(
        self, items: Iterable[tuple[bytes, bytes]], clock: Ticks
    ) -> dict[CounterKey, Counter]:
        """Return counters by key. Keys that differ only in their tunnel id are added up.

        Args:
            items: key and per-CPU value of each entry.
            clock: turns jiffies into nanoseconds since the Unix epoch.
        """
        out: dict[CounterKey, Counter] = {}
        for key_octets, value in items:
            add(out, self._decode_key(key_octets)[0], self.sums(value), clock)
        return out


def add(to: dict[CounterKey, Counter], key: CounterKey, sums: Sums, clock: Ticks) -> None:
    """Add sums to the counter of a key, if they count anything."""
    if not sums.packets:
        return
    new = Counter(
        sums.packets,
        sums.bytes,
        sums.max_length,
        sums.mtu,
        clock.epoch_ns(sums.first),
        clock.epoch_ns(sums.last),
    )
    old = to.get(key)
    to[key] = new if old is None else old.joined(new)
