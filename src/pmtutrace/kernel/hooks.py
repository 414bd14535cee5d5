"""The catalogue of hooks: what each tells, what it costs, and the ways to attach it, best first.

A hook is added here and in bpf/hooks/, nowhere else. A rung of a ladder counts only if all of its
attachments work; what it settles for the programs is written into their settings.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pmtutrace.kernel.ladder import Attachment, Hook, How, Rung

WHO_REFUSED = "which function refused a local socket"


def _tp(program: str) -> Attachment:
    return Attachment("tracepoint", program, program)


def _fragment(how: How) -> tuple[Attachment, ...]:
    return (
        Attachment(how, f"fragment4_{how}", "ip_do_fragment"),
        Attachment(how, f"fragment6_{how}", "ip6_fragment"),
    )


def _local(how: Literal["kprobe", "fentry"], *, ipsec: bool) -> tuple[Attachment, ...]:
    """Return what tells of EMSGSIZE; with IPsec there may be a packet behind it.

    Not xfrm_local_error(), which compilers put into its callers: it calls these by pointer.
    """
    functions = ("xfrm4_local_error", "xfrm6_local_error", "xfrm6_local_rxpmtu")
    packet = functions if ipsec else ()
    return (
        *(Attachment(how, f"local_packet_{how}", function) for function in packet),
        Attachment(how, f"local_rxpmtu_{how}", "ipv6_local_rxpmtu"),
        Attachment(how, f"local_error4_{how}", "ip_local_error"),
        Attachment(how, f"local_error6_{how}", "ipv6_local_error"),
    )


def _why(how: How, append6: str) -> tuple[Attachment, ...]:
    return (
        Attachment(how, f"global_limit_{how}", "icmp_global_allow"),
        Attachment(how, f"host_limit_{how}", "inet_peer_xrlim_allow"),
        Attachment(how, f"options_echo_{how}", "__ip_options_echo"),
        Attachment(how, f"append_{how}", "ip_append_data"),
        Attachment(how, append6, "ip6_append_data"),
    )


class TunnelFunction(NamedTuple):
    """A kernel function through which packets of tunnels go, and which device is then known.

    Args:
        hook: name of the hook.
        function: the kernel's name of it.
        program: of bpf/hooks/tunnel_xmit.bpf.c, without the way to attach.
        module: the module that it is in; none if it is always there.
        makes: whose outer headers.
    """

    hook: str
    function: str
    program: str
    module: str
    makes: str


# The last function that all tunnels over IPv4, or over IPv6, have in common: the packet has its
# final address in memory there. Both are in the kernel proper even where every tunnel is a module,
# so that fentry is cheap and holds no module. IPsec knows no device there: its devices have a row
# each.
TUNNEL_FUNCTIONS = (
    TunnelFunction("tunnel4", "iptunnel_xmit", "tunnel4", "", "tunnels over IPv4"),
    TunnelFunction("tunnel6", "ip6_local_out", "tunnel6", "", "tunnels over IPv6"),
    TunnelFunction("vti", "vti_tunnel_xmit", "tunnel_device", "ip_vti", "VTI"),
    TunnelFunction("vti6", "vti6_tnl_xmit", "tunnel_device", "ip6_vti", "VTI over IPv6"),
    TunnelFunction("xfrm", "xfrmi_xmit", "tunnel_device", "xfrm_interface", "xfrm interfaces"),
)
BY_DUMPS = "what set a path MTU, and what it was between two looks, a second apart"
ONE_END = "what came of a message, where another one about the same path followed within a second"
BY_ENDPOINTS = "the device of an outer packet is found by its endpoints, if they are of one tunnel"


def _tunnel(f: TunnelFunction) -> Hook:
    fentry = Rung("fentry", (Attachment("fentry", f"{f.program}_fentry", f.function, f.module),))
    kprobe = Rung("kprobe", (Attachment("kprobe", f"{f.program}_kprobe", f.function, f.module),))
    # fentry holds its module: `rmmod` would be refused for as long as we trace. A kprobe does not.
    rungs = (kprobe, fentry) if f.module else (fentry, kprobe)
    return Hook(
        f.hook,
        f"which device made an outer packet: {f.makes}",
        "hot",
        (*rungs, Rung("inventory", (), blind=BY_ENDPOINTS)),
        BY_ENDPOINTS,
    )


def _received(how: How) -> tuple[Attachment, ...]:
    return (
        Attachment(how, f"receive4_{how}", "icmp_unreach"),
        Attachment(how, f"receive6_{how}", "icmpv6_notify"),
    )


def _path(how: How) -> tuple[Attachment, ...]:
    return (
        Attachment(how, f"path4_{how}", "update_or_create_fnhe"),
        Attachment(how, f"path6_{how}", "rt6_do_update_pmtu"),
    )


OVS_SEND = ("ovs_vport_send", "openvswitch")

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
                ("attempt6", "sent6"),
            ),
            Rung(
                "kprobe",
                (
                    Attachment("kprobe", "icmp6_send_enter_kprobe", "icmp6_send"),
                    Attachment("kretprobe", "icmp6_send_exit_kprobe", "icmp6_send"),
                    Attachment("kprobe", "icmp6_push_pending_kprobe", "icmpv6_push_pending_frames"),
                ),
                ("attempt6", "sent6"),
            ),
            Rung(
                "tracepoint",
                (_tp("net_dev_queue"),),
                ("sent6",),
                blind="whether ratemask or no route kept a packet-too-big back",
                cost="hot",
            ),
            Rung("predicates", (), blind="whether a packet-too-big was sent is inferred"),
        ),
        "whether a packet-too-big was sent",
    ),
    Hook(
        "why",
        "what makes the kernel give up a message: a limit, options, no room in the send buffer",
        "cold",
        (
            # Before 6.6 no function with as many arguments as ip_append_data() (473e3150e30a).
            Rung("fexit", _why("fexit", "append6_fexit"), ("why",)),
            Rung("kretprobe", _why("kretprobe", "append_kretprobe"), ("why",)),
            # What is left when all else has been looked at.
            Rung(
                "elimination",
                (),
                blind="a limit is reported as unknown, append_failed as told or no_route_back",
            ),
        ),
        "why a message was given up",
    ),
    Hook(
        "waiting",
        "whether a message dies in a queue, after its drop was counted as told",
        "hot",
        (
            Rung("tracepoint", (_tp("neigh_event_send_done"), _tp("qdisc_enqueue"))),
            # Before 5.15 (70713dddf3d2).
            Rung(
                "neighbours",
                (_tp("neigh_event_send_done"),),
                blind="whether a message dies in a device's queue",
            ),
        ),
        "whether a message dies in a queue: its drop stays told",
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
        "no_room is reported as no_route_back, options_invalid as unknown; no_route_back as told, "
        "where sending is inferred",
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
    Hook(
        "fragment",
        "outer packets of tunnels that leave as fragments",
        "hot",
        (
            Rung("fentry", _fragment("fentry")),
            Rung("kprobe", _fragment("kprobe")),
            Rung(
                "tracepoint",
                (_tp("consume_skb"),),
                blind="packets that were pieced together here and leave in the same pieces",
            ),
        ),
        "outer packets that leave as fragments",
    ),
    *(_tunnel(function) for function in TUNNEL_FUNCTIONS),
    Hook(
        "openvswitch",
        "oversize packets that Open vSwitch refuses: to which port they were sent",
        "hot",
        (
            # The kprobe first: it does not hold the module.
            Rung("kprobe", (Attachment("kprobe", "vport_send_kprobe", *OVS_SEND),)),
            Rung("fentry", (Attachment("fentry", "vport_send_fentry", *OVS_SEND),)),
        ),
        "oversize packets that Open vSwitch refuses",
    ),
    Hook(
        "path",
        "a path MTU exception as it is set, and what set it",
        "cold",
        (
            Rung("fentry", _path("fentry")),
            Rung("kprobe", _path("kprobe")),
            Rung("netlink", (), blind=BY_DUMPS),
        ),
        BY_DUMPS,
    ),
    Hook(
        "received",
        "a frag-needed or packet-too-big that arrives",
        "cold",
        (
            Rung("fexit", _received("fexit")),
            # At its end a function's arguments are gone: they are kept when it begins.
            Rung(
                "kretprobe",
                (
                    Attachment("kprobe", "receive_enter_kprobe", "icmp_unreach"),
                    Attachment("kprobe", "receive_enter_kprobe", "icmpv6_notify"),
                    *_received("kretprobe"),
                ),
            ),
            # A raw socket in each namespace, where path MTUs are followed.
            Rung("socket", (), blind=ONE_END),
        ),
        "frag-needed and packet-too-big that arrive",
    ),
    Hook(
        "modules",
        "that a module has come or gone",
        "cold",
        (
            Rung("tracepoint", (_tp("module_load"), _tp("module_free"))),
            Rung("polling", (), blind="a module is noticed up to half a second late"),
        ),
        "a module is noticed up to half a second late",
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
ATTACHMENTS = frozenset(a for h in HOOKS for r in h.ladder for a in r.attachments)
TRACEPOINTS = frozenset(a.target for a in ATTACHMENTS if a.how == "tracepoint")
FUNCTIONS = frozenset(a.target for a in ATTACHMENTS if a.how != "tracepoint")
