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


@dataclass(frozen=True, slots=True)
class Type:
    """A type of tunnel: the attributes of one end, and whether it carries Ethernet frames."""

    attributes: Callable[[Tunnel, str, str], Attributes]
    ethernet: bool


def attributes(tunnel: Tunnel, local: str, remote: str) -> Attributes:
    """Return the attributes of one end of a tunnel, ``kind`` included."""
    own = declared(tunnel).attributes(tunnel, local, remote)
    return {"kind": tunnel.type, **own, **tunnel.options}


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
        "vxlan_id": tunnel.key,
        f"vxlan_local{six}": local,
        f"vxlan_group{six}": remote,
        "vxlan_port": VXLAN_PORT,
        "vxlan_learning": 0,
    }
    if tunnel.df:
        chosen["vxlan_df"] = DF[tunnel.df]
    return chosen


TUNNELS: dict[str, Type] = {"vxlan": Type(_vxlan, ethernet=True)}
