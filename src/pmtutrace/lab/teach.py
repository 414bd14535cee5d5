"""What pyroute2 cannot say by itself: routes into tunnels, and UDP ports where tunnels end."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from pmtutrace.errors import NotSupported
from pmtutrace.lab import modules

if TYPE_CHECKING:
    from pmtutrace.lab.topology import Encap

# lwtunnel.h; the flags are those of a GRE header, and some of the kernel's own (if_tunnel.h).
LWTUNNEL_ENCAP_IP = {4: 2, 6: 4}
TUNNEL_KEY, TUNNEL_DONT_FRAGMENT, TUNNEL_GENEVE_OPT = 0x0004, 0x0100, 0x0800
FOU_CMD_ADD, FOU_DIRECT, FOU_GUE = 1, 1, 2  # fou.h


# LWTUNNEL_IP6_* have the same numbers.
ENCAP = (
    ("LWTUNNEL_IP_UNSPEC", "none"),
    ("LWTUNNEL_IP_ID", "be64"),
    ("LWTUNNEL_IP_DST", "address"),
    ("LWTUNNEL_IP_SRC", "address"),
    ("LWTUNNEL_IP_TTL", "uint8"),
    ("LWTUNNEL_IP_TOS", "uint8"),
    ("LWTUNNEL_IP_FLAGS", "be16"),
    ("LWTUNNEL_IP_PAD", "none"),
    ("LWTUNNEL_IP_OPTS", "options|nested"),
)
OPTIONS = (("OPTS_UNSPEC", "none"), ("OPTS_GENEVE", "geneve|nested"))
GENEVE = (
    ("GENEVE_UNSPEC", "none"),
    ("GENEVE_CLASS", "be16"),
    ("GENEVE_TYPE", "uint8"),
    ("GENEVE_DATA", "cdata"),
)
FOU = (
    ("FOU_ATTR_UNSPEC", "none"),
    ("FOU_ATTR_PORT", "be16"),
    ("FOU_ATTR_AF", "uint8"),
    ("FOU_ATTR_IPPROTO", "uint8"),
    ("FOU_ATTR_TYPE", "uint8"),
)


def pyroute2() -> None:
    """Teach pyroute2 the links that the lab makes, and routes into a tunnel."""
    from pyroute2.netlink import nla
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    from pmtutrace.tunnels import dump

    dump.teach()
    for version, address in ((4, nla.ip4addr), (6, nla.ip6addr)):
        geneve = type("geneve", (nla,), {"nla_map": GENEVE})
        options = type("options", (nla,), {"nla_map": OPTIONS, "geneve": geneve})
        members = {"nla_map": ENCAP, "address": address, "options": options}
        rtmsg.encaps[LWTUNNEL_ENCAP_IP[version]] = type("encap", (nla,), members)


def encap(wanted: Encap) -> dict[str, object]:
    """Return the attributes of a route whose packets say themselves which tunnel they want."""
    flags = TUNNEL_KEY | (TUNNEL_DONT_FRAGMENT if wanted.df else 0)
    flags |= TUNNEL_GENEVE_OPT if wanted.options else 0
    attributes: list[tuple[str, object]] = [
        ("LWTUNNEL_IP_ID", wanted.key),
        ("LWTUNNEL_IP_DST", wanted.remote),
        ("LWTUNNEL_IP_SRC", wanted.local),
        ("LWTUNNEL_IP_TTL", 64),
        ("LWTUNNEL_IP_FLAGS", flags),
    ]
    if wanted.options:
        options = [
            (
                "OPTS_GENEVE",
                {
                    "attrs": [
                        ("GENEVE_CLASS", number),
                        ("GENEVE_TYPE", kind),
                        ("GENEVE_DATA", bytes.fromhex(octets)),
                    ]
                },
            )
            for number, kind, octets in wanted.options
        ]
        attributes.append(("LWTUNNEL_IP_OPTS", {"attrs": options}))
    version = ip_address(wanted.remote).version
    return {"encap_type": LWTUNNEL_ENCAP_IP[version], "encap": {"attrs": attributes}}


def listen(port: int, *, proto: int, gue: bool) -> None:
    """Have the calling thread's namespace take packets out of UDP datagrams to a port.

    Args:
        port: the UDP port.
        proto: the IP protocol that is inside; GUE says it in its own header.
        gue: whether there is such a header.

    Raises:
        NotSupported: the kernel has no FOU.
    """
    from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, genlmsg
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.generic import GenericNetlinkSocket

    modules.load("fou")
    kind = type("fou", (genlmsg,), {"prefix": "FOU_ATTR_", "nla_map": FOU})
    message: Any = kind()
    message["cmd"], message["version"] = FOU_CMD_ADD, 1
    message["attrs"] = [
        ("FOU_ATTR_PORT", port),
        ("FOU_ATTR_AF", 2),
        ("FOU_ATTR_TYPE", FOU_GUE if gue else FOU_DIRECT),
        *([] if gue else [("FOU_ATTR_IPPROTO", proto)]),
    ]
    with GenericNetlinkSocket() as generic:
        try:
            generic.bind("fou", kind)
        except NetlinkError as error:
            raise NotSupported("this kernel has no FOU") from error
        list(generic.nlm_request(message, generic.prid, NLM_F_REQUEST | NLM_F_ACK))
