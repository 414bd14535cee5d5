"""What the kernel tells of path MTUs: an exception that it has set, a message that has arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.pmtu.exceptions import PathMtu
from pmtutrace.pmtu.news import News
from pmtutrace.tracing import clock, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmtutrace.layout import Layout

ADDRESS = 8  # octets


class Place(NamedTuple):
    """Where a path begins and ends."""

    netns: int
    daddr: str


class Setting(NamedTuple):
    """The kernel's word that it has set an exception; ``inside`` that it takes up a message.

    Without an MTU it is a redirect.
    """

    ts: int
    netns: int
    cpu: int
    item: PathMtu
    dev: str
    via: str
    inside: bool

    @property
    def place(self) -> Place:
        """Return which path it is for."""
        return Place(self.netns, self.item.daddr)


class Reader:
    """Decodes ``struct path_event``.

    Args:
        layout: the layout of the image that writes it.
        function: gives the name of the function at a kernel address, if it is one that matters.
        origins: what sets an exception, by the name of a function on the stack.
    """

    def __init__(
        self, layout: Layout, function: Callable[[int], str], origins: dict[str, tuple[str, bool]]
    ) -> None:
        self._codec = layout.codec("path_event")
        self._names = layout.names("path_event")
        self._received = layout.enums["event_type"]["EVENT_ICMP_RECEIVED"]
        self._function = function
        self._origins = origins

    def read(self, octets: bytes, offset: int) -> News | Setting:
        """Return what it says; ``offset`` leads from CLOCK_BOOTTIME to the Unix epoch."""
        f = dict(zip(self._names, self._codec.unpack(octets), strict=True))
        ts, family, dev = f["ts_ns"] + offset, f["family"], decode.name(f["dev"])
        if f["type"] == self._received:
            return News(
                ts,
                f["netns"],
                f["cpu"],
                family,
                decode.address(f["saddr"], family),
                decode.address(f["daddr"], family),
                f["mtu"],
                f["octets"][: f["caplen"]],
                f["ifindex"],
                dev,
            )
        item = PathMtu(
            family=family,
            daddr=decode.address(f["daddr"], family),
            saddr=decode.address(f["saddr"], family) if f["has_source"] else None,
            ifindex=f["ifindex"],
            gateway=decode.address(f["gateway"], f["gateway_family"]) or None,
            table=0,
            mtu=f["mtu"],
            locked=bool(f["locked"]),
            expires=f["left"] / clock.HZ,
        )
        via, inside = self._origin(f["octets"]) if item.mtu else ("redirect", False)
        return Setting(ts, f["netns"], f["cpu"], item, dev, via, inside)

    def _origin(self, stack: bytes) -> tuple[str, bool]:
        """Return what set an exception, and whether that was a message being taken up."""
        found = []
        for at in range(0, len(stack), ADDRESS):
            name = self._function(int.from_bytes(stack[at : at + ADDRESS], "little"))
            if name in self._origins:
                found.append(self._origins[name])
        via = found[0][0] if found else "unknown"
        return via, any(inside for _, inside in found)
