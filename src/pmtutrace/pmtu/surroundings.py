"""What the path MTU depends on in a namespace: ways, sysctls, rules of netfilter."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pmtutrace.errors import PmtutraceError
from pmtutrace.kernel import netns, nftables
from pmtutrace.kernel.nftables import Block, Clamp, Rules
from pmtutrace.pmtu import ways
from pmtutrace.pmtu.ways import Leg, Way

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


SYS_NET = Path("/proc/sys/net")
INIT = "/proc/1/ns/net"
# The name that a fact goes by, and the sysctl below net/ that it is.
SYSCTLS = {
    "no_pmtu_disc": "ipv4/ip_no_pmtu_disc",
    "min_pmtu": "ipv4/route/min_pmtu",
    "mtu_expires": "ipv4/route/mtu_expires",
    "tcp_mtu_probing": "ipv4/tcp_mtu_probing",
    "forwarding4": "ipv4/ip_forward",
    "forwarding6": "ipv6/conf/all/forwarding",
}
RATEMASK6 = "ipv6/icmp/ratemask"
PACKET_TOO_BIG = 2


class Question(NamedTuple):
    """A way that is asked for; ``saddr`` and ``oif`` None where routing chooses them."""

    daddr: str
    saddr: str | None = None
    oif: int | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A namespace as it was at one moment.

    ``ways`` are by what was asked; None where there is no way. ``sysctls`` are those of
    :data:`SYSCTLS` that could be read. ``ptb_limited`` says if ``net.ipv6.icmp.ratemask`` includes
    packet-too-big, None where that is not known. ``rules`` is None where they could not be read.
    """

    netns: int
    ways: Mapping[Question, Way | None] = field(default_factory=dict)
    sysctls: Mapping[str, int] = field(default_factory=dict)
    ptb_limited: bool | None = None
    rules: Rules | None = None

    def json(self) -> dict[str, Any]:
        """Return it as an object, which :func:`loaded` reads again."""
        ways = [[*question, _plain(way) if way else None] for question, way in self.ways.items()]
        return asdict(replace(self, ways={})) | {"ways": ways}


def loaded(value: Mapping[str, Any]) -> Surroundings:
    """Return what an object holds that :meth:`Surroundings.json` made.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    rules = value["rules"]
    return Surroundings(
        value["netns"],
        {
            Question(daddr, saddr, oif): None if way is None else _way(way)
            for daddr, saddr, oif, way in value["ways"]
        },
        dict(value["sysctls"]),
        value["ptb_limited"],
        None
        if rules is None
        else Rules(
            tuple(Clamp(tuple(one["devs"]), one["size"]) for one in rules["clamps"]),
            tuple(Block(**one) for one in rules["blocks"]),
        ),
    )


def _plain(way: Way) -> dict[str, Any]:
    return way._asdict() | {"legs": [leg._asdict() for leg in way.legs]}


def _way(value: Mapping[str, Any]) -> Way:
    return Way(**{**value, "legs": tuple(Leg(**leg) for leg in value["legs"])})


def read(questions: Iterable[Question]) -> Surroundings:
    """Read the calling thread's namespace."""
    found: dict[Question, Way | None] = {}
    for question in questions:
        with contextlib.suppress(OSError):
            found[question] = ways.way(*question)
    sysctls = {
        name: value for name, path in SYSCTLS.items() if (value := _sysctl(path)) is not None
    }
    return Surroundings(netns.current(), found, sysctls, _limited(), nftables.rules())


def read_all(
    questions: Iterable[tuple[int, Question]], only: Collection[int] | None = None
) -> dict[int, Surroundings]:
    """Read all namespaces that can be entered.

    Args:
        questions: what is asked, each with the inode of its namespace.
        only: inodes of the namespaces that are wanted; None for all.
    """
    asked: dict[int, set[Question]] = {}
    for inum, question in questions:
        asked.setdefault(inum, set()).add(question)
    found = {}
    for space in netns.all_namespaces():
        if only is not None and space.inum not in only:
            continue
        reading = functools.partial(read, sorted(asked.get(space.inum, ()), key=str))
        with contextlib.suppress(OSError, PmtutraceError):
            found[space.inum] = netns.run_in(space.path, reading)
    return found


def _sysctl(path: str) -> int | None:
    """Return a number; before 5.18 some are only in the first namespace, for the whole host."""
    try:
        return int((SYS_NET / path).read_text())
    except (OSError, ValueError):
        pass
    if "/route/" not in path:
        return None
    try:
        with netns.entered(INIT):
            return int((SYS_NET / path).read_text())
    except (OSError, ValueError, PmtutraceError):
        return None


def _limited() -> bool | None:
    """Return whether packet-too-big is in IPv6's rate mask, a list of ranges: ``0-1,3-127``."""
    try:
        text = (SYS_NET / RATEMASK6).read_text().strip()
        ranges = [part.partition("-") for part in text.split(",") if part]
        return any(int(low) <= PACKET_TOO_BIG <= int(high or low) for low, _, high in ranges)
    except (OSError, ValueError):
        return None
