"""The same events, as text and as JSON, are the lines kept beside this file.

After a wanted change, ``PYTHONPATH=tests python tests/golden/test_lines.py`` writes them anew: look
at what differs.
"""

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from pmtutrace import jsonl
from pmtutrace.cli import text
from pmtutrace.events import (
    CounterKey,
    Flow,
    Fragmented,
    IcmpLost,
    InnerMtu,
    Outer,
    TunnelChange,
    TunnelRef,
)
from samples import FLOW, FORWARDED, HEARD, LOWERED, TS, drop

HERE = Path(__file__).parent
NAMES = {
    4026532001: "edge",
    4026532002: "a-namespace-with-a-long-name",
    4026532003: "\x1b[31mred\n",
}
SIX = drop(
    ts=TS + 1_000_000,
    site="ip6_forward",
    location="ip6_forward+0x6f0",
    family=6,
    verdict="suppressed",
    cause="rate_limited_host",
    flow=Flow("2001:db8:1::1", "2001:db8:2::1", 6, 443, 50000),
    df=False,
    count=17,
)
EVENTS = {
    "forwarded": FORWARDED,
    "IPv6, several at once": SIX,
    "GSO": drop(length=65000, gso=1448, flow=Flow("10.77.1.1", "10.77.2.1", 6, 33000, 80)),
    "into a tunnel": drop(dev="gre1", tunnel=TunnelRef("gre1", "gre"), mtu=1476),
    "in a tunnel": drop(
        site="ip_fragment",
        location="ip_fragment.constprop.0+0x72",
        length=1450,
        mtu=1300,
        dev="ru",
        tunnel=TunnelRef("vx0", "vxlan"),
        outer=Outer("192.0.2.1", "192.0.2.2", 17),
    ),
    "in a tunnel that nobody knows": dataclasses.replace(
        SIX, site="ip_fragment", dev="ru", outer=Outer("192.0.2.1", "192.0.2.2", 47), count=1
    ),
    "lost": drop(verdict="lost", cause="NETFILTER_DROP nf_hook_slow", reason=None),
    "never attempted": drop(
        site="br_dev_queue_push_xmit",
        location="br_dev_queue_push_xmit+0x50",
        verdict="never_attempted",
        reason="NOT_SPECIFIED",
        indev="",
    ),
    "ping": drop(flow=Flow("10.77.1.1", "10.77.2.1", 1, 4711, None)),
    "later fragment": drop(
        verdict="suppressed",
        cause="non_first_fragment",
        flow=Flow("10.77.1.1", "10.77.2.1", 17),
    ),
    "unknown protocol": drop(flow=Flow("10.77.1.1", "10.77.2.1", 253), netns=4026532999),
    "a long namespace": drop(netns=4026532002),
    "hostile names": drop(netns=4026532003, dev=r"e\x1b[2J", indev="grün0"),
    "a lost message": IcmpLost(
        TS,
        4026532001,
        0,
        "nf_hook_slow",
        "nf_hook_slow+0xb0",
        "NETFILTER_DROP",
        4,
        "10.77.1.1",
        1400,
        Flow("10.77.1.1", "10.77.2.1", 17, 2323, 9),
    ),
    "a lost message of IPv6": IcmpLost(
        TS, 4026532001, 0, "kfree_skb_list", "", None, 6, "fd77::1", 1280, Flow("", "", 0)
    ),
    "a message that had waited": IcmpLost(
        TS,
        4026532001,
        0,
        "arp_error_report",
        "arp_error_report+0x31",
        "NEIGH_FAILED",
        4,
        "10.77.1.1",
        1400,
        FLOW,
        drop=CounterKey(4026532001, 3, "ip_forward", "lost", None, 4, FLOW, None),
    ),
    "a message at a hook": IcmpLost(
        TS,
        4026532001,
        0,
        "nft_do_chain",
        "nft_do_chain+0x31",
        "NETFILTER_DROP",
        4,
        "10.77.1.1",
        1400,
        FLOW,
        hook="POSTROUTING",
    ),
    "a message arrives": HEARD,
    "a message arrives about a packet of a tunnel": dataclasses.replace(
        HEARD,
        mtu=500,
        outer=Outer("192.0.2.1", "192.0.2.2", 47),
        tunnel=TunnelRef("gre1", "gre", "192.0.2.1", "192.0.2.2", 24),
        outcome="clamped",
        effective=552,
    ),
    "a message arrives that nobody takes": dataclasses.replace(
        HEARD,
        family=6,
        router="fd77::fe",
        to="fd77::1",
        flow=Flow("fd77::1", "fd77:2::1", 6, 443, 50000),
        outcome="no_match",
        effective=None,
    ),
    "outer fragments": Fragmented(
        TS,
        4026532001,
        0,
        1450,
        1300,
        4,
        "ru",
        3,
        TunnelRef("vx0", "vxlan"),
        FLOW,
        Outer("192.0.2.1", "192.0.2.2", 17),
        23,
        b"",
    ),
    "a socket is refused": drop(
        site="__ip_append_data",
        location="__ip_append_data+0x9c1",
        reason=None,
        verdict="local",
        length=None,
        dev="",
        indev="",
        flow=Flow("10.77.1.1", "10.77.2.1", 17, 2323, None),
        mark=7,
        packet=b"",
    ),
    "ESP": drop(
        site="ip_fragment",
        tunnel=TunnelRef("vti1", "vti"),
        flow=Flow("192.0.2.1", "192.0.2.2", 50),
        spi=0x1001,
    ),
    "a tunnel appears": TunnelChange(TS, 4026532001, "appeared", "gre1", "gre", 1476),
    "a tunnel with a hostile name goes": TunnelChange(
        TS, 4026532001, "gone", "\x1b[1m\n", "vxlan", None
    ),
    "a path MTU falls": LOWERED,
    "a path MTU falls to the least, and the kernel said why": dataclasses.replace(
        LOWERED, new=552, locked=True, via="icmp", tunnels=()
    ),
    "a path MTU falls because of a message": dataclasses.replace(
        LOWERED, via="icmp", router="10.0.1.254", quoted=FLOW
    ),
    "a path MTU is locked": dataclasses.replace(
        LOWERED, change="locked", old=1400, locked=True, tunnels=()
    ),
    "a path MTU of IPv6 is learned, on the link": dataclasses.replace(
        LOWERED,
        change="created",
        family=6,
        daddr="2001:db8:2::1",
        saddr="2001:db8:1::1",
        gateway=None,
        table=100,
        old=None,
        tunnels=(InnerMtu("\x1b[1m\n", "gre", 1380),),
    ),
    "a path MTU is forgotten": dataclasses.replace(
        LOWERED, change="expired", new=None, expires=0.0, tunnels=(InnerMtu("gre1", "gre", None),)
    ),
}
TOTALS = {
    "drops": 60,
    "seconds": 10.04,
    "verdicts": {"suppressed": 23, "told": 37},
    "causes": {"no_route_back": 23},
    "fragmented": 7,
    "icmp_received": 12,
    "pmtu_changes": 3,
    "losses": {"ring_full": 5, "counters_full": 0, "nested": 1, "something_new": 2},
}


