"""From a lab, with a tracer before it, to what is found there."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from pmtutrace.diagnosis import Collector, diagnose, survey
from pmtutrace.errors import LabError
from pmtutrace.lab.build import built
from pmtutrace.lab.run import until
from pmtutrace.lab.situation import Passed, Probed, perform
from pmtutrace.pmtu.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pmtutrace.diagnosis import Case, Finding
    from pmtutrace.lab.net import Net
    from pmtutrace.lab.situation import Situation
    from pmtutrace.probing import Result
    from pmtutrace.tracing import Tracer
    from pmtutrace.tunnels.inventory import Inventory
    from pmtutrace.tunnels.tunnel import Tunnel

# What a lab learns of a path lives a second or two.
LOOK_EVERY_S, LOOK_OFTEN_S = 0.25, 0.02
SETTLED_S = 0.5
LATE_S, ATTEMPTS = 0.3, 3
SEEN_WITHIN_S = 30.0  # tunnels are read by a child process, which an emulated CPU starts in seconds
POLL_S = 0.05


def follow(tracer: Tracer, spaces: Collection[int]) -> None:
    """Have a tracer follow the path MTUs of some namespaces of a lab, and of no others."""
    # Where programs tell of each step, looks only show what has ended.
    every_s = LOOK_EVERY_S if tracer.tells("path") else LOOK_OFTEN_S
    listen = not tracer.tells("received")
    tracer.follow(Watch(spaces, listen=listen, every_s=every_s))


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

    It happens once more, and a third time at most, where we were kept from running and it was not
    what is declared.

    Args:
        situation: what happens.
        tracer: uses the inventory.
        inventory: has started.

    Raises:
        NotSupported: this kernel cannot have it.
        LabError: it could not be built.
    """
    for _ in range(ATTEMPTS):
        findings, late = _happened(situation, tracer, inventory)
        if late <= LATE_S:
            break
    return findings


def _happened(
    situation: Situation, tracer: Tracer, inventory: Inventory
) -> tuple[list[Finding], float]:
    """Return what is found, and how many seconds late it was at most, where time matters."""
    late = 0.0
    with built(situation.topology) as net:
        tracer.refresh()
        _wait_for_tunnels(net, inventory)
        names = {net[label].inum: net[label].name for label in situation.at}
        follow(tracer, set(names))
        collector = Collector(names)
        collector.begin(tracer.counters(), tracer.fragments())
        probes = []
        for step in situation.steps:
            began = time.monotonic()
            if isinstance(step, Probed) and (result := perform(net, step)):
                probes.append((net[step.node].inum, result))
            else:
                perform(net, step)
                late = max(late, time.monotonic() - began)
            seconds = step.seconds if isinstance(step, Passed) else POLL_S
            late = max(late, _gather(tracer, collector, seconds))
        _gather(tracer, collector, SETTLED_S)
        _wait_for_tunnels(net, inventory)
        findings = diagnose(case(tracer, collector, inventory, names, probes))
    timed = any(isinstance(step, Passed) for step in situation.steps)
    return findings, late if timed else 0.0


def _gather(tracer: Tracer, collector: Collector, seconds: float) -> float:
    """Take events for some time; return how many seconds late the latest look at them ended."""
    looked, pause, late = time.monotonic(), threading.Event(), 0.0
    end = looked + seconds
    while (left := end - looked) > 0:
        pause.wait(min(left, POLL_S))
        for event in tracer.poll():
            collector.take(event)
        before, looked = looked, time.monotonic()
        late = max(late, looked - before - min(left, POLL_S))
    return late


def _wait_for_tunnels(net: Net, inventory: Inventory) -> None:
    """Wait until the inventory has all tunnels of a lab as they are now.

    Another lab may have had namespaces and devices of the same numbers a moment before.
    """
    from pmtutrace.tunnels import dump  # with pyroute2, which few need

    dump.teach()
    there = dump.dump([str(node.path) for node in net])

    def missing() -> set[Tunnel]:
        return {*there} - {*inventory.tunnels()}

    if until(missing, lambda left: not left, SEEN_WITHIN_S):
        raise LabError("the tunnels of the lab are not seen")
