"""Run a scenario; compare what was expected with what we and the kernel counted."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pmtutrace.errors import LabError, NotSupported
from pmtutrace.lab import traffic
from pmtutrace.lab.build import built

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pmtutrace.events import Counter, CounterKey
    from pmtutrace.lab.net import Net
    from pmtutrace.lab.scenario import Expected, Scenario

    Counters = Mapping[CounterKey, Counter]

T = TypeVar("T")

ARRIVES_WITHIN_S = 5.0
LOOK_EVERY_S = 0.005


class Counting(Protocol):
    """What a scenario needs of a tracer, as :class:`pmtutrace.tracing.Tracer` has it."""

    def holds(self, hook: str) -> bool:
        """Return whether a hook is attached."""

    def refresh(self) -> None:
        """Take in the sites of modules that have just been loaded."""

    def counters(self) -> Counters:
        """Return the exact sums since the tracer started."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of ``pmtutrace lab run -j``.

    ``result`` is ``ok``, ``failed`` or ``skipped``, ``reason`` says why where it is not ``ok``.
    ``kernel`` is by how much those of the kernel's own counters moved that must agree with
    ``counted``, ``also`` the others that are declared: news that did not come, devices' errors.
    """

    scenario: str
    result: str
    reason: str | None
    expected: int
    counted: int
    kernel: Mapping[str, int]
    also: Mapping[str, int]

    def json(self) -> dict[str, Any]:
        """Return the JSON object of its line; the router's counters go by their bare names."""
        return asdict(self) | {"kernel": _bare(self.kernel), "also": _bare(self.also)}


def run(scenario: Scenario, tracer: Counting) -> Result:
    """Build a scenario, send its traffic, and compare exactly.

    The tracer must have everything attached; one serves for any number of scenarios, one at a time.
    """
    try:
        blind = [hook for hook in scenario.hooks if not tracer.holds(hook)]
        if blind:
            raise NotSupported(f"the hook {blind[0]} cannot be attached on this kernel")
        with built(scenario) as net:
            tracer.refresh()
            before = tracer.counters()
            kernel = exercise(net, scenario)
            counted, others = _settled(net, scenario, tracer, before)
    except NotSupported as error:
        return Result(scenario.name, "skipped", error.message, scenario.count, 0, {}, {})
    except LabError as error:
        return Result(scenario.name, "failed", error.message, scenario.count, 0, {}, {})
    reason = verdict(scenario, counted, others, kernel)
    result = "failed" if reason else "ok"
    agreeing = {item.name for item in scenario.kernel if item.delta == scenario.count}
    parts: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for name, delta in kernel.items():
        parts[name not in agreeing][name] = delta
    return Result(scenario.name, result, reason, scenario.count, counted, *parts)


def _bare(counters: Mapping[str, int]) -> dict[str, int]:
    return {name.removeprefix("r "): delta for name, delta in counters.items()}


def exercise(net: Net, scenario: Scenario) -> dict[str, int]:
    """Send a scenario's traffic; return by how much the kernel's counters moved in the end."""
    start = _values(net, scenario)
    refused = 0

    def moved() -> dict[str, int]:
        now = _values(net, scenario, refused)
        return {name: value - start[name] for name, value in now.items()}

    wanted = {item.name: item.delta for item in scenario.kernel if item.name in start}
    refused = traffic.send(net, scenario.traffic)
    return until(moved, lambda deltas: all(deltas[name] >= wanted[name] for name in wanted))


def differences(scenario: Scenario, kernel: Mapping[str, int]) -> list[str]:
    """Return where the kernel's counters did not move as declared: ``r IpFragFails 22 for 23``."""
    return [
        f"{item.name} {kernel[item.name]} for {item.delta}"
        for item in scenario.kernel
        if kernel.get(item.name, item.delta) != item.delta
    ]


