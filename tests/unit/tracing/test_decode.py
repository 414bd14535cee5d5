"""From octets to keys and sums: addresses, ports, names, and CPUs added up."""

import socket

import pytest

from pmtutrace.events import Counter, CounterKey, Device, Flow, Outer
from pmtutrace.kernel import sites, sources
from pmtutrace.layout import Layout
from pmtutrace.tracing import decode
from pmtutrace.tracing.clock import Ticks

LAYOUT = Layout(sources.layout_source())
DECODER = decode.Decoder(LAYOUT, sites.NAMES)
VERDICT = LAYOUT.enums["verdict"]
CAUSE = LAYOUT.enums["cause"]


def mapped(address):
    return bytes(10) + b"\xff\xff" + socket.inet_aton(address)


def six(address):
    return socket.inet_pton(socket.AF_INET6, address)


PLAIN = {
    "netns": 4026531840,
    "ifindex": 3,
    "site": sites.NUMBERS["ip_forward"],
    "verdict": VERDICT["VERDICT_TOLD"],
    "family": 4,
    "proto": 17,
    "has_ports": 3,
    "be_sport": socket.htons(2323),
    "be_dport": socket.htons(9),
    "saddr": mapped("10.77.1.1"),
    "daddr": mapped("10.77.2.1"),
}


def key(**values):
    return LAYOUT.pack("flow_key", {**PLAIN, **values})


def test_a_key():
    found, tunnel_id, outer_port = DECODER.key(key())
    assert found == CounterKey(
        4026531840,
        3,
        "ip_forward",
        "told",
        None,
        4,
        Flow("10.77.1.1", "10.77.2.1", 17, 2323, 9),
        None,
    )
    assert (tunnel_id, outer_port) == (0, 0)


def test_a_key_in_a_tunnel():
    found, tunnel_id, outer_port = DECODER.key(
        key(
            family=6,
            saddr=six("fd77:1::1"),
            daddr=six("fd77:2::1"),
            tunnel_id=77,
            outer_family=4,
            outer_proto=17,
            outer_saddr=mapped("192.0.2.1"),
            outer_daddr=mapped("192.0.2.2"),
            be_outer_dport=socket.htons(4789),
        )
    )
    assert found.flow == Flow("fd77:1::1", "fd77:2::1", 17, 2323, 9)
    assert found.outer == Outer("192.0.2.1", "192.0.2.2", 17)
    assert (tunnel_id, outer_port) == (77, 4789)
    assert found.maker is None


def test_who_made_the_outer_header():
    found, _, _ = DECODER.key(key(maker_netns=4026532001, maker_ifindex=9))
    assert found.maker == Device(4026532001, 9)


@pytest.mark.parametrize(
    ("has_ports", "ports"), [(0, (None, None)), (1, (2323, None)), (3, (2323, 9))]
)
def test_ports_are_there_or_not(has_ports, ports):
    found, _, _ = DECODER.key(key(has_ports=has_ports))
    assert (found.flow.sport, found.flow.dport) == ports


def test_port_zero_is_a_port():
    found, _, _ = DECODER.key(key(be_sport=0, be_dport=0))
    assert (found.flow.sport, found.flow.dport) == (0, 0)


def test_a_cause_goes_with_its_verdict():
    found, _, _ = DECODER.key(
        key(verdict=VERDICT["VERDICT_SUPPRESSED"], cause=CAUSE["CAUSE_NO_ROUTE_BACK"])
    )
    assert (found.verdict, found.cause) == ("suppressed", "no_route_back")


