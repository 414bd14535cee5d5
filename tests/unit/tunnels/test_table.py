"""Whose tunnel an outer packet is, and what changed between two dumps."""

import pytest

from pmtutrace.events import InnerMtu
from pmtutrace.tunnels import table
from pmtutrace.tunnels.table import Table
from pmtutrace.tunnels.tunnel import Tunnel

NETNS = 4026531840
GRE, IPIP, IPV6, UDP = 47, 4, 41, 17
VXLAN_PORT, GENEVE_PORT = 4789, 6081


def tunnel(ifindex, name, kind, local=None, remote=None, **more):
    return Tunnel(NETNS, ifindex, name, kind, 1450, local, remote, **more)


GRE1 = tunnel(1, "gre1", "gre", "192.0.2.1", "192.0.2.2")
KEYED = tunnel(2, "keyed", "gre", "192.0.2.1", "192.0.2.2", key=5)
ANYWHERE = tunnel(3, "anywhere", "gre", "192.0.2.1")
FALLBACK = tunnel(4, "gre0", "gre")
IP4 = tunnel(5, "ipip1", "ipip", "192.0.2.1", "192.0.2.2")
SIT = tunnel(6, "sit1", "sit", "192.0.2.1", "192.0.2.2")
VXLAN = tunnel(7, "vx7", "vxlan", "192.0.2.1", "192.0.2.2", key=7, port=VXLAN_PORT)
VXLAN8 = tunnel(8, "vx8", "vxlan", "192.0.2.1", "192.0.2.2", key=8, port=VXLAN_PORT)
FLOODING = tunnel(9, "vx9", "vxlan", None, "239.1.1.1", key=9, port=VXLAN_PORT)
EXTERNAL = tunnel(10, "gnv", "geneve", port=GENEVE_PORT, external=True)
FOU = tunnel(11, "fou1", "gre", "192.0.2.1", "192.0.2.2", port=5555)
OVER6 = tunnel(12, "vx12", "vxlan", "2001:db8::1", "2001:db8::2", key=7, port=VXLAN_PORT)
ALL = Table(
    [GRE1, KEYED, ANYWHERE, FALLBACK, IP4, SIT, VXLAN, VXLAN8, FLOODING, EXTERNAL, FOU, OVER6]
)


def test_tunnels_to_a_far_end_and_what_fits_inside():
    ends = ("192.0.2.1", "192.0.2.2")
    gre = tunnel(1, "gre1", "gre", *ends, overhead=24, link=2)
    vxlan = tunnel(2, "vx7", "vxlan", *ends, key=7, port=VXLAN_PORT, overhead=50)
    other = tunnel(3, "gre3", "gre", "192.0.2.1", "192.0.2.3", overhead=24)
    unknown = tunnel(4, "gre4", "gre", *ends)
    found, _ = Table([gre, vxlan, other, unknown]).after([gre, vxlan, other], 0)
    assert found.inside(NETNS, "192.0.2.2", 2, 1400) == (
        InnerMtu("gre1", "gre", 1376),
        InnerMtu("vx7", "vxlan", 1350),
    )
    assert found.inside(NETNS, "192.0.2.2", 5, 1400) == (InnerMtu("vx7", "vxlan", 1350),)
    assert found.inside(NETNS, "192.0.2.3", 5, None) == (InnerMtu("gre3", "gre", None),)
    assert found.inside(NETNS + 1, "192.0.2.2", 2, 1400) == ()
    assert Table([unknown]).inside(NETNS, "192.0.2.2", 2, 1400) == (InnerMtu("gre4", "gre", None),)


