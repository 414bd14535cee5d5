"""The plugin: cheap to load, honest in its page, right in what it compares and says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pmtutrace.events import Counter, CounterKey, Flow, Outer
from pmtutrace.lab import Net, Node, Port, Topology, Tunnel
from pmtutrace.pytest_plugin import report
from pmtutrace.pytest_plugin.drops import Words, describe, normal

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "regression-tests.md").read_text()
EXAMPLE = ROOT / "examples" / "regression" / "test_vxlan_pmtu.py"
UDP = 17
INUM = 42
ENDPOINTS = ("192.0.2.1", "192.0.2.2")
TOPOLOGY = Topology(
    veths=(),
    tunnels=tuple(
        Tunnel("vxlan", (Port("r", name), Port("b", name)), ENDPOINTS, key=key)
        for key, name in enumerate(("vx0", "vx1"))
    ),
)
NET = Net(TOPOLOGY, {"r": Node("r", "r", INUM, {"ru": 1, "vx0": 2, "vx1": 3}, {})})


def dropped(packets=23, mtu=1450, *, ifindex=2, verdict="told", cause=None, outer=None, netns=INUM):
    flow = Flow("10.77.1.1", "10.77.3.2", UDP, 2323, 9)
    key = CounterKey(netns, ifindex, "ip_forward", verdict, cause, 4, flow, outer)
    return describe(NET, key, Counter(packets, packets * 1500, 1500, mtu, 1, 2))


@pytest.mark.parametrize("module", ["pmtutrace.pytest_plugin", "pmtutrace.pytest_plugin.report"])
def test_loading_it_loads_nothing_heavy(module):
    program = (
        f"import pytest, sys; had = set(sys.modules); import {module}\n"
        "print(*sorted(set(sys.modules) - had))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    loaded = done.stdout.decode().split()
    assert module in loaded
    ours = {name for name in loaded if name.startswith("pmtutrace.")}
    assert ours <= {"pmtutrace.errors", "pmtutrace.pytest_plugin", module}
    assert not {"pyroute2", "bcc", "ctypes", "subprocess", "sqlite3"} & set(loaded)


def test_the_page_holds_the_very_example():
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert block == EXAMPLE.read_text()


def test_the_page_lists_every_word_and_no_other():
    table = PAGE.partition("| word | is |\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(Words.__annotations__)


def test_a_drop_is_put_in_words():
    words = dropped().words
    assert set(words) == set(Words.__annotations__)
    assert (words["node"], words["dev"], words["tunnel"], words["proto"]) == (
        "r",
        "vx0",
        "vx0",
        "udp",
    )
    assert words["outer"] is False


@pytest.mark.parametrize(
    ("words", "matches"),
    [
        ({}, True),
        ({"verdict": "told", "mtu": 1450, "tunnel": "vx0", "saddr": "10.77.1.1"}, True),
        ({"proto": "udp"}, True),
        ({"proto": 17}, True),
        ({"proto": 6}, False),
        ({"cause": None}, True),
        ({"cause": "no_route_back"}, False),
        ({"tunnel": None}, False),
        ({"tunnel": "vx"}, False),
        ({"tunnel": "vx1"}, False),
        ({"verdict": "told", "mtu": 1451}, False),
        ({"outer": True}, False),
    ],
)
def test_every_word_given_must_match(words, matches):
    assert dropped().matches(normal(words)) is matches


def test_addresses_may_be_spelled_in_any_way():
    assert normal({"daddr": "FD77:3:0::2"}) == {"daddr": "fd77:3::2"}
    with pytest.raises(ValueError, match=r"10\.77\.1"):
        normal({"saddr": "10.77.1"})


def test_a_word_that_there_is_not_is_refused():
    with pytest.raises(TypeError, match="drops have no verdikt; they have node, dev"):
        normal({"verdikt": "told"})


def test_an_outer_packet_may_be_of_each_tunnel_with_its_endpoints():
    row = dropped(ifindex=1, outer=Outer(*ENDPOINTS, UDP))
    assert (row.words["dev"], row.words["tunnel"]) == ("ru", "vx0/vx1")
    assert row.matches({"tunnel": "vx1"})
    assert not row.matches({"tunnel": "vx0/vx1"})
    backwards = dropped(ifindex=1, outer=Outer(*ENDPOINTS[::-1], UDP))
    assert backwards.words["tunnel"] is None
    assert backwards.matches({"tunnel": None})


def test_what_found_no_room_is_of_no_node():
    row = dropped(netns=0)
    assert (row.words["node"], row.words["dev"], row.words["tunnel"]) == ("", "", None)


def test_a_failure_shows_all_three_side_by_side():
    rows = [dropped(20), dropped(3, 1280, verdict="suppressed", cause="no_route_back")]
    expected = {"site": "ip_forward", "mtu": 1450, "cause": None}
    text = report.failure(
        23, expected, rows[:1], rows[1:], {"r IpFragFails": 23, "r IpInReceives": 23, "r Udp": 0}
    )
    assert text.splitlines() == [
        "expected 23 drops, counted 20, and 3 that were not expected",
        "          expected    counted                       the kernel's own counters",
        "!  drops  23          20                            r IpFragFails +23",
        "   site   ip_forward  ip_forward",
        "!  mtu    1450        1450 (20), 1280 (3)",
        "!  cause  none        none (20), no_route_back (3)",
        "counted, key by key:",
        "!  3   r  vx0  ip_forward  suppressed/no_route_back  mtu 1280  "
        "udp 10.77.1.1 2323 > 10.77.3.2 9",
        "   20  r  vx0  ip_forward  told                      mtu 1450  "
        "udp 10.77.1.1 2323 > 10.77.3.2 9",
    ]


def test_others_that_are_allowed_are_not_held_against_it():
    rows = [dropped(22), dropped(3, 1280)]
    text = report.failure(23, {"mtu": 1450}, rows[:1], rows[1:], {}, allowed=True)
    assert text.splitlines()[0] == "expected 23 drops, counted 22, and 3 others"
    assert "   mtu    1450      1450" in text
    assert "1280 (3)" not in text
    assert [line[0] for line in text.splitlines()[-2:]] == [" ", " "]


def test_nothing_counted_and_nothing_moved():
    text = report.failure(23, {"mtu": 1450}, [], [], {})
    assert text.splitlines()[2:] == [
        "!  drops  23        0        none moved",
        "!  mtu    1450      -",
    ]


def test_a_storm_of_keys_is_cut():
    rows = [dropped(1, mtu) for mtu in range(100)]
    text = report.failure(0, {"mtu": 1}, [], rows, {})
    assert text.endswith("\nand 80 more")
    assert "0 (1), 1 (1), 2 (1), 3 (1), …" in text
