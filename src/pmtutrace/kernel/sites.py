"""The sites: kernel functions in which packets are refused for their size, or only seem to be.

One line each, and nothing else needs to know: the symbol table finds their addresses, the drop hook
gets them as ranges, and the names appear in events.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

OTHER = "other"
XFRM = ("xfrm_output_one", "xfrm_output_resume")


class Site(NamedTuple):
    """A function that refuses oversize packets, or (``CHECK_RELAY``) frees quotes of such.

    Args:
        name: the kernel's name of it, as shown in events.
        check: which of bpf/include/events.h's checks tells a refusal for size from any other, where
            the kernel gives no reason and sent no message.
        silent: True where the function never tells the sender.
        freed_in: other functions in which its packets are freed: its callers, where it leaves that
            to them, or those into which compilers put it.
        version: the IP version of the packets that it refuses, None for both: two sites may share
            the function that frees their packets.
    """

    name: str
    check: str
    silent: bool = False
    freed_in: tuple[str, ...] = ()
    version: Literal[4, 6] | None = None


SITES = (
    Site("ip_forward", "CHECK_FORWARD4"),
    Site("ip6_forward", "CHECK_FORWARD6"),
    # Out of line it frees nothing else; inlined, the packet has to be looked at.
    Site(
        "ip_fragment",
        "CHECK_FRAGMENT4",
        freed_in=("__ip_finish_output", "ip_finish_output_gso", "ip_mc_output"),
    ),
    Site("ip6_fragment", "CHECK_FRAGMENT6"),
    Site("br_dev_queue_push_xmit", "CHECK_BRIDGE", silent=True),
    # From conntrack's hooks on bridges; IPv6 goes to ip6_fragment.
    Site(
        "br_nf_ip_fragment",
        "CHECK_BRIDGE_FRAGMENT4",
        silent=True,
        freed_in=("br_nf_dev_queue_xmit",),
    ),
    # The receiving end of a veth has a smaller MTU than the sending one.
    Site(
        "__dev_forward_skb",
        "CHECK_RECEIVER",
        silent=True,
        freed_in=("__dev_forward_skb2",),
    ),
    # Freeing is the last that it does: compilers jump there, and a caller seems to have done it.
    Site(
        "ovs_vport_send",
        "CHECK_PORT",
        silent=True,
        freed_in=("do_output", "do_execute_actions"),
    ),
    Site("skb_tunnel_check_pmtu", "CHECK_NEWS"),
    Site("ip_tunnel_xmit", "CHECK_NEWS"),
    Site("ip_md_tunnel_xmit", "CHECK_NEWS"),
    Site("ipip6_tunnel_xmit", "CHECK_NEWS", freed_in=("sit_tunnel_xmit",)),
    Site(
        "ip6_tnl_xmit",
        "CHECK_NEWS",
        freed_in=("ip6_tnl_start_xmit", "ip6gre_tunnel_xmit", "ip6erspan_tunnel_xmit"),
    ),
    # They tell the inner sender what they hear about the outer packet.
    Site("ip4ip6_err", "CHECK_RELAY"),
    Site("ip6ip6_err", "CHECK_RELAY"),
    Site("vti_tunnel_xmit", "CHECK_NEWS"),
    Site("vti6_tnl_xmit", "CHECK_NEWS"),
    Site("xfrmi_xmit", "CHECK_NEWS"),
    Site("__xfrm6_output", "CHECK_NEWS"),
    Site("xfrm4_tunnel_check_size", "CHECK_NEWS", freed_in=XFRM, version=4),
    Site("xfrm6_tunnel_check_size", "CHECK_NEWS", freed_in=XFRM, version=6),
    # Of local sockets: nothing is freed, the address is where the socket was told.
    Site("__ip_append_data", "CHECK_NEWS"),
    Site("__ip6_append_data", "CHECK_NEWS"),
    Site("raw_send_hdrinc", "CHECK_HEADER_INCLUDED", freed_in=("raw_sendmsg",)),
    Site("rawv6_send_hdrinc", "CHECK_HEADER_INCLUDED", freed_in=("rawv6_sendmsg",)),
    Site("ip6_xmit", "CHECK_NEWS"),
)
# Numbers in events. 0 is kept for a drop whose function is not in the list.
NUMBERS = {OTHER: 0, **{site.name: number for number, site in enumerate(SITES, 1)}}
NAMES = {number: name for name, number in NUMBERS.items()}


def owners() -> dict[str, tuple[Site, Site]]:
    """Return by kernel function which sites refuse what it frees: IPv4's and IPv6's."""
    found: dict[str, dict[int, Site]] = {}
    for site in SITES:
        for name in (site.name, *site.freed_in):
            for version in (4, 6) if site.version is None else (site.version,):
                found.setdefault(name, {})[version] = site
    return {name: (by.get(4) or by[6], by.get(6) or by[4]) for name, by in found.items()}


# What sets a path MTU exception, by functions on the stack then; and whether the kernel is taking
# up a message there: TCP may do it later, when nobody is using the socket any more.
ORIGINS = {
    "icmp_unreach": ("icmp", True),
    "icmpv6_notify": ("icmp", True),
    "tcp_v4_mtu_reduced": ("icmp", False),
    "tcp_v6_mtu_reduced": ("icmp", False),
    **dict.fromkeys(
        (
            *("skb_tunnel_check_pmtu", "tnl_update_pmtu", "ip_tunnel_xmit", "ip_md_tunnel_xmit"),
            *("ipip6_tunnel_xmit", "sit_tunnel_xmit", "ip6_tnl_xmit", "vti_tunnel_xmit"),
            *("vti6_tnl_xmit", "xfrmi_xmit"),
        ),
        ("tunnel", False),
    ),
}
