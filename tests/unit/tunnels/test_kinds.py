"""What is read from the options of each type of tunnel."""

import pytest

from pmtutrace.tunnels import kinds
from pmtutrace.tunnels.tunnel import PROTOCOLS

ENDS4 = {"LOCAL": "192.0.2.1", "REMOTE": "192.0.2.2"}
ENDS6 = {"LOCAL": "2001:db8::1", "REMOTE": "2001:db8::2"}


def read(kind, **options):
    return kinds.read(kind, options, netns=1, ifindex=2, name="t", mtu=1400)


@pytest.mark.parametrize(
    ("kind", "options", "overhead"),
    [
        # What Linux itself takes off the MTU of the link below.
        ("gre", ENDS4, 24),
        ("gre", {**ENDS4, "OFLAGS": 0x2000, "OKEY": 1}, 28),
        ("gre", {**ENDS4, "OFLAGS": 0xB000, "OKEY": 1}, 36),
        ("gre", {**ENDS4, "ENCAP_TYPE": 1, "ENCAP_DPORT": 5555}, 32),
        ("gre", {**ENDS4, "ENCAP_TYPE": 2, "ENCAP_DPORT": 5555}, 36),
        ("gretap", ENDS4, 38),
        ("erspan", {**ENDS4, "ERSPAN_VER": 1}, 50),
        ("erspan", {**ENDS4, "ERSPAN_VER": 2}, 54),
        ("ip6gre", {**ENDS6, "FLAGS": 1}, 44),
        ("ip6gre", {**ENDS6, "FLAGS": 0}, 52),
        ("ip6gretap", {**ENDS6, "FLAGS": 1}, 58),
        ("ipip", ENDS4, 20),
        ("sit", ENDS4, 20),
        ("ip6tnl", {**ENDS6, "FLAGS": 1}, 40),
        ("ip6tnl", {**ENDS6, "FLAGS": 0}, 48),
        ("vxlan", {"LOCAL": "192.0.2.1", "ID": 7, "PORT": 4789}, 50),
        ("vxlan", {"GROUP6": "2001:db8::2", "ID": 7, "PORT": 4789}, 70),
        ("vxlan", {"LOCAL": "192.0.2.1", "ID": 7, "PORT": 4790, "GPE": True}, 36),
        ("vxlan", {"PORT": 4789, "COLLECT_METADATA": 1}, None),
        ("geneve", {"REMOTE": "192.0.2.2", "ID": 7, "PORT": 6081}, 50),
        ("geneve", {"REMOTE6": "2001:db8::2", "ID": 7, "PORT": 6081}, 70),
        ("vti", ENDS4, None),
        ("wireguard", {}, None),
    ],
)
def test_overhead(kind, options, overhead):
    assert read(kind, **options).overhead == overhead


def test_a_link_that_is_no_tunnel_is_none():
    assert read("veth") is None


def test_unset_and_unspecified_endpoints_are_any():
    made = read("gre", LOCAL="0.0.0.0", REMOTE="192.0.2.2", LINK=0)  # noqa: S104 -- not bound
    assert (made.local, made.remote, made.link) == (None, "192.0.2.2", None)
    assert read("vxlan", GROUP6="::", LOCAL6="2001:db8::1").local == "2001:db8::1"


def test_a_key_counts_only_with_its_flag():
    assert read("gre", **ENDS4, OKEY=0, OFLAGS=0).key is None
    assert read("gre", **ENDS4, OKEY=0, OFLAGS=0x2000).key == 0
    assert read("vxlan", ID=0).key == 0


def test_external_tunnels_have_no_key_of_their_own():
    made = read("vxlan", ID=0, PORT=4789, COLLECT_METADATA=1)
    assert (made.external, made.key, made.port) == (True, None, 4789)


@pytest.mark.parametrize(("given", "told"), [(1, True), (0, False), (None, None)])
def test_pmtudisc(given, told):
    assert read("gre", **ENDS4, PMTUDISC=given).pmtudisc is told


@pytest.mark.parametrize(
    ("given", "told"),
    [(0, "unset"), (1, "set"), (2, "inherit"), ("inherit", "inherit"), (None, None), (9, None)],
)
def test_df(given, told):
    assert read("vxlan", DF=given).df == told


def test_the_port_of_fou_is_that_of_the_outer_packet():
    assert read("ipip", **ENDS4, ENCAP_TYPE=1, ENCAP_DPORT=5555).port == 5555
    assert read("ipip", **ENDS4, ENCAP_TYPE=0, ENCAP_DPORT=5555).port is None


def test_every_type_but_xfrm_has_an_outer_protocol():
    assert kinds.KINDS.keys() - PROTOCOLS.keys() == {"xfrm"}
