"""Ways, sysctls and rules, as the kernel has them."""

import subprocess

import pytest

from pmtutrace.kernel import netns
from pmtutrace.kernel.nftables import Clamp
from pmtutrace.pmtu import surroundings
from pmtutrace.pmtu.surroundings import Question
from pmtutrace.pmtu.ways import Leg, Way, way

pytestmark = pytest.mark.live
SETUP = """
link set lo up
link add va type veth peer name vb
link add vc type veth peer name vd
link set va up
link set vb up
link set vc up mtu 1400
link set vd up
addr add 10.0.0.1/24 dev va
addr add 10.0.1.1/24 dev vc
addr add fd00::1/64 dev va nodad
route add 10.9.0.1 mtu lock 1300 nexthop via 10.0.0.2 dev va nexthop via 10.0.1.2 dev vc
route add 10.9.0.2 nexthop via 10.0.0.2 dev va nexthop via 10.0.0.3 dev va
route add 10.8.0.0/16 via inet6 fd00::9 dev va
route add blackhole 10.5.0.0/16
route add fd09::/64 via fd00::2
"""


def inside(test):
    """Run a test in a namespace of its own, with devices and routes."""

    def prepared():
        subprocess.run(["ip", "-b", "-"], input=SETUP, text=True, check=True)
        return test()

    return netns.run_in_new(prepared)


def test_ways():
    asked = ("10.9.0.1", "10.9.0.2", "10.8.1.1", "fd09::1", "10.5.1.1", "10.7.1.1", "fd08::1")
    found = inside(lambda: {daddr: way(daddr) for daddr in asked})
    legs = {
        daddr: [(leg.dev, leg.gateway, leg.mtu) for leg in one.legs]
        for daddr, one in found.items()
        if one
    }
    assert legs == {
        "10.9.0.1": [("va", "10.0.0.2", 1500), ("vc", "10.0.1.2", 1400)],
        "10.9.0.2": [("va", "10.0.0.2", 1500), ("va", "10.0.0.3", 1500)],
        "10.8.1.1": [("va", "fd00::9", 1500)],
        "fd09::1": [("va", "fd00::2", 1500)],
    }
    first = found["10.9.0.1"]
    assert (first.mtu, first.locked, first.limit()) == (1300, True, 1300)
    assert found["10.9.0.2"].limit() == 1500
    assert first.limit({leg.ifindex for leg in first.legs}) is None


def test_what_is_in_force_on_each_nexthop():
    """A route's own MTU is in force on all; of two by one device, the kernel would choose."""
    found = inside(lambda: [way("10.9.0.1"), way("10.9.0.2"), way("fd09::1")])
    assert [[leg.now for leg in one.legs] for one in found] == [[1300, 1300], [None, None], [None]]


def test_a_way_by_source_and_device():
    found = inside(lambda: [way("10.9.0.1", *rest) for rest in (("10.0.1.1",), ("10.0.1.77",))])
    assert (found[0].saddr, len(found[0].legs)) == ("10.0.1.1", 2)
    assert found[1] is None  # not an address of this host


def test_a_namespace():
    def read():
        subprocess.run(["sysctl", "-qw", "net.ipv6.icmp.ratemask=0-3"], check=True)
        rule = "add table ip f; add chain ip f c { type filter hook forward priority 0; }; "
        rule += "add rule ip f c tcp flags syn tcp option maxseg size set rt mtu"
        subprocess.run(["nft", rule], check=True)
        return surroundings.read([Question("10.0.0.9"), Question("10.7.1.1")]), netns.current()

    found, inum = inside(read)
    assert found.netns == inum
    there = Way(
        "10.0.0.9", (Leg("va", found.ways[Question("10.0.0.9")].legs[0].ifindex, None, 1500),)
    )
    assert found.ways == {Question("10.0.0.9"): there, Question("10.7.1.1"): None}
    assert found.sysctls.keys() == surroundings.SYSCTLS.keys()
    assert found.sysctls["min_pmtu"] == 552
    assert found.ptb_limited is True
    assert found.rules.clamps == (Clamp(),)
    assert inside(lambda: surroundings.read([])).ptb_limited is False
