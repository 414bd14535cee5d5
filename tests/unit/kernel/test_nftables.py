"""What is read from the JSON of nft; the samples are what nft 1.0.6 printed."""

import pytest

from pmtutrace.kernel.nftables import Block, Clamp, Rules, read


def match(left, right, op="=="):
    return {"match": {"op": op, "left": left, "right": right}}


def payload(protocol, field, right):
    return match({"payload": {"protocol": protocol, "field": field}}, right)


SYN = payload("tcp", "flags", "syn")
MSS = {"tcp option": {"name": "maxseg", "field": "size"}}
FOLLOWS = {"mangle": {"key": MSS, "value": {"rt": {"key": "mtu"}}}}
OUT = {"meta": {"key": "oifname"}}
UNREACHABLE = payload("icmp", "type", "destination-unreachable")
FRAG_NEEDED = payload("icmp", "code", "frag-needed")
DROP = {"drop": None}


def ruleset(*expressions, hook="output"):
    chain = {"family": "inet", "table": "f", "name": "c", "handle": 1, "hook": hook}
    rules = [
        {"rule": {"family": "inet", "table": "f", "chain": "c", "handle": 3 + n, "expr": list(one)}}
        for n, one in enumerate(expressions)
    ]
    return {"nftables": [{"metainfo": {"json_schema_version": 1}}, {"chain": chain}, *rules]}


@pytest.mark.parametrize(
    ("expressions", "clamp"),
    [
        ((SYN, FOLLOWS), Clamp()),
        ((match(OUT, "gre1"), SYN, FOLLOWS), Clamp(("gre1",))),
        ((match(OUT, {"set": ["gre2", "gre3"]}), SYN, FOLLOWS), Clamp(("gre2", "gre3"))),
        ((SYN, {"mangle": {"key": MSS, "value": 1300}}), Clamp((), 1300)),
        ((SYN, {"counter": {}}, {"xt": {"type": "target", "name": "TCPMSS"}}), Clamp()),
    ],
)
def test_clamps(expressions, clamp):
    assert read(ruleset(expressions, hook="forward")) == Rules((clamp,))


@pytest.mark.parametrize(
    "expressions",
    [
        (UNREACHABLE, DROP),
        (UNREACHABLE, FRAG_NEEDED, DROP),
        (payload("icmpv6", "type", "packet-too-big"), DROP),
        (payload("icmp", "type", {"set": ["echo-request", "destination-unreachable"]}), DROP),
        (payload("ip", "protocol", "icmp"), DROP),
        (match({"meta": {"key": "l4proto"}}, "ipv6-icmp"), {"reject": {"type": "icmpx"}}),
    ],
)
def test_rules_that_drop_the_news(expressions):
    for hook in ("output", "postrouting"):
        found = read(ruleset(expressions, hook=hook))
        assert found == Rules((), (Block("inet f c handle 3", hook),))
    assert read(ruleset(expressions, hook="input")) == Rules()


@pytest.mark.parametrize(
    "expressions",
    [
        (UNREACHABLE, {"accept": None}),
        (payload("icmp", "type", "echo-request"), DROP),
        (payload("ip", "protocol", "udp"), DROP),
        (DROP,),
        (match({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["syn"]]}, "syn"), DROP),
    ],
)
def test_rules_that_are_about_something_else(expressions):
    assert read(ruleset(expressions)) == Rules()
