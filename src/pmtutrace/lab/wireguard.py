"""WireGuard in a lab: keys, and each end as the other one's only peer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pmtutrace.lab.topology import Port, Tunnel

PORT = 51820
# Private and public (X25519, RFC 7748) of the first and of the second end. No secret: they protect
# nothing but what the lab makes up.
KEYS = (
    (
        "AAIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH2A=",
        "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=",
    ),
    (
        "ICIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=",
        "WGmv9FBUlzLLqu1eXfmzCm2jHLDldCutWtShp2jxpns=",
    ),
)


def make(tunnel: Tunnel, port: Port, local: str, remote: str) -> AbstractContextManager[None]:
    """Make one end, with its key, its port and its peer; call it inside the end's namespace.

    With option ``peer`` False there is none, and with ``key`` outer packets are marked with that.
    """
    import pyroute2

    near = tunnel.endpoints == (local, remote)
    mine, theirs = KEYS if near else KEYS[::-1]
    peer = {
        "public_key": theirs[1],
        "endpoint_addr": remote,
        "endpoint_port": PORT,
        "allowed_ips": ["0.0.0.0/0", "::/0"],
    }
    with contextlib.closing(pyroute2.IPRoute()) as route:
        route.link("add", kind="wireguard", ifname=port.dev)
    with contextlib.closing(pyroute2.WireGuard()) as wireguard:
        wireguard.set(
            port.dev,
            listen_port=PORT,
            fwmark=tunnel.key,
            private_key=mine[0],
            peer=peer if tunnel.options.get("peer", True) else None,
        )
    return contextlib.nullcontext()
