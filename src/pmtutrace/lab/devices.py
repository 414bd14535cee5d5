"""How each type of tunnel is made, in pyroute2's spelling: one declaration per type."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pmtutrace.errors import LabError
from pmtutrace.lab import handmade, wireguard
from pmtutrace.lab.topology import Security

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from io import FileIO

    from pmtutrace.lab.topology import Port, Tunnel

    Attributes = dict[str, object]

VXLAN_PORT, GENEVE_PORT = 4789, 6081
ENCAP_LIMIT = 4  # RFC 2473, what ip(8) asks for
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
        make: makes one end inside its namespace where rtnetlink cannot; what it returns is closed
            when the lab is torn down, and gives the device's file, if it has one.
        security: the IPsec that it needs.
    """

    attributes: Callable[[Tunnel, str, str], Attributes]
    ethernet: bool
    prefix: str
    words: frozenset[str] = frozenset()
    make: Callable[[Tunnel, Port, str, str], AbstractContextManager[FileIO | None]] | None = None
    security: Callable[[Tunnel], Security] | None = None


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
    chosen: Attributes = {"port": VXLAN_PORT, "learning": 0}
    if tunnel.external:
        return chosen | {"collect_metadata": True}
    six = "6" if ip_address(local).version == 6 else ""
    chosen |= {"id": tunnel.key, f"local{six}": local, f"group{six}": remote}
    return chosen | ({"df": DF[tunnel.df]} if tunnel.df else {})


def _geneve(tunnel: Tunnel, _local: str, remote: str) -> Attributes:
    chosen: Attributes = {"port": GENEVE_PORT}
    if tunnel.external:
        return chosen | {"collect_metadata": True}
    six = "6" if ip_address(remote).version == 6 else ""
    chosen |= {"id": tunnel.key, f"remote{six}": remote}
    return chosen | ({"df": DF[tunnel.df]} if tunnel.df else {})


def _none(_tunnel: Tunnel, _local: str, _remote: str) -> Attributes:
    return {}


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


def _limited(
    kind: Callable[[Tunnel, str, str], Attributes],
) -> Callable[[Tunnel, str, str], Attributes]:
    """Return the same with the option that limits how deep tunnels nest (``flags`` 1: without)."""
    return lambda tunnel, local, remote: {
        "encap_limit": ENCAP_LIMIT,
        **kind(tunnel, local, remote),
    }


def _vti(tunnel: Tunnel, local: str, remote: str) -> Attributes:
    return {"local": local, "remote": remote, "ikey": tunnel.key, "okey": tunnel.key}


def _xfrm(tunnel: Tunnel, _local: str, _remote: str) -> Attributes:
    return {"if_id": tunnel.key}


def _by_mark(tunnel: Tunnel) -> Security:
    return Security(_nodes(tunnel), tunnel.endpoints, mark=tunnel.key, states=_states(tunnel))


def _by_interface(tunnel: Tunnel) -> Security:
    return Security(_nodes(tunnel), tunnel.endpoints, if_id=tunnel.key, states=_states(tunnel))


def _states(tunnel: Tunnel) -> bool:
    return bool(tunnel.options.get("states", True))


def _nodes(tunnel: Tunnel) -> tuple[str, str]:
    near, far = tunnel.ends
    return near.node, far.node


STATES = frozenset({"states"})  # False: policies without any association
TUNNELS: dict[str, Type] = {
    "vxlan": Type(_vxlan, ethernet=True, prefix="vxlan_"),
    "gre": Type(_gre, ethernet=False, prefix="gre_", words=_GRE),
    "gretap": Type(_gre, ethernet=True, prefix="gre_", words=_GRE),
    "erspan": Type(_gre, ethernet=True, prefix="gre_", words=_GRE),
    "ipip": Type(_ends, ethernet=False, prefix="ipip_", words=_ENDS),
    "sit": Type(_ends, ethernet=False, prefix="sit_", words=_ENDS),
    "geneve": Type(_geneve, ethernet=True, prefix="geneve_"),
    "ip6tnl": Type(_limited(_ends), ethernet=False, prefix="ip6tnl_", words=_ENDS),
    "ip6gre": Type(_limited(_gre), ethernet=False, prefix="gre_", words=_GRE),
    "ip6gretap": Type(_limited(_gre), ethernet=True, prefix="gre_", words=_GRE),
    "ip6erspan": Type(_limited(_gre), ethernet=True, prefix="gre_", words=_GRE),
    "tun": Type(_none, ethernet=False, prefix="", make=handmade.tun),
    "tap": Type(_none, ethernet=True, prefix="", make=handmade.tap),
    "l2tp": Type(_none, ethernet=True, prefix="", words=frozenset({"over"}), make=handmade.l2tp),
    "vti": Type(_vti, ethernet=False, prefix="vti_", words=STATES, security=_by_mark),
    "vti6": Type(_vti, ethernet=False, prefix="vti_", words=STATES, security=_by_mark),
    "xfrm": Type(_xfrm, ethernet=False, prefix="xfrm_", words=STATES, security=_by_interface),
    "wireguard": Type(
        _none, ethernet=False, prefix="", words=frozenset({"peer"}), make=wireguard.make
    ),
}
