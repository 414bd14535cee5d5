"""How each type of tunnel is made, in pyroute2's spelling: one declaration per type."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pmtutrace.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmtutrace.lab.topology import Tunnel

    Attributes = dict[str, object]

VXLAN_PORT = 4789
DF = {"unset": 0, "set": 1, "inherit": 2}
# The words for flags of a GRE header (if_tunnel.h).
GRE_FLAGS = {"csum": 0x8000, "seq": 0x1000}
GRE_KEY = 0x2000
# TUNNEL_ENCAP_* (if_tunnel.h), and where the receiver listens.
ENCAP = {"fou": 1, "gue": 2}
FOU_PORT = 5555
IPPROTO = {"gre": 47, "gretap": 47, "ipip": 4, "sit": 41}


@dataclass(frozen=True, slots=True)
class Type:
    """A type of tunnel.

    Args:
        attributes: gives those of one end, from the tunnel, its local and its remote endpoint.
        ethernet: whether it carries Ethernet frames.
        prefix: how pyroute2 begins the names of its attributes.
        words: options that ``attributes`` takes care of.
    """

    attributes: Callable[[Tunnel, str, str], Attributes]
    ethernet: bool
    prefix: str
    words: frozenset[str] = frozenset()


def attributes(tunnel: Tunnel, local: str, remote: str) -> Attributes:
    """Return the attributes of one end of a tunnel, ``kind`` included."""
    made = declared(tunnel)
    own = made.attributes(tunnel, local, remote)
    options = {name: value for name, value in tunnel.options.items() if name not in made.words}
    prefixed = {made.prefix + name: value for name, value in (own | options).items()}
    return {"kind": tunnel.type, **prefixed}


def declared(tunnel: Tunnel) -> Type:
    """Return the declaration of a tunnel's type.

    Raises:
        LabError: there is none.
    """
    if tunnel.type not in TUNNELS:
        raise LabError(
            f"the lab cannot build a tunnel of type {tunnel.type!r}",
            f"it knows {', '.join(TUNNELS)}",
        )
    return TUNNELS[tunnel.type]


def _vxlan(tunnel: Tunnel, local: str, remote: str) -> Attributes:
    six = "6" if ip_address(local).version == 6 else ""
    chosen: Attributes = {
        "id": tunnel.key,
        f"local{six}": local,
        f"group{six}": remote,
        "port": VXLAN_PORT,
        "learning": 0,
    }
    if tunnel.df:
        chosen["df"] = DF[tunnel.df]
    return chosen


def _ends(tunnel: Tunnel, local: str, remote: str) -> Attributes:
    """Return both endpoints, or that each packet brings them, and the UDP header around it all."""
    if tunnel.external:
        return {"collect_metadata": True}
    chosen: Attributes = {"local": local, "remote": remote}
    if encap := tunnel.options.get("encap"):
        chosen |= {"encap_type": ENCAP[str(encap)], "encap_dport": FOU_PORT}
    return chosen


def _gre(tunnel: Tunnel, local: str, remote: str) -> Attributes:
    """Return the endpoints, and the header that both of them send and want to see."""
    flags = sum(bit for word, bit in GRE_FLAGS.items() if tunnel.options.get(word))
    chosen = _ends(tunnel, local, remote)
    if tunnel.key is not None:
        flags |= GRE_KEY
        chosen |= {"ikey": tunnel.key, "okey": tunnel.key}
    return chosen | {"iflags": flags, "oflags": flags}


_ENDS = frozenset({"encap"})
_GRE = _ENDS | GRE_FLAGS.keys()

TUNNELS: dict[str, Type] = {
    "vxlan": Type(_vxlan, ethernet=True, prefix="vxlan_"),
    "gre": Type(_gre, ethernet=False, prefix="gre_", words=_GRE),
    "gretap": Type(_gre, ethernet=True, prefix="gre_", words=_GRE),
    "erspan": Type(_gre, ethernet=True, prefix="gre_", words=_GRE),
    "ipip": Type(_ends, ethernet=False, prefix="ipip_", words=_ENDS),
    "sit": Type(_ends, ethernet=False, prefix="sit_", words=_ENDS),
}