def test_numbers_that_nobody_knows_are_shown_as_numbers():
    found, _, _ = DECODER.key(key(site=999, verdict=99, cause=99))
    assert (found.site, found.verdict, found.cause) == ("999", "99", None)


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"eth0\0\0\0\0\0\0\0\0\0\0\0\0", "eth0"),
        (b"eth0\0rubbish behind", "eth0"),
        (b"fifteen_letters\0", "fifteen_letters"),
        (b"sixteen_letters!", "sixteen_letters!"),
        (b"\0", ""),
        (b"", ""),
        ("grün0\0".encode(), "grün0"),
        (b"a\nb\0", r"a\nb"),
        (b"\x1b[2J\0", r"\x1b[2J"),
        ("\u202e0hte\0".encode(), r"\u202e0hte"),
        (b"\xff\xfe\0", r"\udcff\udcfe"),
        (b"a b\0", "a b"),
        (b"a\\b\0", "a\\b"),
    ],
)
def test_names(octets, name):
    assert decode.name(octets) == name
    assert decode.name(octets).isprintable()


def count(**values):
    return LAYOUT.pack("flow_count", values)


def test_cpus_are_added_up():
    octets = (
        count(packets=3, bytes=4500, first=10, last=40, max_length=1500, mtu=1400)
        + count()  # a CPU that has seen none: its zeros are no minimum
        + count(packets=2, bytes=2000, first=20, last=30, max_length=1200, mtu=1300)
    )
    assert DECODER.sums(octets) == decode.Sums(5, 6500, 10, 40, 1500, 1400)


def test_the_last_mtu_is_that_of_the_last_packet():
    octets = count(packets=1, first=5, last=5, mtu=1400)
    octets += count(packets=1, first=6, last=6, mtu=1300)
    assert DECODER.sums(octets).mtu == 1300


def test_a_cpu_may_give_back_what_another_has_counted():
    least = 2**64 - 1500
    octets = count(packets=3, bytes=4500, first=10, last=40, max_length=1500, mtu=1400)
    octets += count(packets=2**64 - 1, bytes=least)
    assert DECODER.sums(octets) == decode.Sums(2, 3000, 10, 40, 1500, 1400)
    octets += count(packets=2**64 - 2, bytes=2**64 - 3000)
    assert DECODER.counters([(key(), octets)], Ticks()) == {}


def test_nothing_counted_is_nothing():
    assert DECODER.sums(count() * 4) == decode.Sums(0, 0, 0, 0, 0, 0)
    assert DECODER.counters([(key(), count() * 4)], Ticks()) == {}


def test_keys_that_differ_in_their_tunnel_id_only_are_one():
    ticks = Ticks()
    ticks.learn(0, 0)
    found = DECODER.counters(
        [
            (key(tunnel_id=1), count(packets=2, bytes=20, first=7, last=9, max_length=9, mtu=1400)),
            (key(tunnel_id=2), count(packets=3, bytes=30, first=5, last=8, max_length=8, mtu=1300)),
        ],
        ticks,
    )
    ((_, counter),) = found.items()
    assert (counter.packets, counter.bytes, counter.max_length) == (5, 50, 9)
    assert counter.mtu == 1400  # of the later one
    assert counter.first < counter.last


@pytest.mark.parametrize("verdict", ["told", "suppressed", "never_attempted", "local"])
@pytest.mark.parametrize("cause", [None, "no_route_on_skb", "unknown"])
def test_overflow_entries_are_found_by_verdict_and_cause(verdict, cause):
    index = VERDICT[f"VERDICT_{verdict.upper()}"] << 5
    index |= CAUSE[f"CAUSE_{cause.upper()}"] if cause else 0
    found = DECODER.overflow_key(index)
    assert (found.site, found.verdict, found.cause) == ("overflow", verdict, cause)
    assert found.flow == Flow("", "", 0)


def test_adding_to_what_is_there():
    ticks = Ticks()
    ticks.learn(0, 0)
    to = {}
    one, _, _ = DECODER.key(key())
    decode.add(to, one, decode.Sums(0, 0, 0, 0, 0, 0), ticks)
    assert to == {}
    decode.add(to, one, decode.Sums(1, 100, 5, 5, 100, 90), ticks)
    decode.add(to, one, decode.Sums(1, 200, 3, 3, 200, 80), ticks)
    assert isinstance(to[one], Counter)
    assert (to[one].packets, to[one].bytes, to[one].max_length, to[one].mtu) == (2, 300, 200, 90)
