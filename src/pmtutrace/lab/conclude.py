"""From a lab, with a tracer before it, to what is found there."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Self

from pmtutrace.diagnosis import Collector, diagnose, survey
from pmtutrace.errors import LabError, NotSupported
from pmtutrace.lab.build import built
from pmtutrace.lab.run import until
from pmtutrace.lab.situation import Passed, Probed, perform
from pmtutrace.pmtu.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pmtutrace.diagnosis import Case, Finding
    from pmtutrace.events import Event
    from pmtutrace.lab.net import Net
    from pmtutrace.lab.situation import Situation
    from pmtutrace.probing import Result
    from pmtutrace.tracing import Tracer
    from pmtutrace.tunnels.inventory import Inventory

SETTLED_S = 0.5
POLL_S = 0.05


class Seen:
    """All that is seen of some namespaces: a tracer's events, and how path MTUs change.

    These are looked at whenever asked, for what a lab learns of a path lives a second or two.

    Args:
        tracer: has been told to use the inventory.
        inventory: names the tunnels that a path MTU is about.
        spaces: inodes of the namespaces.
    """

    def __init__(self, tracer: Tracer, inventory: Inventory, spaces: Collection[int]) -> None:
        self._tracer = tracer
        self._inventory = inventory
        self._spaces = spaces
        self._watch = Watch(spaces, frozenset((4, 6)))
        self._watch.look()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.close()

    def poll(self) -> list[Event]:
        """Return what has come to pass since last asked, in order of time."""
        events = [event for event in self._tracer.poll() if event.netns in self._spaces]
        for change in self._watch.look():
            where = (change.netns, change.daddr, change.ifindex, change.new)
            events.append(dataclasses.replace(change, tunnels=self._inventory.inside(*where)))
        return sorted(events, key=lambda event: event.ts)


def case(
    tracer: Tracer,
    collector: Collector,
    inventory: Inventory,
    names: Mapping[int, str],
    probes: Iterable[tuple[int, Result]] = (),
) -> Case:
    """Put together what is known of some namespaces; best while what is wrong is still there.

    Args:
        tracer: has counted.
        collector: has taken the tracer's events.
        inventory: knows the tunnels.
        names: of the namespaces, by inode.
        probes: results, each with the inode of the namespace that it is from.
    """
    tunnels = [tunnel for tunnel in inventory.tunnels() if tunnel.netns in names]
    return collector.case(
        counters=tracer.counters(),
        fragments=tracer.fragments(),
        tunnels=tunnels,
        surroundings=survey(tunnels, set(names), collector.destinations()),
        probes=probes,
        names=names,
    )


def found(situation: Situation, tracer: Tracer, inventory: Inventory) -> list[Finding]:
    """Let a situation happen, and return what is found at its nodes.

    Args:
        situation: what happens.
        tracer: uses the inventory.
        inventory: has started.

    Raises:
        NotSupported: this kernel cannot have it, or nothing tells of it.
        LabError: it could not be built.
    """
    for hook in situation.hooks:
        if not tracer.holds(hook):
            raise NotSupported(f"the hook {hook} cannot be attached on this kernel")
    with built(situation.topology) as net, contextlib.ExitStack() as stack:
        tracer.refresh()
        _wait_for_tunnels(net, inventory)
        names = {net[label].inum: net[label].name for label in situation.at}
        collector = Collector(names)
        collector.begin(tracer.counters(), tracer.fragments())
        seen = stack.enter_context(Seen(tracer, inventory, names))
        probes = []
        for step in situation.steps:
            if isinstance(step, Probed) and (result := perform(net, step)):
                probes.append((net[step.node].inum, result))
            else:
                perform(net, step)
            _gather(seen, collector, step.seconds if isinstance(step, Passed) else POLL_S)
        _gather(seen, collector, SETTLED_S)
        return diagnose(case(tracer, collector, inventory, names, probes))


def _gather(seen: Seen, collector: Collector, seconds: float) -> None:
    """Take events for some time."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while (left := end - time.monotonic()) > 0:
        pause.wait(min(left, POLL_S))
        for event in seen.poll():
            collector.take(event)


def _wait_for_tunnels(net: Net, inventory: Inventory) -> None:
    """Wait until the inventory has all tunnels of a lab."""
    ends = (end for tunnel in net.topology.tunnels for end in tunnel.ends)
    wanted = {(net[end.node].inum, net[end.node].ifindexes[end.dev]) for end in ends}

    def missing() -> set[tuple[int, int]]:
        return wanted - {(tunnel.netns, tunnel.ifindex) for tunnel in inventory.tunnels()}

    if until(missing, lambda left: not left):
        raise LabError("the tunnels of the lab are not seen")
