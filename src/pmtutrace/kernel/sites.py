"""The sites: kernel functions in which packets are refused for their size.

One line each, and nothing else needs to know: the symbol table finds their addresses, the drop hook
gets them as ranges, and the names appear in events.
"""

from __future__ import annotations

from dataclasses import dataclass

OTHER = "other"


@dataclass(frozen=True, slots=True)
class Site:
    """A function that refuses oversize packets.

    Args:
        name: the kernel's name of it, as shown in events.
        check: which of bpf/include/events.h's checks tells a refusal for size from any other, where
            the kernel gives no reason and sent no message.
        silent: True where the function never tells the sender.
        inlined_into: out-of-line functions in which some kernels' compilers put it.
    """

    name: str
    check: str
    silent: bool = False
    inlined_into: tuple[str, ...] = ()


SITES = (
    Site("ip_forward", "CHECK_FORWARD4"),
    Site("ip6_forward", "CHECK_FORWARD6"),
    # Out of line it frees nothing else; inlined, the packet has to be looked at.
    Site(
        "ip_fragment",
        "CHECK_FRAGMENT4",
        inlined_into=("__ip_finish_output", "ip_finish_output_gso", "ip_mc_output"),
    ),
    Site("ip6_fragment", "CHECK_FRAGMENT6"),
    Site("br_dev_queue_push_xmit", "CHECK_BRIDGE", silent=True),
    Site("skb_tunnel_check_pmtu", "CHECK_NEWS"),
    Site("ip_tunnel_xmit", "CHECK_NEWS"),
    Site("ip_md_tunnel_xmit", "CHECK_NEWS"),
    # Of local sockets: nothing is freed, the address is where the socket was told.
    Site("__ip_append_data", "CHECK_NEWS"),
    Site("__ip6_append_data", "CHECK_NEWS"),
    Site("raw_send_hdrinc", "CHECK_HEADER_INCLUDED", inlined_into=("raw_sendmsg",)),
    Site("rawv6_send_hdrinc", "CHECK_HEADER_INCLUDED", inlined_into=("rawv6_sendmsg",)),
    Site("ip6_xmit", "CHECK_NEWS"),
)
# Numbers in events. 0 is kept for a drop whose function is not in the list.
NUMBERS = {OTHER: 0, **{site.name: number for number, site in enumerate(SITES, 1)}}
NAMES = {number: name for name, number in NUMBERS.items()}
