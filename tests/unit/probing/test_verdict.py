"""Verdicts on paths that are made up, each beside one that differs in a single thing."""

from dataclasses import replace

import pytest

from pmtutrace.probing.belief import Belief
from pmtutrace.probing.verdict import VERDICTS, News, Path, Under, judge, recursive

KERNEL = Belief("eth0", 2, 1500, 1500, source="192.0.2.1")
FINE = Path(4, 1500, 1500, False, None, KERNEL, KERNEL, 1501)
TOLD = replace(FINE, mtu=1400, round_trip=1400, fails=1401, news=News("192.0.2.9", 1400))
SILENT = replace(FINE, mtu=1300, round_trip=1300, fails=1301, silent=True)


def learned(mtu, *, dev_mtu=1500, locked=False, route_mtu=None):
    return Belief("eth0", 2, dev_mtu, mtu, locked, 512.0, route_mtu)


def under(believed, mtu=1500, overhead=24):
    return Under("gre1", "192.0.2.2", overhead, mtu, believed)


def tunnelled(mtu, below, *, silent=False):
    device = Belief("gre1", 7, 1476, 1476)
    return Path(4, mtu, mtu, silent, None, device, device, mtu + 1, below)


@pytest.mark.parametrize(
    ("path", "verdict", "words"),
    [
        (FINE, "fine", ""),
        (replace(FINE, round_trip=None), "fine", ""),
        (TOLD, "reduced", "by 192.0.2.9, naming 1400"),
        (replace(TOLD, news=News("192.0.2.1", None)), "reduced", "by this host)"),
        (SILENT, "black_hole", "1301 to 1500 octets vanish"),
        (replace(SILENT, after=learned(1400)), "black_hole", "1301 to 1400 octets vanish"),
        (replace(SILENT, after=learned(1300)), "reduced", "believes 1300 for 512 s more"),
        (replace(SILENT, settled=False, fails=1350), "black_hole", "1350 to 1500"),
        (replace(SILENT, mtu=1500), "asymmetric", "more than 1300 do not come back"),
        (replace(FINE, before=learned(552, locked=True)), "collapsed", "552 (locked) for 512 s"),
        (replace(FINE, after=learned(1000)), "collapsed", "believes 1000"),
        (replace(FINE, before=learned(1400, route_mtu=1400)), "reduced", "own MTU is 1400"),
        (replace(FINE, before=replace(KERNEL, mtu=1400)), "reduced", "own MTU is 1400"),
        (replace(TOLD, news=News("192.0.2.9", 600)), "collapsed", "192.0.2.9 says 600"),
        (replace(TOLD, mtu=576), "reduced", ""),
        (replace(TOLD, mtu=575, round_trip=None, news=None), "collapsed", "no link is as narrow"),
        (replace(TOLD, family=6, mtu=1279, round_trip=None), "collapsed", "no link is as narrow"),
        (tunnelled(1476, under(KERNEL)), "fine", ""),
        (tunnelled(528, under(learned(552, locked=True))), "collapsed", "gre1 takes 528"),
        (tunnelled(976, under(learned(1000), mtu=1000)), "reduced", "believes 1000"),
        (tunnelled(976, under(learned(1000, route_mtu=1000))), "reduced", "believes 1000"),
        (tunnelled(976, under(learned(1000), mtu=None)), "reduced", "believes 1000"),
        (tunnelled(976, under(learned(1000), 1000), silent=True), "black_hole", "977 to 1476"),
        (tunnelled(1476, replace(under(KERNEL), recursive=True)), "collapsed", "into gre1 itself"),
    ],
)
def test_verdicts(path, verdict, words):
    judgement = judge(path)
    assert judgement.verdict == verdict
    assert verdict in VERDICTS
    assert words in judgement.found
    assert bool(judgement.hint) == (verdict != "fine")


def test_what_the_tunnel_itself_makes_the_kernel_believe_is_no_collapse():
    """The endpoint keeps its own packets small although longer ones would go in fragments."""
    own = Belief("vx0", 7, 1450, 1250, expires=512.0)
    below = under(learned(1300), mtu=1300, overhead=50)
    path = replace(tunnelled(1450, below), before=own, after=own)
    assert judge(path).verdict == "reduced"
    assert "fragments in gre1" in judge(path).found
    path = replace(path, before=replace(own, mtu=1200))
    assert judge(path).verdict == "collapsed"


@pytest.mark.parametrize(
    ("path", "command"),
    [
        (tunnelled(976, under(learned(1000), 1000)), "ip link set gre1 mtu 976"),
        (tunnelled(976, under(learned(1000), 1000), silent=True), "ip link set gre1 mtu 976"),
        (replace(tunnelled(976, under(learned(1000), 1000), silent=True), family=6), "needs 1304"),
        (replace(FINE, family=6, before=learned(1300)), "ip -6 route flush cache"),
        (SILENT, "clamp the MSS to 1260"),
        (replace(SILENT, family=6), "clamp the MSS to 1240"),
    ],
)
def test_what_to_do(path, command):
    assert command in judge(path).hint


def test_a_recursive_tunnel_is_told_even_where_nothing_answers():
    judgement = recursive(replace(under(KERNEL), recursive=True))
    assert judgement.verdict == "collapsed"
    assert "192.0.2.2" in judgement.hint