def _values(net: Net, scenario: Scenario, refused: int = 0) -> dict[str, int]:
    """Return the counters that are evidence; ``refused`` is what the sender was refused so far."""
    nodes = {item.node: net[item.node].counters() for item in scenario.kernel}
    nodes.setdefault(scenario.traffic.node, {})[traffic.REFUSED] = refused
    return {
        item.name: item.value(nodes[item.node])
        for item in scenario.kernel
        if not (item.recent and item.counter not in nodes[item.node])
    }


def until(look: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """Look until what is seen is enough, at most for as long as a packet may take; return that."""
    end = time.monotonic() + ARRIVES_WITHIN_S
    pause = threading.Event()
    while True:
        seen = look()
        if enough(seen) or time.monotonic() > end:
            return seen
        pause.wait(LOOK_EVERY_S)


def _settled(
    net: Net, scenario: Scenario, tracer: Counting, before: Counters
) -> tuple[int, list[str]]:
    """Return the drops counted as expected, once they are enough, and all others."""

    def look() -> tuple[int, list[str]]:
        return tally(net, scenario, before, tracer.counters())

    return until(look, lambda seen: seen[0] >= scenario.count)


def tally(net: Net, scenario: Scenario, before: Counters, after: Counters) -> tuple[int, list[str]]:
    """Return the drops between two readings that were expected, and a line for each other one."""
    spaces = {node.inum: node.label for node in net}
    counted = dict.fromkeys(scenario.drops, 0)
    others = []
    for key, now in after.items():
        # Inodes of namespaces are used again, so an earlier scenario may have left the same key.
        packets = now.packets - (before[key].packets if key in before else 0)
        if not packets or key.netns not in spaces:
            continue
        for drop in scenario.drops:
            if _as_expected(net, scenario, drop, key, now):
                counted[drop] += packets
                break
        else:
            said = f"{key.verdict}/{key.cause}" if key.cause else key.verdict
            others.append(f"{packets} on {spaces[key.netns]} at {key.site} {said} mtu {now.mtu}")
    if scenario.then and sum(counted.values()) == scenario.count:
        others += [
            f"{found} for {drop.count} at {drop.site}"
            for drop, found in counted.items()
            if found != drop.count
        ]
    return sum(counted.values()), others


def _as_expected(
    net: Net, scenario: Scenario, expected: Expected, key: CounterKey, counter: Counter
) -> bool:
    node = net[expected.node]
    ifindex = node.ifindexes[expected.dev] if expected.dev else 0
    place = (node.inum, ifindex, expected.site, expected.mtu)
    causes = (expected.cause, "unknown") if expected.blind else (expected.cause,)
    sent = scenario.traffic
    return (
        (key.netns, key.ifindex, key.site, counter.mtu) == place
        and key.verdict == expected.verdict
        and key.cause in causes
        and (key.flow.saddr, key.flow.daddr) == (expected.saddr or sent.saddr, sent.daddr)
        and _outer(net, expected) == (key.outer and (key.outer.saddr, key.outer.daddr))
    )


def _outer(net: Net, expected: Expected) -> tuple[str, str] | None:
    """Return the addresses that the outer header must have; None where there must be none.

    On a node between the ends, packets go the way that the tunnel is declared.
    """
    if not expected.outer:
        return None
    ends = [
        (port.node != expected.node, near, tunnel.endpoints)
        for tunnel in net.topology.tunnels
        for near, port in enumerate(tunnel.ends)
        if port.dev == expected.tunnel
    ]
    _, near, endpoints = min(ends)
    return endpoints[near], endpoints[1 - near]


def verdict(
    scenario: Scenario, counted: int, others: list[str], kernel: Mapping[str, int]
) -> str | None:
    """Return None where all agree, else one line with all three side by side."""
    unlike = differences(scenario, kernel)
    if counted == scenario.count and not others and not unlike:
        return None
    told = ", ".join(f"{name} {value}" for name, value in kernel.items())
    line = f"expected {scenario.count}, counted {counted}, kernel: {told}"
    if others:
        line += f"; not expected: {', '.join(others)}"
    if unlike:
        line += f"; kernel unlike declared: {', '.join(unlike)}"
    return line
