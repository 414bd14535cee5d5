"""The public interface: every field that is documented, with its type, and nothing else."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtutrace import jsonl
from pmtutrace.events import Flow, TunnelChange

DROP_FIELDS = {
    *("type", "ts", "schema", "netns", "site", "location", "reason", "verdict", "cause", "len"),
    *("mtu", "gso", "df", "family", "dev", "indev", "tunnel", "flow", "outer", "count"),
    *("spi", "mark"),
}
TUNNEL_FIELDS = {"name", "type", "local", "remote", "overhead"}


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (999, "1970-01-01T00:00:00.000000Z"),
        (1_792_924_245_678_901_234, "2026-10-25T10:30:45.678901Z"),
        (1_792_924_245_999_999_999, "2026-10-25T10:30:45.999999Z"),
        (4_102_444_800_000_000_000, "2100-01-01T00:00:00.000000Z"),
    ],
)
def test_timestamps(ns, text):
    assert jsonl.timestamp(ns) == text


@given(st.integers(0, 250_000_000_000_000_000_000))
def test_timestamps_are_read_back_to_the_microsecond(ns):
    moment = datetime.fromisoformat(jsonl.timestamp(ns))
    assert moment.tzinfo == UTC
    since = moment - datetime.fromtimestamp(0, UTC)
    assert (since.days * 86400 + since.seconds, since.microseconds) == (
        ns // 1_000_000_000,
        ns % 1_000_000_000 // 1000,
    )


@pytest.mark.parametrize(
    ("number", "name"),
    [(6, "tcp"), (17, "udp"), (1, "icmp"), (58, "icmpv6"), (47, "gre"), (253, 253)],
)
def test_protocols(number, name):
    assert jsonl.protocol(number) == name


def test_no_two_protocols_share_a_name():
    assert len(set(jsonl.PROTOCOLS.values())) == len(jsonl.PROTOCOLS)


def test_a_namespace_by_name_else_by_inode():
    event = TunnelChange(0, 4026532001, "gone", "gre1", "gre", None)
    assert jsonl.event(event, {4026532001: "edge"})["netns"] == "edge"
    assert jsonl.event(event, {})["netns"] == 4026532001


def test_a_flow_without_ports():
    assert jsonl.flow(Flow("10.0.0.1", "10.0.0.2", 50)) == {
        "saddr": "10.0.0.1",
        "daddr": "10.0.0.2",
        "proto": "esp",
        "sport": None,
        "dport": None,
    }


def test_a_drop_has_what_is_documented():
    kept = Path(__file__).parents[1] / "golden" / "lines.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    drops = [line for line in lines if line["type"] == "drop"]
    assert len(drops) > 10
    for drop in drops:
        assert set(drop) == DROP_FIELDS
        assert set(drop["flow"]) == {"saddr", "daddr", "proto", "sport", "dport"}
        assert drop["tunnel"] is None or set(drop["tunnel"]) == TUNNEL_FIELDS
        assert drop["outer"] is None or set(drop["outer"]) == {"saddr", "daddr", "proto"}
        assert drop["schema"] == 1
    lost = next(line for line in lines if line["type"] == "icmp_lost")
    assert set(lost) == {
        *("type", "ts", "schema", "netns", "site", "location", "reason", "family"),
        *("to", "mtu", "quoted", "hook", "drop"),
    }
    tunnel = next(line for line in lines if line["type"] == "tunnel")
    assert set(tunnel) == {*("type", "ts", "schema", "netns", "change", "name", "kind", "mtu")}
    path = next(line for line in lines if line["type"] == "pmtu")
    assert set(path) == {
        *("type", "ts", "schema", "netns", "change", "family", "daddr", "saddr", "dev", "gateway"),
        *("table", "old", "new", "locked", "expires", "via", "from", "quoted", "tunnels"),
    }
