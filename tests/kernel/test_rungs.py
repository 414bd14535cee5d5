"""The lower rungs of the ladders, on kernels that would take a better one: the same verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pmtutrace.lab import run
from pmtutrace.lab.scenarios import BY_NAME
from pmtutrace.tracing.tracer import Settings, Tracer

from .conftest import share

pytestmark = pytest.mark.live

NO_FENTRY = frozenset({"fentry", "fexit"})
NO_PROBES = NO_FENTRY | {"kprobe", "kretprobe"}
RUNGS = {
    "kprobe": Settings(without=NO_FENTRY),
    "tracepoint": Settings(without=NO_PROBES),
    "plain": Settings(plain=True),
    "plain tracepoint": Settings(plain=True, without=NO_PROBES),
    "cold": Settings(cold=True),
    "cold tracepoint": Settings(cold=True, without=NO_PROBES),
}
# One of each kind: told, suppressed for each reason that can be seen, lost, silent, outer packet.
SCENARIOS = (
    "route-v4-udp-forward",
    "route-v6-udp-forward",
    "route-v4-no-route-back",
    "route-v4-icmp-error",
    "route-v6-icmp-error",
    "route-v4-news-filtered",
    "route-v6-news-filtered",
    "route-v4-udp-fits",
    "bridge-v4-udp",
    "bridge-nf-v4-udp",
    "veth-v4-udp",
    "vxlan-df-v4-udp-forward",
    "vxlan6-v6-udp-forward",
    "gre-v4-tcp-forward",
    "ip6gre-v4-tcp-forward",
)


def chosen():
    """Return every other rung where the stock kernels share the work: two run each."""
    mine = share()
    return [name for at, name in enumerate(RUNGS) if mine is None or (at + mine) % 2 == 0]


@pytest.fixture(scope="module", params=chosen())
def lower(request):
    with Tracer(RUNGS[request.param]) as tracer:
        yield tracer


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_verdicts(name, lower, kernel):
    scenario = BY_NAME[name]
    blind = {a.hook.name for a in lower.attached if not a.rung or not a.rung.attachments}
    if name == "route-v4-no-route-back" and {"icmp4", "route"} <= blind:
        # Neither a sending nor the look for a route can be seen: nothing speaks against it.
        told = replace(scenario.expected, verdict="told", cause=None)
        scenario = replace(scenario, expected=told)
    kernel.hold(run.run(scenario, lower))


@pytest.mark.parametrize(
    "name",
    [
        "local-v4-udp-connected",
        "local-v6-udp-connected",
        "local-v4-header-included",
        "ipsec-v4-udp-local",
        "ipsec-v6-udp-local",
    ],
)
def test_a_refused_socket_without_kprobes(name, kernel):
    """By fentry: all the same, but nobody knows who refused where there is no packet."""
    scenario = BY_NAME[name]
    if name.startswith("local"):
        scenario = replace(scenario, expected=replace(scenario.expected, site="other"))
    with Tracer(Settings(without=frozenset({"kprobe", "kretprobe"}))) as tracer:
        kernel.hold(run.run(scenario, tracer))
