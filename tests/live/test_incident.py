"""The incident happens, by itself, as it is declared: the lab's own measure, no tracer."""

import itertools
import threading
import time

import pytest

from pmtutrace.errors import NotSupported
from pmtutrace.lab import incident
from pmtutrace.lab.ruler import NSEC, edges

pytestmark = pytest.mark.live
PERIOD_S = 4.0
TICKS = NSEC // 20  # some of the kernel's, by which an exception lives


@pytest.fixture(scope="module", params=[incident.GRE, incident.VXLAN], ids=lambda one: one.type)
def over(request):
    """The incident after two collapses, and a period after its repair."""
    quick = incident.faster(request.param, PERIOD_S, 2)
    try:
        with incident.happening(quick) as going:
            going.move()
            wait(going, lambda: all(one.made for one in going.connections.values()))
            before = {name: len(one.made) for name, one in going.connections.items()}
            going.recurse()
            wait(going, lambda: sum(r.mtu == incident.MINIMUM for r in going.ruler.readings) >= 2)
            wait(going, lambda: going.connections[incident.IGNORES].lost)
            fixed_at = time.time_ns()
            going.repair()
            runs = len(going.backup.began)
            wait(going, lambda: len(going.backup.done) > runs)
            for machine in (*going.connections.values(), *going.pings.values(), going.ruler):
                machine.stop()
            yield going, before, fixed_at
    except NotSupported as error:
        pytest.skip(error.message)


def wait(going, what):
    end = time.monotonic() + 4 * PERIOD_S
    pause = threading.Event()
    while not what():
        assert time.monotonic() < end, going.ruler.readings
        pause.wait(0.05)


def test_the_path_falls_by_the_overhead_and_stops_at_the_minimum(over):
    going, *_ = over
    own = going.incident.overhead
    falls = [
        before.mtu - now.mtu
        for before, now in itertools.pairwise(going.ruler.readings)
        if now.mtu < before.mtu and now.mtu != incident.MINIMUM
    ]
    assert falls
    assert all(fall % own == 0 for fall in falls), falls
    assert min(reading.mtu for reading in going.ruler.readings) == incident.MINIMUM


def test_it_comes_back_with_the_job_and_lasts_as_long_as_an_exception(over):
    """Whenever the ruler and the job had the CPU: each moment lies between two."""
    going, _, fixed_at = over
    falls, rises = edges(one for one in going.ruler.readings if one.since < fixed_at)
    backup, lifetime = going.backup, going.incident.lifetime_s * NSEC
    assert len(falls) >= 2
    period = (backup.began[1] - backup.began[0]) / NSEC
    assert abs(period - PERIOD_S) <= 0.1 * PERIOD_S + backup.late_s
    runs = list(zip(backup.began, backup.done, strict=False))
    for before, now in falls:
        assert any(began <= now and before <= done for began, done in runs)
    assert rises[0][1] - falls[0][0] >= lifetime
    assert rises[0][0] - backup.done[0] <= lifetime + TICKS


def test_one_customer_keeps_its_connection_the_other_loses_it_and_pings_pass(over):
    going, before, _ = over
    assert before == {incident.FOLLOWS: 1, incident.IGNORES: 1}
    assert len(going.connections[incident.FOLLOWS].made) == 1
    assert going.connections[incident.IGNORES].lost
    for pings in going.pings.values():
        assert pings.failed is None
        assert pings.answered == pings.sent > 0


def test_the_repair_holds_while_the_job_goes_on(over):
    going, _, fixed_at = over
    good = going.ruler.readings[0].mtu
    after = [one for one in going.ruler.readings if one.since > fixed_at]
    assert going.backup.done[-1] > fixed_at
    assert [one.mtu for one in after] == [good]
    assert going.ruler.readings[-1].mtu == good
