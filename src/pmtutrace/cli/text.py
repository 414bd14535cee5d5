"""Events as lines for people: aligned, one a line, some 100 columns with IPv4."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pmtutrace.events import (
    ENDS,
    Drop,
    Fragmented,
    IcmpLost,
    IcmpReceived,
    PathMtuChange,
    TunnelChange,
)
from pmtutrace.jsonl import protocol, spi
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pmtutrace.events import Event, Flow, InnerMtu

HEADER = f"{'TIME':15} {'NETNS':10} {'DEV':8} {'LEN':>5} {'MTU':>5} {'VERDICT':10} FLOW, SITE"


def clock(ns: int) -> str:
    """Return the local time of day with microseconds."""
    whole = time.strftime("%H:%M:%S", time.localtime(ns // 1_000_000_000))
    return f"{whole}.{ns % 1_000_000_000 // 1000:06d}"


def endpoint(address: str, port: int | None) -> str:
    """Return address and port as tcpdump writes them for IPv4, in brackets for IPv6."""
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def flow(value: Flow) -> str:
    """Return a flow: protocol, source > destination."""
    if value.proto in (1, 58) and value.sport is not None:
        return f"{protocol(value.proto)} {value.saddr} > {value.daddr} id {value.sport}"
    source, target = endpoint(value.saddr, value.sport), endpoint(value.daddr, value.dport)
    return f"{protocol(value.proto)} {source} > {target}"


def line(event: Event, names: Mapping[int, str]) -> str:
    """Return the line of an event."""
    netns = printable(str(names.get(event.netns, event.netns)))
    match event:
        case Drop():
            return _drop(event, netns)
        case IcmpLost():
            cut = f"{clock(event.ts)} {netns:10} {'':8} {'':5} {event.mtu:>5} {'icmp_lost':10}"
            words = " ".join(word for word in (event.reason, event.hook) if word)
            why = f" ({words})" if words else ""
            late = f"; told at {event.drop.site} becomes lost" if event.drop else ""
            return f"{cut} message to {event.to} about {flow(event.flow)}, {event.site}{why}{late}"
        case IcmpReceived():
            cut = (
                f"{clock(event.ts)} {netns:10} {event.dev:8} {'':5} {event.mtu:>5} {'received':10}"
            )
            return f"{cut} {_received(event)}"
        case Fragmented():
            return _fragmented(event, netns)
        case TunnelChange():
            mtu = "" if event.mtu is None else event.mtu
            name = printable(event.name)
            cut = f"{clock(event.ts)} {netns:10} {name:8} {'':5} {mtu:>5} {'tunnel':10}"
            return f"{cut} {event.type} {event.what}"
        case PathMtuChange():
            mtu = "" if event.new is None else event.new
            cut = f"{clock(event.ts)} {netns:10} {event.dev:8} {'':5} {mtu:>5} {'pmtu':10}"
            return f"{cut} {_path(event)}"


def _received(event: IcmpReceived) -> str:
    """Return who told what about which packet, and what came of it."""
    other = event.effective not in (None, event.mtu)
    effective = f", {event.effective} in force" if other else ""
    about = f"{flow(event.flow)}{_inside(event)}"
    return f"from {event.router} about {about}, {event.outcome}{effective}"


def _path(event: PathMtuChange) -> str:
    """Return what became of an exception, and what that means for tunnels."""
    gateway = f" via {event.gateway}" if event.gateway else ""
    was = f", was {event.old}" if event.change in ("lowered", "raised", *ENDS) else ""
    lock = ", locked" if event.locked and event.change != "locked" else ""
    told = "" if event.via == "unknown" else f", by {event.via}"
    if event.router is not None and event.quoted is not None:
        told += f" from {event.router} about {flow(event.quoted)}"
    return f"{event.daddr}{gateway} {event.change}{was}{lock}{told}{inner(event.tunnels)}"


def inner(tunnels: Iterable[InnerMtu]) -> str:
    """Return the tunnels whose far end is meant, with what fits inside where that is known."""
    parts = [
        f" {printable(one.name)}" + (f" {one.mtu}" if one.mtu is not None else "")
        for one in tunnels
    ]
    return ";" + ",".join(parts) if parts else ""


def _drop(event: Drop, netns: str) -> str:
    told = event.verdict if len(event.verdict) <= 10 else event.verdict.replace("_attempted", "")
    cause = f" ({event.cause})" if event.cause else ""
    length = "-" if event.length is None else event.length
    return (
        f"{clock(event.ts)} {netns:10} {event.dev:8} {length:>5} {event.mtu:>5} {told:10} "
        f"{flow(event.flow)}{_inside(event)}, {event.site}{cause}{_times(event.count)}"
    )


def _fragmented(event: Fragmented, netns: str) -> str:
    return (
        f"{clock(event.ts)} {netns:10} {event.dev:8} {event.length:>5} {event.mtu:>5} fragmented "
        f"{flow(event.flow)}{_inside(event)}{_times(event.count)}"
    )


def _inside(event: Drop | Fragmented | IcmpReceived) -> str:
    if event.outer:
        name = f"{event.tunnel.name} " if event.tunnel else ""
        return f" in {name}{event.outer.saddr} > {event.outer.daddr}"
    if isinstance(event, Drop) and event.spi is not None:
        return f" spi {spi(event.spi)}" + (f" of {event.tunnel.name}" if event.tunnel else "")
    return ""


def _times(count: int) -> str:
    return f" ×{count}" if count > 1 else ""  # noqa: RUF001 -- times


def summary(totals: Mapping[str, Any]) -> list[str]:
    """Return the closing lines: drops by verdict and cause, and what was lost on the way."""
    parts = [f"{number} {verdict}" for verdict, number in totals["verdicts"].items()]
    tail = f": {', '.join(parts)}" if parts else ""
    lines = [f"{totals['drops']} oversize packets dropped in {totals['seconds']:.1f} s{tail}"]
    if totals["fragmented"]:
        lines.append(f"  {totals['fragmented']} outer packets of tunnels left as fragments")
    if totals["icmp_received"] or totals["pmtu_changes"]:
        lines.append(
            f"  {totals['icmp_received']} messages arrived,"
            f" path MTUs changed {totals['pmtu_changes']} times"
        )
    for cause, number in totals["causes"].items():
        lines.append(f"  {number} suppressed: {cause}")
    lost = {kind: number for kind, number in totals["losses"].items() if number}
    for kind, number in lost.items():
        lines.append(f"  {number} × {LOSSES.get(kind, kind)}")  # noqa: RUF001 -- times
    return lines


LOSSES = {
    "ring_full": "an event was not shown because the ring was full; its packets are counted",
    "counters_full": "a packet was counted without its flow because the table was full",
    "news_full": "a message could not be remembered; a verdict may be wrong",
    "received": "a message that arrived was not shown: there were too many",
    "nested": "too many levels of interrupts at once: a packet was not looked at",
    "recursion": "the kernel skipped a run inside a run: a packet may not have been looked at",
}
