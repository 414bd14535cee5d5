"""IPsec: VTI, XFRM interfaces, and policies without a device. See :mod:`.tunnelled`.

AES-GCM pads to 4 octets: what fits is the underlay's MTU less 54 (IPv4) or 74 (IPv6) octets.
"""

from __future__ import annotations

from pmtutrace.lab.scenario import Evidence, Expected, Scenario
from pmtutrace.lab.scenarios.local import APPEND
from pmtutrace.lab.scenarios.routed import (
    DROP_NEWS,
    R_TO_A,
    SITE,
    STRANGER,
    WORDS,
    A,
    cidr,
    heard,
    routed,
)
from pmtutrace.lab.scenarios.routed import B as B_ROUTED
from pmtutrace.lab.scenarios.tunnelled import (
    B_INNER,
    B_UNDER,
    FAILS,
    FRAGMENT,
    R_INNER,
    R_UNDER,
    SENT,
    UNDER_MTU,
    Kind,
    fits,
    inside,
    told,
    traffic,
)
from pmtutrace.lab.topology import Port, Route, Security, Topology, Veth
from pmtutrace.lab.traffic import COUNT, REFUSED, Traffic

OVERHEAD = {4: 54, 6: 74}


def _device(name: str, words: str, site: str, under: int, counts: tuple[str, ...]) -> Kind:
    return Kind(
        name if under == 4 or name != "xfrm" else "xfrm6",
        name,
        words,
        OVERHEAD[under],
        dev="sec0",
        under=under,
        sites={4: site, 6: site},
        counts=counts,
        key=77,
    )


VTI = _device("vti", "VTI", "vti_tunnel_xmit", 4, ("tx_errors",))
VTI6 = _device("vti6", "VTI over IPv6", "vti6_tnl_xmit", 6, ("tx_errors", "tx_dropped"))
XFRM = _device("xfrm", "an XFRM interface", "xfrmi_xmit", 4, ("tx_dropped",))
XFRM6 = _device("xfrm", "XFRM over IPv6", "xfrmi_xmit", 6, ("tx_dropped",))
KINDS = (VTI, VTI6, XFRM, XFRM6)


def _suppressed(kind: Kind, version: int) -> Scenario:
    return inside(
        kind,
        version,
        "no-route-back",
        f"packets into {kind.words} from an address without a route",
        Traffic("raw-udp", "a", STRANGER[version], B_INNER[version]),
        verdict="suppressed",
        cause="no_route_back",
        more=(Evidence("r", "ra:rx_packets", COUNT),),
    )


def _lost(kind: Kind, version: int) -> Scenario:
    return inside(
        kind,
        version,
        "news-filtered",
        f"news of {kind.words} that the router's output filter drops",
        traffic(version, "udp"),
        verdict="lost",
        topology=kind.topology().having(rules=(("r", DROP_NEWS[version]),)),
    )


def _segments(kind: Kind, version: int) -> Scenario:
    """Return a TCP super-packet: cut before VTI; before an XFRM interface, not in every kernel."""
    return inside(
        kind,
        version,
        "tcp-forward",
        f"TCP super-packet forwarded into {kind.words}",
        traffic(version, "tcp", count=1, segments=COUNT),
    )


def _no_states(kind: Kind, version: int) -> Scenario:
    """Return the control of packets for which there is no association."""
    return Scenario(
        f"{kind.name}-v{version}-no-states",
        f"IPv{version} packets into {kind.words} without an association",
        kind.topology(states=False),
        traffic(version, "udp"),
        None,
        (*kind.counted(COUNT), Evidence("r", "XfrmOutNoStates", COUNT)),
    )


def protected(under: int, *, states: bool = True, block: bool = False) -> Topology:
    """Return a, r and b, where r and b protect all that goes to b's inner address; no device."""
    to_b = Route("r", B_UNDER[under], dev="ru", mtu=UNDER_MTU)
    hosts = tuple(f"{B_INNER[version]}/{length}" for version, length in ((4, 32), (6, 128)))
    return Topology(
        (
            Veth((Port("a", "a0", cidr(A)), Port("r", "ra", cidr(R_TO_A)))),
            Veth(
                (
                    Port("r", "ru", (*cidr(R_UNDER), *cidr(R_INNER))),
                    Port("b", "bu", (*cidr(B_UNDER), *cidr(B_INNER))),
                )
            ),
        ),
        routes=(
            Route("a", "10.77.3.0/24", via=R_TO_A[4]),
            Route("a", "fd77:3::/64", via=R_TO_A[6]),
            Route("b", "10.77.1.0/24", via=R_INNER[4]),
            Route("b", "fd77:1::/64", via=R_INNER[6]),
            to_b,
        ),
        routers=("r",),
        security=(
            Security(
                ("r", "b"),
                (R_UNDER[under], B_UNDER[under]),
                (("0.0.0.0/0", "::/0"), hosts),
                states=states,
                block=block,
            ),
        ),
    )


