"""A diagnosis of what happens in a lab while a tracer runs."""

from __future__ import annotations

import contextlib
import time

from pmtutrace.diagnosis import Collector, diagnose, survey
from pmtutrace.pmtu.watch import Watch
from pmtutrace.tunnels import dump

# What must be found wherever drops of this verdict and cause are expected.
BY_VERDICT = {
    "never_attempted": "silent_hole",
    "no_route_back": "silent_hole",
    "no_room": "silent_hole",
    "options_invalid": "silent_hole",
    "icmp_socket_busy": "silent_hole",
    "rate_limited_host": "ratemask_limits_ptb",
    "rate_limited_global": "ratemask_limits_ptb",
}
LINES_ARE_PER_S = 1.1  # the second of Settings.rate, and a tick


class Diagnosed:
    """Diagnoses labs, one after another.

    ``findings`` are those of the last one.
    """

    def __init__(self, tracer):
        self._tracer = tracer
        self._left: dict[int, float] = {}  # when each namespace was done with, by inode
        self.findings = []

    @contextlib.contextmanager
    def beside(self, net):
        """Record what happens inside, and diagnose it at the end, before the lab is gone."""
        self.findings = []
        only = {node.inum for node in net}
        # A namespace may get the inode of one that has just gone. Its flows are then those of
        # before, and have had their lines for this second.
        rested = max(self._left.get(inum, 0) for inum in only) + LINES_ARE_PER_S
        time.sleep(max(0, rested - time.monotonic()))
        self._tracer.poll()
        collector = Collector(only)
        collector.begin(self._tracer.counters(), self._tracer.fragments())
        with Watch(only) as watch:
            watch.look()
            yield
            self._left |= dict.fromkeys(only, time.monotonic())
            for event in (*self._tracer.poll(), *watch.look()):
                collector.take(event)
        dump.teach()
        tunnels = dump.dump([str(node.path) for node in net])
        self.findings = diagnose(
            collector.case(
                counters=self._tracer.counters(),
                fragments=self._tracer.fragments(),
                tunnels=tunnels,
                surroundings=survey(tunnels, only, collector.destinations()),
                names={node.inum: node.label for node in net},
            )
        )

    @property
    def ids(self):
        return {finding.id for finding in self.findings}


def wrong(scenario, found):
    """Return what is found in a scenario but is not there, and what is there but not found."""
    if scenario.expected is None and scenario.fragments is None:
        return sorted(found), []
    wanted = {
        BY_VERDICT[word]
        for drop in scenario.drops
        for word in (drop.verdict, drop.cause)
        if word in BY_VERDICT
    }
    if scenario.topology.rules and any(drop.verdict == "lost" for drop in scenario.drops):
        wanted.add("news_filtered")
    if scenario.fragments and not scenario.topology.tunnels[0].external:
        wanted.add("outer_fragmentation")
    return [], sorted(wanted - set(found))