@pytest.mark.parametrize(
    ("saddr", "daddr", "proto", "key", "dport", "owner"),
    [
        ("192.0.2.1", "192.0.2.2", GRE, None, None, GRE1),
        ("192.0.2.1", "192.0.2.2", GRE, 5, None, KEYED),
        ("192.0.2.1", "192.0.2.2", GRE, 6, None, None),
        ("192.0.2.1", "198.51.100.9", GRE, None, None, ANYWHERE),
        ("203.0.113.1", "198.51.100.9", GRE, None, None, None),
        ("192.0.2.1", "192.0.2.2", IPIP, None, None, IP4),
        ("192.0.2.1", "192.0.2.2", IPV6, None, None, SIT),
        ("192.0.2.1", "192.0.2.2", UDP, 7, VXLAN_PORT, VXLAN),
        ("192.0.2.1", "192.0.2.2", UDP, 8, VXLAN_PORT, VXLAN8),
        ("192.0.2.1", "192.0.2.2", UDP, 7, 53, None),
        ("192.0.2.1", "198.51.100.9", UDP, 7, VXLAN_PORT, VXLAN),
        ("203.0.113.1", "198.51.100.9", UDP, 9, VXLAN_PORT, FLOODING),
        ("203.0.113.1", "198.51.100.9", UDP, 7, VXLAN_PORT, None),
        ("203.0.113.1", "198.51.100.9", UDP, 1234, GENEVE_PORT, EXTERNAL),
        ("192.0.2.1", "192.0.2.2", UDP, None, 5555, FOU),
        ("2001:db8::1", "2001:db8::2", UDP, 7, VXLAN_PORT, OVER6),
        ("192.0.2.2", "192.0.2.1", UDP, 8, VXLAN_PORT, VXLAN8),
        ("192.0.2.1", "192.0.2.2", 6, None, 80, None),
    ],
)
def test_an_outer_packet_belongs_to(saddr, daddr, proto, key, dport, owner):
    assert ALL.by_outer(NETNS, saddr, daddr, proto, key, dport) == owner


def test_an_outer_packet_of_another_namespace_belongs_to_nobody():
    assert ALL.by_outer(NETNS + 1, "192.0.2.1", "192.0.2.2", GRE) is None


def test_a_first_dump_is_all_news_in_order():
    new, changes = Table().after([VXLAN, GRE1], 7)
    assert [(change.ts, change.what, change.name, change.type) for change in changes] == [
        (7, "appeared", "vx7", "vxlan"),
        (7, "appeared", "gre1", "gre"),
    ]
    assert new.by_device(NETNS, 7) == VXLAN


def test_the_same_again_is_no_change():
    assert ALL.after(ALL.live.values(), 1)[1] == []


def test_another_mtu_is_a_change_and_tells_the_new_one():
    smaller = Tunnel(NETNS, 7, "vx7", "vxlan", 1300, "192.0.2.1", "192.0.2.2", key=7, port=4789)
    new, changes = Table([VXLAN]).after([smaller], 1)
    assert [(change.what, change.mtu) for change in changes] == [("changed", 1300)]
    assert new.by_device(NETNS, 7).mtu == 1300


def test_a_tunnel_that_went_can_still_be_asked_for_and_is_marked():
    new, changes = Table([VXLAN]).after([], 1)
    assert [change.what for change in changes] == ["gone"]
    assert new.by_device(NETNS, 7).gone
    assert new.by_outer(NETNS, "192.0.2.1", "192.0.2.2", UDP, 7, VXLAN_PORT).name == "vx7"
    assert new.live == {}


def test_a_living_tunnel_owns_before_one_that_went():
    heir = Tunnel(NETNS, 70, "heir", "vxlan", 1450, "192.0.2.1", "192.0.2.2", key=7, port=4789)
    new, _ = Table([VXLAN]).after([heir], 1)
    assert new.by_outer(NETNS, "192.0.2.1", "192.0.2.2", UDP, 7, VXLAN_PORT) == heir
    assert new.by_device(NETNS, 7).name == "vx7"


def test_an_ifindex_used_again_by_another_type_is_one_gone_and_one_new():
    other = Tunnel(NETNS, 7, "tun", "ipip", 1480, "192.0.2.1", "192.0.2.9")
    new, changes = Table([VXLAN]).after([other], 1)
    assert [(change.what, change.name) for change in changes] == [
        ("gone", "vx7"),
        ("appeared", "tun"),
    ]
    assert new.by_device(NETNS, 7) == other


def test_one_that_comes_back_is_no_longer_gone():
    away, _ = Table([VXLAN]).after([], 1)
    back, changes = away.after([VXLAN], 2)
    assert [change.what for change in changes] == ["appeared"]
    assert back.gone == {}


def test_of_those_that_went_only_the_last_are_kept(monkeypatch):
    monkeypatch.setattr(table, "GONE_KEPT", 2)
    known = Table([tunnel(1, "a", "gre", "192.0.2.1")])
    for ifindex, name in ((2, "b"), (3, "c"), (4, "d")):
        known, _ = known.after([tunnel(ifindex, name, "gre", "192.0.2.1")], ifindex)
    assert [item.name for item in known.gone.values()] == ["b", "c"]