def _policy_forward(under: int, version: int, what: str) -> Scenario:
    site = SITE[4] if version == 4 else FRAGMENT[6]
    errors = Evidence("r", "Ip6InTooBigErrors", 0)
    return Scenario(
        f"ipsec{'' if under == 4 else '6'}-v{version}-{what}-forward",
        f"IPv{version} {WORDS[what]} forwarded under a policy; ESP in IPv{under}",
        protected(under),
        traffic(version, what),
        Expected(site, "told", UNDER_MTU - OVERHEAD[under], "ru"),
        (
            Evidence("r", FAILS[version], COUNT),
            Evidence("r", SENT[version], COUNT),
            *([errors] if version == 6 else []),
            heard(version),
        ),
    )


def _policy_local(
    under: int, version: int, name: str, what: str, title: str, site: str, **more: object
) -> Scenario:
    return Scenario(
        f"ipsec{'' if under == 4 else '6'}-v{version}-{name}",
        f"IPv{version} {title} under a policy; ESP in IPv{under}",
        protected(under),
        traffic(version, what, local=True, **more),
        Expected(site, "local", UNDER_MTU - OVERHEAD[under], "ru"),
        (
            Evidence("r", REFUSED, COUNT),
            Evidence("r", SENT[version], 0),
            Evidence("r", "XfrmOutStateModeError", COUNT if site.endswith("check_size") else 0),
            heard(version, 0, node="r"),
        ),
    )


def _policy_control(version: int, name: str, title: str, counter: str, **how: bool) -> Scenario:
    return Scenario(
        f"policy-v{version}-{name}",
        f"IPv{version} {title}",
        protected(4, **how),
        traffic(version, "udp"),
        None,
        (Evidence("r", counter, COUNT), Evidence("r", FAILS[version], 0)),
    )


def _policy_fits(under: int, version: int) -> Scenario:
    length = UNDER_MTU - OVERHEAD[under]
    return Scenario(
        f"ipsec{'' if under == 4 else '6'}-v{version}-echo-fits",
        f"IPv{version} pings of {length} octets under a policy; ESP in IPv{under}",
        protected(under),
        traffic(version, "echo", length=length),
        None,
        (
            Evidence("b", "IcmpInEchos" if version == 4 else "Icmp6InEchos", COUNT),
            Evidence("r", FAILS[version], 0),
            heard(version, 0),
        ),
    )


def _transit(version: int) -> Scenario:
    return Scenario(
        f"route-v{version}-esp-forward",
        f"IPv{version} ESP packets of others forwarded onto a link of 1400",
        routed(),
        Traffic("esp", "a", A[version], B_ROUTED[version]),
        Expected(SITE[version], "told", 1400, "rb"),
        (
            Evidence("r", FAILS[version], COUNT),
            Evidence("r", SENT[version], COUNT),
            heard(version),
        ),
    )


SCENARIOS = (
    *(
        told(kind, version, what)
        for kind in KINDS
        for what in ("udp", "echo")
        for version in kind.carries
    ),
    *(told(kind, version, "echo", local=True) for kind in KINDS for version in kind.carries),
    *(_segments(kind, version) for kind in (VTI, VTI6) for version in (4, 6)),
    *(_suppressed(kind, version) for kind in (VTI, XFRM) for version in (4, 6)),
    *(_lost(kind, version) for kind in (VTI, XFRM) for version in (4, 6)),
    *(fits(kind, version) for kind in KINDS for version in kind.carries),
    *(
        _policy_forward(under, version, what)
        for under in (4, 6)
        for what in ("udp", "echo")
        for version in (4, 6)
    ),
    *(
        scenario
        for under in (4, 6)
        for scenario in (
            _policy_local(
                under,
                4,
                "udp-local",
                "udp",
                "datagrams of r's own (probe)",
                "xfrm4_tunnel_check_size",
            ),
            _policy_local(
                under, 4, "echo-local", "echo", "pings of r's own", "xfrm4_tunnel_check_size"
            ),
            _policy_local(
                under,
                4,
                "udp-local-do",
                "udp",
                "datagrams of r's own (do)",
                APPEND[4],
                discover="do",
                connect=True,
            ),
            _policy_local(
                under,
                6,
                "udp-local",
                "udp",
                "datagrams of r's own (DONTFRAG)",
                "xfrm6_tunnel_check_size",
            ),
            _policy_local(
                under,
                6,
                "raw-local",
                "raw-udp",
                "packets of r's own with their header",
                "__xfrm6_output",
            ),
            _policy_local(
                under,
                6,
                "udp-local-probe",
                "udp",
                "datagrams of r's own (probe)",
                "xfrm6_tunnel_check_size",
                discover="probe",
            ),
            _policy_local(
                under,
                6,
                "udp-local-do",
                "udp",
                "datagrams of r's own (do)",
                APPEND[6],
                discover="do",
                connect=True,
            ),
        )
    ),
    *(
        _policy_control(version, name, title, counter, **how)
        for version in (4, 6)
        for name, title, counter, how in (
            ("no-states", "packets without an association", "XfrmOutNoStates", {"states": False}),
            (
                "blocked",
                "packets that a policy blocks",
                "XfrmOutPolBlock",
                {"block": True, "states": False},
            ),
        )
    ),
    *(_no_states(kind, 4) for kind in KINDS),
    *(_policy_fits(under, version) for under in (4, 6) for version in (4, 6)),
    *(_transit(version) for version in (4, 6)),
)
