"""Reading link messages: those of a stock Debian 6.1 kernel, made by ``ip link add`` of iproute2.

links-6.1.json holds IFNAME, MTU, LINK and LINKINFO of each, as they came from the kernel.
"""

import json
from pathlib import Path

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from pmtutrace.tunnels import dump
from pmtutrace.tunnels.tunnel import Tunnel

LINKS = json.loads((Path(__file__).parent / "links-6.1.json").read_text())
ENDS = ("192.0.2.1", "192.0.2.2")
ENDS6 = ("2001:db8::1", "2001:db8::2")


@pytest.fixture(scope="module", autouse=True)
def _taught():
    dump.teach()


def read(name):
    link = ifinfmsg(bytes.fromhex(LINKS[name]))
    link.decode()
    return dump.tunnel(link, 1)


EXPECTED = [
    Tunnel(1, 7, "gre1", "gre", 1476, *ENDS, pmtudisc=True, overhead=24),
    # key 5 csum seq nopmtudisc ignore-df
    Tunnel(1, 8, "gre2", "gre", 1464, ENDS[0], "192.0.2.3", pmtudisc=False, key=5, overhead=36),
    # okey 7 ikey 8 dev v0
    Tunnel(1, 9, "gre3", "gre", 1472, ENDS[0], "192.0.2.4", 3, pmtudisc=True, key=7, overhead=28),
    Tunnel(1, 10, "gre5", "gre", 1476, pmtudisc=True, external=True),
    Tunnel(1, 11, "gretap1", "gretap", 1462, *ENDS, pmtudisc=True, overhead=38),
    Tunnel(1, 12, "erspan1", "erspan", 1450, *ENDS, pmtudisc=True, key=9, overhead=50),
    Tunnel(
        1, 13, "erspan2", "erspan", 1446, ENDS[0], "192.0.2.6", pmtudisc=True, key=10, overhead=54
    ),
    Tunnel(1, 16, "ip6gre1", "ip6gre", 1448, *ENDS6, overhead=52),
    # key 11 encaplimit none
    Tunnel(1, 17, "ip6gre2", "ip6gre", 1452, ENDS6[0], "2001:db8::3", key=11, overhead=48),
    Tunnel(1, 18, "ip6gretap1", "ip6gretap", 1434, *ENDS6, overhead=66),
    Tunnel(1, 20, "ipip1", "ipip", 1480, *ENDS, pmtudisc=True, overhead=20),
    Tunnel(1, 22, "sit1", "sit", 1480, *ENDS, pmtudisc=True, overhead=20),
    Tunnel(1, 23, "ip6tnl1", "ip6tnl", 1452, *ENDS6, overhead=48),
    # encaplimit none mode ipip6
    Tunnel(1, 24, "ip6tnl2", "ip6tnl", 1460, ENDS6[0], "2001:db8::3", overhead=40),
    Tunnel(1, 26, "vti1", "vti", 1480, *ENDS),
    # df set dev v0
    Tunnel(1, 27, "vxlan1", "vxlan", 1450, *ENDS, 3, df="set", key=13, port=4789, overhead=50),
    Tunnel(1, 28, "vxlan2", "vxlan", 1500, *ENDS6, df="unset", key=14, port=4789, overhead=70),
    Tunnel(1, 29, "vxlan3", "vxlan", 1500, df="unset", port=4790, external=True),
    # group 239.1.1.1 dev v0 df inherit
    Tunnel(
        1,
        30,
        "vxlan4",
        "vxlan",
        1450,
        None,
        "239.1.1.1",
        3,
        df="inherit",
        key=15,
        port=8472,
        overhead=50,
    ),
    Tunnel(
        1, 31, "geneve1", "geneve", 1500, None, ENDS[1], df="set", key=16, port=6081, overhead=50
    ),
    Tunnel(
        1, 32, "geneve2", "geneve", 1500, None, ENDS6[1], df="unset", key=17, port=6081, overhead=70
    ),
    Tunnel(1, 33, "geneve3", "geneve", 65465, df="unset", port=6082, external=True),
    Tunnel(1, 34, "wg1", "wireguard", 1420),
]


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda item: item.name)
def test_a_link_is_read_as(expected):
    assert read(expected.name) == expected


DEFAULT_MTU = """gre1 gre2 gre3 gretap1 erspan1 erspan2 ip6gre1 ip6gre2 ip6gretap1 ipip1 sit1
    ip6tnl1 ip6tnl2 vxlan1 vxlan4"""


@pytest.mark.parametrize("name", DEFAULT_MTU.split())
def test_the_kernel_gave_it_the_mtu_that_our_overhead_leaves(name):
    made = read(name)
    assert made.mtu + made.overhead == 1500


@pytest.mark.parametrize("name", ["gre0", "gretap0", "tunl0", "sit0", "ip6tnl0", "ip6gre0"])
def test_the_fallback_devices_own_no_packet(name):
    made = read(name)
    assert (made.local, made.remote) == (None, None)
    for proto in (4, 41, 47):
        assert made.fit(*ENDS, proto, None, None) is None
