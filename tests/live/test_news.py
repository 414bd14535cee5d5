"""What becomes of the news after it was handed over: the events that tell of it."""

import pytest

from pmtutrace.events import Drop, IcmpLost
from pmtutrace.lab import built, run
from pmtutrace.lab.scenarios import named
from pmtutrace.tracing.tracer import Settings, Tracer

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def tracer():
    # A message is read whatever is kept of packets.
    with Tracer(Settings(every=True, snaplen=0)) as attached:
        yield attached


def events(tracer, name, lines=23):
    """Return the events of a scenario, once there are enough; others may be at it elsewhere."""
    scenario = named(name)
    seen = []
    with built(scenario) as net:
        spaces = {node.inum for node in net}
        run.exercise(net, scenario)

        def look():
            seen.extend(event for event in tracer.poll() if event.netns in spaces)
            return len(seen)

        run.until(look, lambda number: number >= lines)
    return seen


@pytest.mark.parametrize("version", [4, 6])
def test_a_message_that_waits_in_vain_makes_its_drop_lost(tracer, version):
    seen = events(tracer, f"news-v{version}-no-neighbour", 46)
    drops = [event for event in seen if isinstance(event, Drop)]
    assert {event.verdict for event in drops} == {"told"}
    assert sum(event.count for event in drops) == 23, "no drop is shown twice"
    lost = [event for event in seen if isinstance(event, IcmpLost)]
    assert len(lost) == 23
    for event in lost:
        assert event.drop is not None
        assert (event.drop.site, event.drop.verdict) == (drops[0].site, "lost")
        assert (event.drop.flow, event.mtu) == (drops[0].flow, 1400)
        assert event.hook is None
        assert event.site


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("scenario", "hook"),
    [("route-v{}-news-filtered", "OUTPUT"), ("news-v{}-postrouting", "POSTROUTING")],
)
def test_the_hook_that_netfilter_dropped_the_message_at(tracer, version, scenario, hook):
    seen = events(tracer, scenario.format(version))
    assert sum(event.count for event in seen) == 23
    for event in seen:
        assert event.verdict == "lost"
        assert event.cause.endswith(f" {hook}"), event.cause


def test_a_full_queue_is_no_hook(tracer):
    for event in events(tracer, "news-v4-queue-full"):
        assert event.verdict == "lost"
        assert "OUTPUT" not in event.cause
        assert "ROUTING" not in event.cause
