"""A router whose way leads through a VXLAN tunnel: is whoever sends too much told so?"""

import pytest

from pmtutrace.lab import Port, Route, Topology, Traffic, Tunnel, Veth, send

SENDER, STRANGER, FAR = "10.77.1.1", "198.51.100.99", "10.77.3.2"

# a -1500- r =vx0 1450= b
TUNNEL = Topology(
    veths=(
        Veth((Port("a", "a0", ("10.77.1.1/24",)), Port("r", "ra", ("10.77.1.2/24",)))),
        Veth((Port("r", "ru", ("192.0.2.1/24",)), Port("b", "bu", ("192.0.2.2/24",)))),
    ),
    tunnels=(
        Tunnel(
            "vxlan",
            (
                Port("r", "vx0", ("10.77.3.1/24",), mtu=1450),
                Port("b", "vx0", ("10.77.3.2/24",), mtu=1450),
            ),
            ("192.0.2.1", "192.0.2.2"),
            key=77,
            df="set",
        ),
    ),
    routes=(
        Route("a", "10.77.3.0/24", via="10.77.1.2"),
        Route("b", "10.77.1.0/24", via="10.77.3.1"),
    ),
    routers=("r",),
)


@pytest.fixture
def net(pmtu_lab):
    return pmtu_lab(TUNNEL)


def test_what_fits_goes_through(net, trace):
    send(net, Traffic("udp", "a", SENDER, FAR, length=1450, count=23, sink=True))
    trace.expect_none()
    assert net["b"].counters()["vx0:rx_packets"] == 23


def test_an_octet_more_is_refused_and_the_sender_told(net, trace):
    send(net, Traffic("udp", "a", SENDER, FAR, length=1451, count=23))
    trace.expect(drops=23, verdict="told", site="ip_forward", mtu=1450, tunnel="vx0", daddr=FAR)
    assert net["a"].counters()["IcmpInDestUnreachs"] == 23


def test_whoever_there_is_no_way_back_to_is_not_told(net, trace):
    send(net, Traffic("raw-udp", "a", STRANGER, FAR, length=1500, count=5))
    send(net, Traffic("udp", "a", SENDER, FAR, length=1500, count=23))
    trace.expect(drops=5, node="r", verdict="suppressed", cause="no_route_back", others=True)
    trace.expect(drops=23, node="r", verdict="told", saddr=SENDER)


def test_a_path_below_the_tunnel_is_told_to_the_tunnel(pmtu_lab, trace):
    net = pmtu_lab(TUNNEL.having(routes=(Route("r", "192.0.2.2", dev="ru", mtu=1300),)))
    send(net, Traffic("udp", "a", SENDER, FAR, length=1400, count=23))
    counters = trace.expect(drops=23, site="ip_fragment", mtu=1300, tunnel="vx0", outer=True)
    assert {(key.outer.saddr, key.flow.saddr) for key in counters} == {("192.0.2.1", SENDER)}
    assert {event.verdict for event in trace.events()} == {"told"}
