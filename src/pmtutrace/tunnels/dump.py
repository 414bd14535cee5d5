"""Print every tunnel of every network namespace as one JSON array.

Run as ``python -m pmtutrace.tunnels.dump [PATH…]``, a process of its own: pyroute2 costs 24 MB and
0.15 s, which the tracer must not carry. Paths are those of namespaces; without any, all are read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute
from pyroute2.netlink import nla
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from pmtutrace.errors import PmtutraceError
from pmtutrace.kernel import netns
from pmtutrace.tunnels import kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmtutrace.tunnels.tunnel import Tunnel

ATTEMPTS = 5
# if_tunnel.h, enum from IFLA_GRE_UNSPEC on. pyroute2 knows neither ERSPAN nor, for IPv6, that the
# flags are big-endian.
GRE_ATTRIBUTES = (
    ("UNSPEC", "none"),
    ("LINK", "uint32"),
    ("IFLAGS", "be16"),
    ("OFLAGS", "be16"),
    ("IKEY", "be32"),
    ("OKEY", "be32"),
    ("LOCAL", "ip4addr"),
    ("REMOTE", "ip4addr"),
    ("TTL", "uint8"),
    ("TOS", "uint8"),
    ("PMTUDISC", "uint8"),
    ("ENCAP_LIMIT", "uint8"),
    ("FLOWINFO", "be32"),
    ("FLAGS", "uint32"),
    ("ENCAP_TYPE", "uint16"),
    ("ENCAP_FLAGS", "uint16"),
    ("ENCAP_SPORT", "be16"),
    ("ENCAP_DPORT", "be16"),
    ("COLLECT_METADATA", "flag"),
    ("IGNORE_DF", "uint8"),
    ("FWMARK", "uint32"),
    ("ERSPAN_INDEX", "uint32"),
    ("ERSPAN_VER", "uint8"),
    ("ERSPAN_DIR", "uint8"),
    ("ERSPAN_HWID", "uint16"),
)
BAREUDP_ATTRIBUTES = (
    ("UNSPEC", "none"),
    ("PORT", "be16"),
    ("ETHERTYPE", "be16"),
    ("SRCPORT_MIN", "uint16"),
    ("MULTIPROTO_MODE", "flag"),
)


def _attributes(prefix: str, table: tuple[tuple[str, str], ...], address: str) -> type:
    """Return a decoder for link attributes whose addresses are all of one kind."""
    named = tuple(
        (f"{prefix}{name}", address if kind == "ip4addr" else kind) for name, kind in table
    )
    return type("attributes", (nla,), {"prefix": "IFLA_", "nla_map": named})


def teach() -> None:
    """Teach pyroute2 the link types that it does not decode or decodes in the wrong byte order."""
    gre = _attributes("IFLA_GRE_", GRE_ATTRIBUTES, "ip4addr")
    gre6 = _attributes("IFLA_GRE_", GRE_ATTRIBUTES, "ip6addr")
    ifinfmsg.ifinfo.register_link_kind(
        module={
            **dict.fromkeys(("gre", "gretap", "erspan"), gre),
            **dict.fromkeys(("ip6gre", "ip6gretap", "ip6erspan"), gre6),
            "bareudp": _attributes("IFLA_BAREUDP_", BAREUDP_ATTRIBUTES, "ip4addr"),
        }
    )


def tunnel(link: Any, inum: int) -> Tunnel | None:  # noqa: ANN401 -- pyroute2 has no types
    """Make a Tunnel of one RTM_NEWLINK message; None where the link is no tunnel."""
    info = link.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    if kind not in kinds.KINDS:
        return None
    data = info.get_attr("IFLA_INFO_DATA")
    pairs = data["attrs"] if isinstance(data, dict) else ()
    options = {pair[0].split("_", 2)[-1]: pair[1] for pair in pairs}
    made = kinds.read(
        kind,
        options,
        netns=inum,
        ifindex=link["index"],
        name=_name(link),
        mtu=link.get_attr("IFLA_MTU"),
    )
    there = link.get_attr("IFLA_LINK_NETNSID")
    return None if made is None else dataclasses.replace(made, elsewhere=there is not None)


def _name(link: Any) -> str:  # noqa: ANN401
    """Return an interface name; pyroute2 gives octets where it is not UTF-8."""
    return os.fsdecode(link.get_attr("IFLA_IFNAME"))


def links(inum: int) -> Iterator[Tunnel]:
    """Yield the tunnels of the calling thread's namespace."""
    found = _links()
    names = {link["index"]: _name(link) for link in found}
    for link in found:
        if made := tunnel(link, inum):
            yield dataclasses.replace(made, link_name=names.get(made.link))


def dump(paths: list[str]) -> list[Tunnel]:
    """Return the tunnels of the namespaces at these paths, of all where there are none.

    A namespace that vanishes while it is read, or that is not ours to enter, has no tunnels.
    """
    found: list[Tunnel] = []
    for path in paths or [space.path for space in netns.all_namespaces()]:
        try:
            with netns.entered(path) as inum:
                found.extend(links(inum))
        except PmtutraceError:
            continue
    return found


def _links() -> list[Any]:
    """Return all links; ask again where they changed while they were being listed."""
    for _ in range(ATTEMPTS):
        with IPRoute() as route, contextlib.suppress(NetlinkDumpInterrupted):
            return list(route.get_links())
    return []  # whatever changes that fast rings the bell again


if __name__ == "__main__":
    teach()
    json.dump([dataclasses.asdict(made) for made in dump(sys.argv[1:])], sys.stdout)
