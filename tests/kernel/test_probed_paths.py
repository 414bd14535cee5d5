"""`pmtutrace probe` on whatever kernel runs: exact on every path, and through GRE.

The times that it promises are for a real CPU; tests/live/test_probe.py holds it to these.
"""

from __future__ import annotations

import pytest

from pmtutrace import lab
from pmtutrace.errors import NotSupported
from pmtutrace.lab import Port, Route, Topology, Veth
from pmtutrace.lab.scenarios import gre
from pmtutrace.lab.scenarios.routed import DROP_NEWS
from pmtutrace.lab.scenarios.tunnelled import B_INNER
from probed import as_everybody, longer_dropped, probe

pytestmark = [pytest.mark.live, pytest.mark.shared]
WITHIN_S = 60.0
TOLD = {1500: "fine", 1400: "reduced", 1280: "reduced", 576: "reduced", 552: "collapsed"}
TOLD[500] = "collapsed"
HOLE, FILTERED = 1300, 1400


def near(number):
    return f"10.77.{number}.1", f"10.77.{number}.2"


def path(number, node, mtu=1500):
    """Return a cable from a to a router, one from there to b, and a host's address behind it."""
    (mine, gate), (other, far) = near(number), near(number + 100)
    target = f"10.99.{number}.1"
    veths = (
        Veth(
            (Port("a", f"a{number}", (f"{mine}/24",)), Port(node, f"near{number}", (f"{gate}/24",)))
        ),
        Veth(
            (
                Port(node, f"far{number}", (f"{other}/24",)),
                Port("b", f"b{number}", (f"{far}/24", f"{target}/32")),
            )
        ),
    )
    routes = (
        Route("a", f"{target}/32", via=gate),
        Route(node, f"{target}/32", via=far, mtu=mtu),
        Route("b", f"{mine}/32", via=other),
    )
    return target, veths, routes


def paths():
    """Return the topology of all paths, and what is true of each, by destination."""
    true, veths, routes = {}, [], []
    wanted = [("r", mtu, mtu, verdict) for mtu, verdict in TOLD.items()]
    wanted += [("hole", 1500, HOLE, "black_hole"), ("mute", FILTERED, FILTERED, "black_hole")]
    for number, (node, route_mtu, mtu, verdict) in enumerate(wanted, 1):
        target, cables, ways = path(number, node, route_mtu)
        true[target] = mtu, verdict
        veths += cables
        routes += ways
    rules = (longer_dropped("hole", HOLE), ("mute", DROP_NEWS[4]))
    routers = ("r", "hole", "mute")
    return true, Topology(tuple(veths), routes=tuple(routes), routers=routers, rules=rules)


@as_everybody
def test_each_path_is_measured_to_the_octet(user):
    true, topology = paths()
    with lab.built(topology.having(sysctls=user.sysctls)) as net:
        code, lines = probe(net["a"], *true, before=user.before, within=WITHIN_S)
    assert code == 3
    assert {line["dest"]: (line["mtu"], line["verdict"]) for line in lines} == true
    assert {(line["by"], line["settled"]) for line in lines} == {(user.by, True)}


@as_everybody
def test_through_gre(user, kernel):
    sysctls = tuple(("r", key, value) for _, key, value in user.sysctls)
    tunnel = gre.GRE.topology().having(sysctls=sysctls)
    try:
        with lab.built(tunnel) as net:
            words = ("--tunnel", "g0", B_INNER[4])
            code, (line,) = probe(net["r"], *words, before=user.before, within=WITHIN_S)
    except NotSupported as error:
        kernel.skip("gre-v4-udp-forward", error.message)
    assert (line["mtu"], line["settled"], line["by"]) == (1376, True, user.by)
    assert (line["verdict"], code) == ("reduced", 3)
    assert line["hint"].endswith("ip link set g0 mtu 1376")
    below = {key: line["tunnel"][key] for key in ("name", "remote", "overhead", "believed")}
    assert below == {"name": "g0", "remote": "192.0.2.2", "overhead": 24, "believed": 1400}
