"""Attributes of tunnels as pyroute2 spells them."""

import pytest

from pmtutrace.errors import LabError
from pmtutrace.lab import devices
from pmtutrace.lab.topology import Port, Tunnel

ENDS = (Port("r", "t0"), Port("b", "t0"))
V4, V6 = ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")


def made(kind, endpoints=V6, **more):
    return devices.attributes(Tunnel(kind, ENDS, endpoints, **more), *endpoints)


def test_an_external_one_has_neither_endpoints_nor_key():
    for kind, prefix in (("vxlan", "vxlan_"), ("geneve", "geneve_"), ("ip6tnl", "ip6tnl_")):
        attributes = made(kind, external=True, key=77)
        assert attributes[f"{prefix}collect_metadata"]
        assert not {f"{prefix}{name}" for name in ("id", "local", "remote")} & attributes.keys()


def test_geneve_takes_its_remote_endpoint_by_version():
    assert made("geneve", V4, key=77)["geneve_remote"] == V4[1]
    assert made("geneve", V6, key=77, df="set") == {
        "kind": "geneve",
        "geneve_port": 6081,
        "geneve_id": 77,
        "geneve_remote6": V6[1],
        "geneve_df": 1,
    }


def test_tunnels_over_ipv6_limit_how_deep_they_nest():
    assert made("ip6tnl")["ip6tnl_encap_limit"] == 4
    assert made("ip6gre", key=77)["gre_oflags"] == devices.GRE_KEY
    assert made("ip6tnl", options={"flags": 1})["ip6tnl_flags"] == 1


def test_what_rtnetlink_cannot_make_is_made_by_hand():
    by_hand = {name for name, kind in devices.TUNNELS.items() if kind.make}
    assert by_hand >= {"tun", "tap", "l2tp"}


def test_an_unknown_type_is_refused():
    with pytest.raises(LabError) as caught:
        made("none-such")
    assert "ip6tnl" in caught.value.hint
