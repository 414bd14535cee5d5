"""What is known of one tunnel device, and which outer packets are its own."""

from __future__ import annotations

from dataclasses import dataclass

GRE, IPIP, IPV6, UDP, ESP = 47, 4, 41, 17, 50

# rtnl_link_ops kind -> protocols of the outer header where it is not wrapped in UDP (FOU, GUE).
PROTOCOLS = {
    "gre": (GRE,),
    "gretap": (GRE,),
    "erspan": (GRE,),
    "ip6gre": (GRE,),
    "ip6gretap": (GRE,),
    "ip6erspan": (GRE,),
    "ipip": (IPIP,),
    "sit": (IPV6, IPIP),
    "ip6tnl": (IPV6, IPIP),
    "vti": (ESP,),
    "vti6": (ESP,),
    "vxlan": (UDP,),
    "geneve": (UDP,),
    "bareudp": (UDP,),
    "wireguard": (UDP,),
}
# Those whose forwarding database or peers choose the far end, so that `remote` is only a default.
MANY_REMOTES = frozenset({"vxlan", "bareudp", "wireguard"})


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel device as rtnetlink(7) tells it.

    ``type`` is its ``rtnl_link_ops`` kind. ``local`` and ``remote`` are None where any address will
    do, ``link`` is the ifindex of the device below and None where routing chooses it. ``key`` is
    the GRE key of outgoing packets or the VNI, ``port`` the UDP destination port. ``pmtudisc`` and
    ``df`` (``unset``, ``set``, ``inherit``) are None where the type has no such option.
    ``overhead`` is how many octets the outer IP length exceeds the inner one by; None where it
    cannot be told from the options. ``external`` means that each packet's route carries the
    endpoints (collect_md). The outer packets of one that is ``elsewhere`` leave from another
    namespace.
    """

    netns: int
    ifindex: int
    name: str
    type: str
    mtu: int
    local: str | None = None
    remote: str | None = None
    link: int | None = None
    link_name: str | None = None
    pmtudisc: bool | None = None
    df: str | None = None
    key: int | None = None
    port: int | None = None
    overhead: int | None = None
    external: bool = False
    gone: bool = False
    elsewhere: bool = False

    def fit(
        self, source: str, destination: str, proto: int, key: int | None, port: int | None
    ) -> int | None:
        """Say how well an outgoing outer packet fits: more is better, None is not at all.

        Args:
            source: outer source address.
            destination: outer destination address.
            proto: outer IANA protocol number.
            key: GRE key or VNI of the packet; None where there is none or it could not be read.
            port: UDP destination port, else None.
        """
        if proto not in ((UDP,) if self.port else PROTOCOLS.get(self.type, ())):
            return None
        if self.port and port != self.port:
            return None
        if key is not None and self.key is None and not self.external:
            return None  # a tunnel without a key neither sends nor takes one
        far = _agree(self.remote, destination)
        if far is None and self.type in MANY_REMOTES:
            far = 0
        parts = (_agree(self.local, source), far, _agree(self.key, key))
        if None in parts or not (self.external or any(parts)):
            return None  # the fallback devices (gre0, tunl0 …) have no endpoints: they own nothing
        near, far, keyed = (part or 0 for part in parts)
        return 4 * far + 2 * keyed + near


def _agree(declared: str | int | None, seen: str | int | None) -> int | None:
    """Return 1 for equal, 0 for "any will do" or "could not be read", None for a contradiction."""
    if declared is None or seen is None:
        return 0
    return 1 if declared == seen else None
