"""The catalogue of hooks: what each tells, what it costs, and the ways to attach it, best first.

A hook is added here and in bpf/hooks/, nowhere else. A rung of a ladder counts only if all of its
attachments work; what it settles for the programs is written into their settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

How = Literal["tracepoint", "kprobe", "kretprobe", "fentry", "fexit"]
WHO_REFUSED = "which function refused a local socket"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One program of bpf/ on one tracepoint or kernel function."""

    how: How
    program: str
    target: str


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to attach a hook.

    Args:
        name: one or two words.
        attachments: all of them, or the rung does not hold.
        settings: members of ``struct config`` that it sets to 1.
        blind: what a better rung would tell and this one does not.
    """

    name: str
    attachments: tuple[Attachment, ...]
    settings: tuple[str, ...] = ()
    blind: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook with its ladder.

    Args:
        name: one word.
        tells: what is known because of it.
        cost: ``cold`` (only when something is refused) or ``hot`` (for every packet of some kind).
        ladder: rungs, best first.
        blind: what is not known if no rung holds, or what is inferred instead.
        needed: True if there is no tracing without it.
    """

    name: str
    tells: str
    cost: Literal["cold", "hot"]
    ladder: tuple[Rung, ...]
    blind: str
    needed: bool = field(default=False, kw_only=True)


def _tp(program: str) -> Attachment:
    return Attachment("tracepoint", program, program)


def _local(how: Literal["kprobe", "fentry"], *, ipsec: bool) -> tuple[Attachment, ...]:
    """Return what tells of EMSGSIZE; with IPsec there may be a packet behind it."""
    packet = ("xfrm_local_error", "xfrm6_local_rxpmtu") if ipsec else ()
    return (
        *(Attachment(how, f"local_packet_{how}", function) for function in packet),
        Attachment(how, f"local_rxpmtu_{how}", "ipv6_local_rxpmtu"),
        Attachment(how, f"local_error4_{how}", "ip_local_error"),
        Attachment(how, f"local_error6_{how}", "ipv6_local_error"),
    )


HOOKS = (
    Hook(
        "icmp4",
        "whether a frag-needed was sent, and its MTU",
        "cold",
        (
            Rung(
                "fentry",
                (
                    Attachment("fentry", "icmp_send_enter_fentry", "__icmp_send"),
                    Attachment("fexit", "icmp_send_exit_fexit", "__icmp_send"),
                    _tp("icmp_send"),
                ),
                ("attempt4", "sent4"),
            ),
            Rung(
                "kprobe",
                (
                    Attachment("kprobe", "icmp_send_enter_kprobe", "__icmp_send"),
                    Attachment("kretprobe", "icmp_send_exit_kprobe", "__icmp_send"),
                    _tp("icmp_send"),
                ),
                ("attempt4", "sent4"),
            ),
            # Before 6.10, and where stable did not take the tracepoint: its place in the function.
            Rung(
                "kprobe only",
                (
                    Attachment("kprobe", "icmp_send_enter_kprobe", "__icmp_send"),
                    Attachment("kretprobe", "icmp_send_exit_kprobe", "__icmp_send"),
                    Attachment("kprobe", "icmp_push_reply_kprobe", "icmp_push_reply"),
                ),
                ("attempt4", "sent4"),
            ),
            Rung("tracepoint", (_tp("icmp_send"),), ("sent4",)),
            # Nothing to attach: __icmp_send()'s own tests are made again on the packet.
            Rung("predicates", (), blind="whether a frag-needed was sent is inferred"),
        ),
        "whether a frag-needed was sent",
    ),
    Hook(
        "icmp6",
        "whether a packet-too-big was sent, and its MTU",
        "cold",
        (
            Rung(
                "fentry",
                (
                    Attachment("fentry", "icmp6_send_enter_fentry", "icmp6_send"),
                    Attachment("fexit", "icmp_send_exit_fexit", "icmp6_send"),
                    Attachment("fentry", "icmp6_push_pending_fentry", "icmpv6_push_pending_frames"),
                ),
                ("attempt6",),
            ),
            Rung(
                "kprobe",
                (
                    Attachment("kprobe", "icmp6_send_enter_kprobe", "icmp6_send"),
                    Attachment("kretprobe", "icmp6_send_exit_kprobe", "icmp6_send"),
                    Attachment("kprobe", "icmp6_push_pending_kprobe", "icmpv6_push_pending_frames"),
                ),
                ("attempt6",),
            ),
            Rung(
                "tracepoint",
                (_tp("net_dev_queue"), _tp("neigh_event_send_done")),
                blind="whether ratemask or no route kept a packet-too-big back",
            ),
        ),
        "whether a packet-too-big was sent",
    ),
    Hook(
        "tunnel_check",
        "oversize packets that a bridged tunnel turns into their own ICMP message",
        "hot",
        (Rung("tracepoint", (_tp("netif_rx"),)),),
        "oversize packets on bridged VXLAN and Geneve",
    ),
    Hook(
        "route",
        "whether there was a route back to the sender",
        "hot",
        (Rung("tracepoint", (_tp("fib_table_lookup"),), ("routes",)),),
        "no_room is reported as no_route_back, options_invalid as unknown",
    ),
    Hook(
        "local",
        "EMSGSIZE that a socket of this host gets",
        "cold",
        (
            # First, because the stack that it sees says which function refused.
            Rung("kprobe", _local("kprobe", ipsec=True)),
            Rung("kprobe, no IPsec", _local("kprobe", ipsec=False)),
            Rung("fentry", _local("fentry", ipsec=True), blind=WHO_REFUSED),
            Rung("fentry, no IPsec", _local("fentry", ipsec=False), blind=WHO_REFUSED),
        ),
        "EMSGSIZE that a socket of this host gets",
    ),
    # Last, so that no drop is seen before what its verdict hangs on is in place.
    Hook(
        "drop",
        "every oversize packet that is freed: site, flow, MTU",
        "cold",
        (Rung("tracepoint", (_tp("kfree_skb"),)),),
        "everything",
        needed=True,
    ),
)
TARGETS = frozenset(a.target for h in HOOKS for r in h.ladder for a in r.attachments)
TRACEPOINTS = frozenset(
    a.target for h in HOOKS for r in h.ladder for a in r.attachments if a.how == "tracepoint"
)
FUNCTIONS = TARGETS - TRACEPOINTS
