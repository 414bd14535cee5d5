"""Run a scenario; compare what was expected with what we and the kernel counted."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pmtutrace.errors import LabError, NotSupported
from pmtutrace.events import Device
from pmtutrace.lab import traffic
from pmtutrace.lab.build import built

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from pmtutrace.events import Counter, CounterKey
    from pmtutrace.kernel.loader import Attached
    from pmtutrace.lab.net import Net
    from pmtutrace.lab.scenario import Expected, Scenario

    Counters = Mapping[CounterKey, Counter]

T = TypeVar("T")

MAKERS = ("tunnel4", "tunnel6")  # hooks
ARRIVES_WITHIN_S = 5.0
LOOK_EVERY_S = 0.005


class Counting(Protocol):
    """What a scenario needs of a tracer, as :class:`pmtutrace.tracing.Tracer` has it."""

    @property
    def attached(self) -> tuple[Attached, ...]:
        """How each hook is attached."""

    def holds(self, hook: str) -> bool:
        """Return whether a hook is attached."""

    def fragments(self) -> Counters:
        """Return those of outer packets that left as fragments."""

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


def run(
    scenario: Scenario,
    tracer: Counting,
    beside: Callable[[Net], AbstractContextManager[object]] | None = None,
) -> Result:
    """Build a scenario, send its traffic, and compare exactly.

    The tracer must have everything attached; one serves for any number of scenarios, one at a time.

    Args:
        scenario: what is built.
        tracer: what counts.
        beside: makes what is entered before any traffic, and left before the lab is taken down.
    """
    try:
        scenario = seen_by(scenario, tracer)
        with built(scenario) as net, beside(net) if beside else nullcontext():
            tracer.refresh()
            before = tracer.counters(), tracer.fragments()
            kernel = exercise(net, scenario)
            if scenario.flush:
                net.flush()
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


def seen_by(scenario: Scenario, tracer: Counting) -> Scenario:
    """Return a scenario with what a tracer can see of it expected.

    Raises:
        NotSupported: it can see nothing of it.
    """
    blind = [hook for hook in scenario.hooks if not tracer.holds(hook)]
    if blind:
        raise NotSupported(f"the hook {blind[0]} cannot be attached on this kernel")
    there = {a.target for hook in tracer.attached if hook.rung for a in hook.rung.attachments}
    for name in scenario.targets:
        if name not in there:
            raise NotSupported(f"{name} cannot be attached to on this kernel")
    expected = scenario.expected
    if expected is None or expected.blind is None or expected.blind in there:
        return scenario
    return replace(scenario, expected=replace(expected, cause="unknown"))


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
    for traffic_before in scenario.prelude:
        traffic.send(net, traffic_before)
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


def until(
    look: Callable[[], T], enough: Callable[[T], bool], within: float = ARRIVES_WITHIN_S
) -> T:
    """Look until what is seen is enough, at most for so many seconds; return what was seen last."""
    end = time.monotonic() + within
    pause = threading.Event()
    while True:
        seen = look()
        if enough(seen) or time.monotonic() > end:
            return seen
        pause.wait(LOOK_EVERY_S)


def _settled(
    net: Net, scenario: Scenario, tracer: Counting, before: tuple[Counters, Counters]
) -> tuple[int, list[str]]:
    """Return the drops counted as expected, once they are enough, and all that is not."""
    drops, fragments = before
    makers = shows_makers(tracer)

    def look() -> tuple[int, list[str]]:
        counted, others = tally(net, scenario, drops, tracer.counters(), makers=makers)
        if scenario.fragments and tracer.holds("fragment"):
            others += unlike_split(net, scenario, fragments, tracer.fragments())
        return counted, others

    return until(look, lambda seen: seen[0] >= scenario.count and not seen[1])


def shows_makers(tracer: Counting) -> bool:
    """Return whether a tracer sees which device has made an outer packet."""
    by_hook = [hook.rung for hook in tracer.attached if hook.hook.name in MAKERS]
    return bool(by_hook) and all(rung and rung.attachments for rung in by_hook)


def tally(
    net: Net, scenario: Scenario, before: Counters, after: Counters, *, makers: bool
) -> tuple[int, list[str]]:
    """Return the drops between two readings that were expected, and a line for each other one.

    ``makers`` says that the device which made an outer packet must be named, and be the right one.
    """
    counted, others = _sorted(net, scenario, scenario.drops, before, after, makers=makers)
    if scenario.then and sum(counted.values()) == scenario.count:
        others += [
            f"{found} for {drop.count} at {drop.site}"
            for drop, found in counted.items()
            if found != drop.count
        ]
    return sum(counted.values()), others


def unlike_split(net: Net, scenario: Scenario, before: Counters, after: Counters) -> list[str]:
    """Return a line for each kind of outer fragments that was not declared, or not so many."""
    wanted = (scenario.fragments,) if scenario.fragments else ()
    counted, others = _sorted(net, scenario, wanted, before, after, makers=False)
    lines = [f"{line} in fragments" for line in others]
    return lines + [
        f"{found} for {split.count} in fragments"
        for split, found in counted.items()
        if found != split.count
    ]


def _sorted(
    net: Net,
    scenario: Scenario,
    wanted: tuple[Expected, ...],
    before: Counters,
    after: Counters,
    *,
    makers: bool,
) -> tuple[dict[Expected, int], list[str]]:
    """Return what was counted between two readings, as wanted, and a line for each other one."""
    spaces = {node.inum: node.label for node in net}
    counted = dict.fromkeys(wanted, 0)
    others = []
    for key, now in after.items():
        # Inodes of namespaces are used again, so an earlier scenario may have left the same key.
        packets = now.packets - (before[key].packets if key in before else 0)
        if not packets or key.netns not in spaces:
            continue
        for drop in wanted:
            right = not makers or key.maker == _maker(net, drop)
            if right and _as_expected(net, scenario, drop, key, now):
                counted[drop] += packets
                break
        else:
            said = f"{key.verdict}/{key.cause}" if key.cause else key.verdict
            made = f" made by {key.maker.ifindex}" if key.maker else ""
            others.append(
                f"{packets} on {spaces[key.netns]} at {key.site} {said} mtu {now.mtu}{made}"
            )
    return counted, others


def _as_expected(
    net: Net, scenario: Scenario, expected: Expected, key: CounterKey, counter: Counter
) -> bool:
    node = net[expected.node]
    ifindex = node.ifindexes[expected.dev] if expected.dev else 0
    place = (node.inum, ifindex, expected.site, expected.mtu)
    sent = scenario.traffic
    ends = expected.ends or (expected.saddr or sent.saddr, sent.daddr)
    return (
        (key.netns, key.ifindex, key.site, counter.mtu) == place
        and key.verdict == expected.verdict
        and key.cause == expected.cause
        and (key.flow.saddr, key.flow.daddr) == ends
        and _outer(net, expected) == (key.outer and (key.outer.saddr, key.outer.daddr))
    )


def _maker(net: Net, expected: Expected) -> Device | None:
    """Return the device that made the outer header of what was dropped.

    None where there is no outer header, and on nodes that only pass it on.
    """
    node = net[expected.node]
    ifindex = node.ifindexes.get(expected.tunnel) if expected.outer and expected.tunnel else None
    return Device(node.inum, ifindex) if ifindex else None


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
