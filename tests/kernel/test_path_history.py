"""What is told of path MTUs adds up to what iproute2 shows, after each of many random actions.

The kernel's own word, where it gives one, messages that are heard where not, and dumps: all
together, as whoever traces has them.
"""

import os
import random

import pytest

from pathmtus import Actions, Stream, agreed, held
from pmtutrace import lab
from pmtutrace.events import PathMtuChange
from pmtutrace.pmtu import watch as pmtu_watch
from pmtutrace.pmtu.watch import Watch
from pmtutrace.tracing.tracer import Settings, Tracer
from routers import TOPOLOGY

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]
STEPS = int(os.environ.get("PMTUTRACE_STEPS", "200"))
SEED = int(os.environ.get("PMTUTRACE_SEED", "2015"))


@pytest.fixture
def followed(monkeypatch):
    """A lab, a tracer that follows its sender's path MTUs, and a watch that is always due."""
    monkeypatch.setattr(pmtu_watch, "LOOK_SHARE", 1.0)
    with lab.built(TOPOLOGY) as net, Tracer(Settings()) as tracer:
        watch = Watch({net["a"].inum}, listen=not tracer.tells("received"), every_s=0.0)
        tracer.follow(watch)
        yield net, tracer, watch


def test_after_each_of_many_random_actions_it_is_what_iproute2_shows(followed):
    net, tracer, watch = followed
    inum = net["a"].inum

    def changes():
        # What the kernel tells of is asked for, and so shown, at the next look.
        found = [event for _ in range(2) for event in tracer.poll()]
        return [e for e in found if isinstance(e, PathMtuChange)]

    stream = Stream({"icmp", "unknown", "administrator"})
    actions = Actions(net, changes, stream, random.Random(SEED))  # noqa: S311 -- dice
    seen, most = set(), 0
    for number in range(STEPS):
        action = actions.step()
        there, found = agreed(actions, watch)
        assert held(watch) == there, (SEED, number, action, found)
        assert stream.rows() == there, (SEED, number, action, found)
        assert watch.history.unmet(inum) == [], (SEED, number, action, found)
        seen |= {(change.change, change.via) for change in found}
        most = max(most, len(there))
    assert {("created", "icmp"), ("lowered", "icmp")} <= seen
    assert "administrator" in {via for _, via in seen}
    assert most >= 6
    print(f"{STEPS} actions {actions.done}, up to {most} at once, {sorted(seen)}")
