"""Which device made an outer packet that dies: exact, whatever kind of tunnel and packet it is."""

from __future__ import annotations

import pytest

from pmtutrace.events import Device
from pmtutrace.lab import run
from pmtutrace.lab.build import built
from pmtutrace.lab.scenarios import ALL
from pmtutrace.tracing.tracer import Settings, Tracer

pytestmark = pytest.mark.live

# IPsec is where the packet may be out of our hands before its outer header is there.
BY_IPSEC = ("vti", "vti6", "xfrm")
OUTER = [
    scenario
    for scenario in ALL
    if scenario.expected and scenario.expected.outer and scenario.expected.tunnel
    if scenario.topology.tunnels[0].type not in BY_IPSEC
]
# For the second way, one of each kind is enough: what comes after is the same.
KINDS = {(s.topology.tunnels[0].type, s.expected.site): s for s in OUTER}
WAYS = {"best": Settings(), "kprobe": Settings(without=frozenset({"fentry", "fexit"}))}
CASES = [("best", s) for s in OUTER] + [("kprobe", s) for s in KINDS.values()]


@pytest.fixture(scope="module")
def tracer(request, kernel):
    with Tracer(WAYS[request.param]) as attached:
        rungs = {a.hook.name: a.rung.name for a in attached.attached if a.rung}
        if "inventory" in (rungs["tunnel4"], rungs["tunnel6"]):
            assert not kernel.known or kernel.hooks["tunnel4"] == "inventory"
            pytest.skip("nothing shows which device made a packet on this kernel")
        yield attached


@pytest.mark.parametrize(
    ("tracer", "scenario"), CASES, indirect=["tracer"], ids=lambda v: getattr(v, "name", v)
)
def test_the_device_is_known(tracer, scenario):
    """Of every packet, though counters of other keys than the scenario's may count them."""
    with built(scenario) as net:
        tracer.refresh()
        before = tracer.counters()
        run.exercise(net, scenario)
        node = net[scenario.expected.node]
        wanted = Device(node.inum, node.ifindexes[scenario.expected.tunnel])
        made = {}
        for key, counter in tracer.counters().items():
            new = counter.packets - (before[key].packets if key in before else 0)
            if new and key.netns == node.inum and key.site == scenario.expected.site:
                made[key.maker] = made.get(key.maker, 0) + new
    assert made == {wanted: scenario.count}


@pytest.mark.parametrize("tracer", WAYS, indirect=True)
def test_other_packets_have_no_maker(tracer):
    """Those refused before they are encapsulated, or in a plain forwarding path."""
    for name in ("route-v4-udp-forward", "route-v6-udp-forward", "vxlan-df-v4-udp-forward"):
        scenario = next(s for s in ALL if s.name == name)
        before = tracer.counters()
        result = run.run(scenario, tracer)
        assert result.result == "ok", result.reason
        new = [key for key in tracer.counters() if key not in before]
        assert all(bool(key.maker) == scenario.expected.outer for key in new)
