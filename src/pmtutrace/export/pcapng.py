"""Packets of events as pcapng, each with a comment that says what became of it.

draft-ietf-opsawg-pcapng: one section, an interface for each device of each namespace, one link type
(LINKTYPE_RAW: what begins with an IP header). Octets are little-endian.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from pmtutrace import __version__
from pmtutrace.events import Drop, Fragmented
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pmtutrace.events import Event

SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
MAGIC = 0x1A2B3C4D
LINKTYPE_RAW = 101
COMMENT, IF_NAME, IF_DESCRIPTION, IF_TSRESOL = 1, 2, 3, 9
APPLICATION = 4  # shb_userappl
NANOSECONDS = b"\x09"
SNAPLEN = 128
LONGEST = 0xFFFF
PLAIN = re.compile(r"[\w.:+/-]+", re.ASCII)


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def _option(code: int, value: bytes) -> bytes:
    value = value[:LONGEST]
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _block(kind: int, body: bytes, *options: bytes) -> bytes:
    content = body + b"".join(options) + (_option(0, b"") if options else b"")
    length = len(content) + 12
    return struct.pack("<II", kind, length) + content + struct.pack("<I", length)


def _text(text: str) -> bytes:
    return printable(text).encode(errors="replace")


def write(events: Iterable[Event], names: Callable[[Event], Mapping[int, str]]) -> Iterator[bytes]:
    """Yield the blocks of a file with the packets of some events; others are left out.

    The first block comes before the first event is asked for.

    Args:
        events: with their packets.
        names: gives the names of network namespaces that hold for an event.
    """
    interfaces: dict[tuple[int, str], int] = {}
    section = struct.pack("<IHHq", MAGIC, 1, 0, -1)
    yield _block(SECTION, section, _option(APPLICATION, f"pmtutrace {__version__}".encode()))
    for event in events:
        if not isinstance(event, Drop | Fragmented) or not event.packet:
            continue
        netns = str(names(event).get(event.netns, event.netns))
        where = event.netns, event.dev
        if where not in interfaces:
            interfaces[where] = len(interfaces)
            yield _block(
                INTERFACE,
                struct.pack("<HHI", LINKTYPE_RAW, 0, SNAPLEN),
                _option(IF_NAME, _text(event.dev)),
                _option(IF_DESCRIPTION, _text(f"network namespace {netns}")),
                _option(IF_TSRESOL, NANOSECONDS),
            )
        yield _packet(event, interfaces[where], comment(event, netns))


def _packet(event: Drop | Fragmented, interface: int, said: str) -> bytes:
    length = max(event.length or 0, len(event.packet))
    body = struct.pack(
        "<IIIII",
        interface,
        event.ts >> 32,
        event.ts & 0xFFFFFFFF,
        len(event.packet),
        min(length, 0xFFFFFFFF),
    )
    return _block(PACKET, body + _padded(event.packet), _option(COMMENT, said.encode()))


def comment(event: Drop | Fragmented, netns: str) -> str:
    """Return what is said of a packet, as pmtutrace.lua reads it.

    ``name=value``, in quotes if need be; names are those of JSON lines.
    """
    if isinstance(event, Drop):
        said = {
            "type": "drop",
            "verdict": event.verdict,
            "cause": event.cause,
            "site": event.site,
            "reason": event.reason,
            "mtu": event.mtu,
        }
    else:
        said = {"type": "fragmented", "mtu": event.mtu}
    said |= {
        "len": event.length,
        "tunnel": event.tunnel.name if event.tunnel else None,
        "netns": netns,
        "count": event.count,
    }
    return "pmtutrace " + " ".join(
        f"{name}={_value(value)}" for name, value in said.items() if value is not None
    )


def _value(value: object) -> str:
    text = printable(str(value))
    return text if PLAIN.fullmatch(text) else '"' + text.replace('"', "'") + '"'
