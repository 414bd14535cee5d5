"""How each type of tunnel is read from its link attributes: one declaration per type.

Attributes are those of ``IFLA_INFO_DATA`` without their ``IFLA_TYPE_`` prefix, so ``LOCAL`` stands
for ``IFLA_GRE_LOCAL`` as well as for ``IFLA_IPTUN_LOCAL`` (if_tunnel.h, if_link.h of the kernel).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pmtutrace.tunnels.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Options = Mapping[str, Any]

IPV4_HEADER, IPV6_HEADER, UDP_HEADER, ETHERNET_HEADER = 20, 40, 8, 14
GRE_CSUM, GRE_KEY, GRE_SEQ = 0x8000, 0x2000, 0x1000
ENCAP_GUE = 2
IP6_TNL_F_IGN_ENCAP_LIMIT = 0x1
DF = {0: "unset", 1: "set", 2: "inherit"}


@dataclass(frozen=True, slots=True)
class Kind:
    """One type: the version of its outer IP header (None: either), and what follows that header.

    ``headers`` gives the octets between it and the inner IP header, None where the options do not
    tell. ``keyed`` names the option that holds the key.
    """

    family: int | None
    headers: Callable[[Options], int | None]
    keyed: str | None = None


def _gre(options: Options) -> int:
    """Return a GRE header: base, then checksum, key and sequence number (RFC 2890)."""
    flags = options.get("OFLAGS") or 0
    return 4 + sum(4 for bit in (GRE_CSUM, GRE_KEY, GRE_SEQ) if flags & bit) + _encap(options)


def _gretap(options: Options) -> int:
    return _gre(options) + ETHERNET_HEADER


def _erspan(options: Options) -> int | None:
    """Return GRE, the ERSPAN header of that version, and the mirrored frame's Ethernet header."""
    version = {0: 0, 1: 8, 2: 12}.get(options.get("ERSPAN_VER", 1))
    # Version 0 has a bare GRE header; I and II always send the sequence number.
    return None if version is None else 4 + (4 if version else 0) + version + ETHERNET_HEADER


def _encap(options: Options) -> int:
    """Return what FOU (UDP) or GUE (UDP and 4 octets) put around."""
    kind = options.get("ENCAP_TYPE") or 0
    return 0 if not kind else UDP_HEADER + (4 if kind == ENCAP_GUE else 0)


def _encap_limit(options: Options) -> int:
    """Return the 8 octets of the tunnel encapsulation limit option (RFC 2473) unless it is off."""
    return 0 if (options.get("FLAGS") or 0) & IP6_TNL_F_IGN_ENCAP_LIMIT else 8


def _vxlan(options: Options) -> int:
    return UDP_HEADER + 8 + (0 if options.get("GPE") else ETHERNET_HEADER)


def _geneve(options: Options) -> int:
    """Return the fixed header; options in it are per packet and only with collect_md."""
    return UDP_HEADER + 8 + (0 if options.get("INNER_PROTO_INHERIT") else ETHERNET_HEADER)


def _unknown(_options: Options) -> None:
    """Say nothing: the ciphers of the security associations or the peers decide."""


KINDS = {
    "gre": Kind(4, _gre, "OKEY"),
    "gretap": Kind(4, _gretap, "OKEY"),
    "erspan": Kind(4, _erspan, "OKEY"),
    "ip6gre": Kind(6, lambda options: _gre(options) + _encap_limit(options), "OKEY"),
    "ip6gretap": Kind(6, lambda options: _gretap(options) + _encap_limit(options), "OKEY"),
    "ip6erspan": Kind(6, _unknown, "OKEY"),
    "ipip": Kind(4, _encap),
    "sit": Kind(4, _encap),
    "ip6tnl": Kind(6, lambda options: _encap(options) + _encap_limit(options)),
    "vti": Kind(4, _unknown),
    "vti6": Kind(6, _unknown),
    "xfrm": Kind(None, _unknown),
    "vxlan": Kind(None, _vxlan, "ID"),
    "geneve": Kind(None, _geneve, "ID"),
    "bareudp": Kind(None, lambda _options: UDP_HEADER),
    "wireguard": Kind(None, _unknown),
}


def read(
    kind: str, options: Options, *, netns: int, ifindex: int, name: str, mtu: int
) -> Tunnel | None:
    """Make a Tunnel of a link's kind and attributes; None where the kind is no tunnel."""
    declared = KINDS.get(kind)
    if declared is None:
        return None
    local = _address(options, "LOCAL", "LOCAL6")
    remote = _address(options, "REMOTE", "REMOTE6", "GROUP", "GROUP6")
    external = bool(options.get("COLLECT_METADATA"))
    pmtudisc, df = options.get("PMTUDISC"), options.get("DF")
    return Tunnel(
        netns=netns,
        ifindex=ifindex,
        name=name,
        type=kind,
        mtu=mtu,
        local=local,
        remote=remote,
        link=options.get("LINK") or None,
        pmtudisc=None if pmtudisc is None else bool(pmtudisc),
        df=df if df in DF.values() else DF.get(df),  # type: ignore[arg-type]
        key=None if external else _key(declared, options),
        port=_port(options),
        overhead=None if external else _overhead(declared, options, local or remote),
        external=external,
    )


def _address(options: Options, *names: str) -> str | None:
    """Return the first address that is set; the unspecified one means that any will do."""
    for name in names:
        address = options.get(name)
        if address and address not in ("0.0.0.0", "::"):  # noqa: S104 -- compared, not bound
            return str(address)
    return None


def _key(kind: Kind, options: Options) -> int | None:
    if kind.keyed == "OKEY" and not (options.get("OFLAGS") or 0) & GRE_KEY:
        return None
    key = options.get(kind.keyed) if kind.keyed else None
    return None if key is None else int(key)


def _port(options: Options) -> int | None:
    """Return the UDP destination port: the type's own, or that of FOU or GUE around it."""
    return options.get("PORT") or (
        options.get("ENCAP_DPORT") if options.get("ENCAP_TYPE") else None
    )


def _overhead(kind: Kind, options: Options, endpoint: str | None) -> int | None:
    """Return outer IP header and all that follows it up to the inner one; None where not known."""
    family = kind.family or (None if endpoint is None else 6 if ":" in endpoint else 4)
    headers = kind.headers(options)
    if family is None or headers is None:
        return None
    return (IPV4_HEADER if family == 4 else IPV6_HEADER) + headers