def as_text():
    lines = [text.HEADER, *(text.line(event, NAMES) for event in EVENTS.values())]
    lines += ["", *text.summary(TOTALS)]
    return "".join(f"{line}\n" for line in lines)


def as_json():
    return "".join(f"{json.dumps(jsonl.event(event, NAMES))}\n" for event in EVENTS.values())


KEPT = {"lines.txt": as_text, "lines.jsonl": as_json}


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    """Have text lines, which show local time, the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("name", KEPT)
def test_lines_are_as_kept(name):
    assert KEPT[name]() == (HERE / name).read_text()


def test_columns_are_aligned():
    heads = [text.HEADER.index(word) for word in ("NETNS", "DEV", "VERDICT", "FLOW")]
    for name in ("forwarded", "IPv6, several at once", "GSO", "in a tunnel", "never attempted"):
        line = text.line(EVENTS[name], NAMES)
        assert all(line[at] != " " and line[at - 1] == " " for at in heads), line
    for word, value in (("LEN", "1500"), ("MTU", "1400")):
        end = text.HEADER.index(word) + len(word)
        assert text.line(FORWARDED, NAMES)[:end].endswith(value)


def test_ipv4_lines_are_short_enough():
    for name in ("forwarded", "GSO", "into a tunnel", "ping"):
        assert len(text.line(EVENTS[name], NAMES)) <= 105


def test_every_line_is_one_printable_line():
    for event in EVENTS.values():
        assert text.line(event, NAMES).isprintable()


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    time.tzset()
    for kept, make in KEPT.items():
        (HERE / kept).write_text(make())
