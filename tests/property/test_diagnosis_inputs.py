"""Whatever is recorded can be diagnosed, and what is said of it can be written and typed."""

import dataclasses
import json
import shlex

from hypothesis import given, settings
from hypothesis import strategies as st

from pmtutrace.diagnosis import Collector, diagnose
from pmtutrace.events import (
    CHANGES,
    ENDS,
    OUTCOMES,
    Counter,
    CounterKey,
    Flow,
    IcmpLost,
    IcmpReceived,
    Outer,
    PathMtuChange,
)
from pmtutrace.kernel.nftables import Block, Clamp, Rules
from pmtutrace.pmtu.surroundings import Question, Surroundings
from pmtutrace.pmtu.ways import Leg, Way
from pmtutrace.tunnels.tunnel import PROTOCOLS, Tunnel
from samples import drop

START = 1_792_924_245_000_000_000
SPACES = st.integers(1, 2)
DEVICES = st.integers(0, 3)
NAMES = st.text(max_size=15) | st.sampled_from(
    ["gre1", "$(reboot)", "`id`", "; x", "{daddr}", "-x"]
)
MTUS = st.integers(0, 1 << 17)
TIMES = st.integers(0, 10_000).map(lambda ms: START + ms * 1_000_000)
FOURS = st.sampled_from(["10.0.0.1", "10.0.0.2", "192.0.2.1"])
SIXES = st.sampled_from(["fd00::1", "fd00::2", "::"])
ADDRESSES = FOURS | SIXES
WORDS = st.none() | st.text(max_size=12) | st.sampled_from(["NETFILTER_DROP nft_do_chain OUTPUT"])
VERDICTS = st.sampled_from(["told", "suppressed", "lost", "never_attempted", "local"])
CAUSES = st.none() | st.sampled_from(["no_route_back", "unknown", "rate_limited_host", "no_room"])
FLOWS = st.builds(Flow, ADDRESSES, ADDRESSES, st.sampled_from([1, 6, 17, 47]))
OUTERS = st.none() | st.builds(Outer, ADDRESSES, ADDRESSES, st.sampled_from([17, 47]))

PATHS = st.builds(
    PathMtuChange,
    ts=TIMES,
    netns=SPACES,
    change=st.sampled_from([*CHANGES, *ENDS]),
    family=st.sampled_from([4, 6]),
    daddr=ADDRESSES,
    saddr=st.none(),
    dev=NAMES,
    ifindex=DEVICES,
    gateway=st.none() | ADDRESSES,
    table=st.sampled_from([0, 254]),
    old=st.none() | MTUS,
    new=st.none() | MTUS,
    locked=st.booleans(),
    expires=st.none() | st.floats(0, 600),
    via=st.sampled_from(["icmp", "tunnel", "unknown"]),
)
DROPS = st.builds(
    lambda **changes: drop(**changes),
    ts=TIMES,
    netns=SPACES,
    ifindex=DEVICES,
    dev=NAMES,
    verdict=VERDICTS,
    cause=CAUSES | WORDS,
    length=st.none() | MTUS,
    mtu=MTUS,
    gso=st.sampled_from([0, 1448]),
    flow=FLOWS,
    outer=OUTERS,
    family=st.sampled_from([4, 6]),
)
LOSSES = st.builds(
    IcmpLost,
    ts=TIMES,
    netns=SPACES,
    cpu=st.just(0),
    site=NAMES,
    location=NAMES,
    reason=st.none() | NAMES,
    family=st.sampled_from([4, 6]),
    to=ADDRESSES,
    mtu=MTUS,
    flow=FLOWS,
    hook=st.none() | st.just("OUTPUT"),
)
ARRIVALS = st.builds(
    IcmpReceived,
    ts=TIMES,
    netns=SPACES,
    cpu=st.just(0),
    family=st.sampled_from([4, 6]),
    router=ADDRESSES,
    to=ADDRESSES,
    mtu=MTUS,
    flow=FLOWS,
    outer=OUTERS,
    dev=NAMES,
    ifindex=DEVICES,
    tunnel=st.none(),
    outcome=st.sampled_from(sorted(OUTCOMES)),
    effective=st.none() | MTUS,
)
EVENTS = st.lists(PATHS | DROPS | LOSSES | ARRIVALS, max_size=15).map(
    lambda events: sorted(events, key=lambda event: event.ts)
)
KEYS = st.builds(
    CounterKey,
    SPACES,
    DEVICES,
    NAMES,
    VERDICTS,
    CAUSES,
    st.sampled_from([4, 6]),
    FLOWS,
    OUTERS,
)
COUNTERS = st.dictionaries(
    KEYS, st.builds(Counter, st.integers(1, 9), MTUS, MTUS, MTUS, TIMES, TIMES), max_size=8
)
TUNNELS = st.lists(
    st.builds(
        Tunnel,
        SPACES,
        DEVICES,
        NAMES,
        st.sampled_from(sorted(PROTOCOLS)),
        MTUS,
        st.none() | ADDRESSES,
        st.none() | ADDRESSES,
        st.none() | DEVICES,
        pmtudisc=st.none() | st.booleans(),
        df=st.sampled_from([None, "unset", "set", "inherit"]),
        overhead=st.none() | st.integers(20, 80),
        elsewhere=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda tunnel: (tunnel.netns, tunnel.ifindex),
)
LEGS = st.builds(Leg, NAMES, DEVICES, st.none() | ADDRESSES, MTUS, st.none() | MTUS)
WAYS = st.none() | st.builds(
    Way, ADDRESSES, st.lists(LEGS, min_size=1, max_size=3).map(tuple), st.none() | MTUS
)
RULES = st.none() | st.builds(
    Rules,
    st.lists(st.builds(Clamp, st.just(()), st.none() | MTUS), max_size=2).map(tuple),
    st.lists(st.builds(Block, NAMES, st.just("output")), max_size=2).map(tuple),
)


@st.composite
def surroundings(draw, tunnels):
    """Return what may be around some tunnels."""
    found = {}
    for netns in (1, 2):
        questions = {Question(address) for address in ("10.0.0.1", "fd00::1")}
        questions |= {
            Question(t.remote, t.local, t.link) for t in tunnels if t.netns == netns and t.remote
        }
        ways = {question: draw(WAYS) for question in sorted(questions, key=str)}
        found[netns] = Surroundings(netns, ways, {}, draw(st.none() | st.booleans()), draw(RULES))
    return found


@settings(max_examples=60)
@given(st.data(), EVENTS, COUNTERS, COUNTERS, TUNNELS, NAMES)
def test_any_recording(data, events, counters, fragments, tunnels, name):
    collector = Collector(began=START)
    for event in events:
        collector.take(event)
    case = collector.case(
        counters=counters,
        fragments={dataclasses.replace(k, verdict="none"): c for k, c in fragments.items()},
        tunnels=tunnels,
        surroundings=data.draw(surroundings(tunnels)),
        names={1: name},
        ended=START + 20_000_000_000,
    )
    findings = diagnose(case)
    json.dumps([finding.json() for finding in findings])
    for finding in findings:
        assert finding.cause.isprintable()
        for command in (*finding.remedy, *finding.check):
            assert command.isprintable()
            words = shlex.split(command)
            program = words[4] if words[:3] == ["ip", "netns", "exec"] else words[0]
            assert program in ("ip", "nft", "sysctl", "nstat", "tracepath", "pmtutrace")
