"""A night on a tunnel endpoint, made up, and written through the writer of sessions itself.

Nobody has seen these packets: it is for what a recording of hours, millions of events and tens of
thousands of flows takes to read and to show. ``PYTHONPATH=tests python tests/night.py FILE DROPS
FLOWS`` writes one. Every 90 minutes the path MTU of ``gre1`` falls 24 octets at a time and stays
locked for 20; that is when most packets are too big.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace.events import CounterKey, Drop, Flow, PathMtuChange, TunnelRef
from pmtutrace.pmtu.surroundings import Question, Surroundings
from pmtutrace.pmtu.ways import Leg, Way
from pmtutrace.session import schema
from pmtutrace.session.writer import Delta, Second, Writer
from pmtutrace.tunnels.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Iterator

NSEC = 1_000_000_000
BEGAN = 1_795_294_800 * NSEC  # 2026-11-21T21:00:00Z
NETNS, UNDER = 4026532001, 2
PERIOD_S, EPISODE_S, FIRST_S = 5400, 1200, 2700
FLOOR, FALL = 552, 24
# What becomes of the news, by share of the flows; told twice: who listens and who does not.
WAYS = (
    (0.60, "told", None),
    (0.64, "told", None),
    (0.90, "suppressed", "no_route_back"),
    (0.94, "lost", "NETFILTER_DROP nf_hook_slow OUTPUT"),
    (0.98, "never_attempted", None),
    (1.00, "local", None),
)
LISTEN = 0.60
SITES = {"never_attempted": "br_dev_queue_push_xmit", "local": "ip_append_data"}


@dataclass(frozen=True)
class Night:
    """What is made up.

    Args:
        drops: how many events of drops there are, each with a delta of its counter.
        flows: of how many flows.
        hours: how long it lasts.
        tunnels: how many GRE tunnels there are; the first one collapses.
        offset: nanoseconds from the host's CLOCK_BOOTTIME to 1970.
        clock_set: at this second the host's clock is set, by this many nanoseconds.
        ahead: by how much it was wrong at first.
        silent: from this second to that one nobody records.
    """

    drops: int = 20_000
    flows: int = 500
    hours: float = 9
    tunnels: int = 4
    offset: int = 1_795_000_000 * NSEC
    clock_set: tuple[int, int] | None = None
    ahead: int = 0
    silent: tuple[int, int] = (26_700, 27_900)

    @property
    def seconds(self) -> int:
        return round(self.hours * 3600)

    def shift(self, second: float) -> int:
        """Return by how much the host's clock is ahead."""
        by = self.clock_set[1] if self.clock_set and second >= self.clock_set[0] else 0
        return self.ahead + by

    def at(self, second: float) -> int:
        """Return what the host's clock shows."""
        return BEGAN + round(second * NSEC) + self.shift(second)

    def collapsed(self, second: int) -> bool:
        return (second - FIRST_S) % PERIOD_S < EPISODE_S and second >= FIRST_S

    def recorded(self) -> Iterator[int]:
        began, ended = self.silent
        yield from (s for s in range(self.seconds) if not began <= s < ended)

    def each(self) -> Iterator[tuple[int, int]]:
        """Yield the seconds, and how many packets each one drops; together all of them."""
        listed = list(self.recorded())
        weights = [(60 + s % 37 if self.collapsed(s) else 3 * (s % 11 == 0)) for s in listed]
        total, before = sum(weights), 0
        for second, mark in zip(listed, accumulate(weights), strict=True):
            upto = mark * self.drops // total
            yield second, upto - before
            before = upto


def remote(number: int) -> str:
    return f"198.51.100.{number}"


def tunnel(number: int) -> Tunnel:
    return Tunnel(
        NETNS, 10 + number, f"gre{number}", "gre", 1476, "192.0.2.1", remote(number),
        pmtudisc=True, overhead=24,
    )  # fmt: skip


def _share(number: int) -> float:
    """Return where a flow stands among all of them; neighbours stand far apart."""
    return (number * 617 % 1000 + 0.5) / 1000


def _flows(night: Night) -> list[tuple[Flow, str, str | None, TunnelRef, int, bytes]]:
    """Return each flow with its verdict, its cause, its tunnel, and its packet's first octets."""
    out = []
    for number in range(night.flows):
        share = _share(number)
        _, verdict, cause = next(way for way in WAYS if share < way[0])
        proto = 17 if number % 3 == 0 else 6
        saddr = 10, 1, number // 5 // 250 % 250, number // 5 % 250 + 1
        daddr = 10, 2, number % 17, number % 241 + 1
        ends = [".".join(map(str, address)) for address in (saddr, daddr)]
        flow = Flow(*ends, proto, 1024 + number, 443 if proto == 6 else 4500)
        inside = 1 if number % 10 < 8 else 2 + number % max(1, night.tunnels - 1)
        head = struct.pack(">BxH4xBBxx", 0x45, 1476, 64, proto) + bytes((*saddr, *daddr))
        packet = (head + struct.pack(">HH", flow.sport, flow.dport)).ljust(128, b"\xa5")
        made = tunnel(inside)
        ref = TunnelRef(made.name, made.type, made.local, made.remote, made.overhead)
        out.append((flow, verdict, cause, ref, made.ifindex, packet))
    return out


def _changes(night: Night, second: int) -> Iterator[PathMtuChange]:
    """Yield how path MTUs change in a second: gre1's collapse, the others' smaller hop."""
    since = (second - FIRST_S) % PERIOD_S if second >= FIRST_S else -1
    far, now = remote(1), night.at(second)
    if since == 0:
        old: int | None = None
        for step, mtu in enumerate(range(1476, FLOOR - FALL, -FALL)):
            floor = max(mtu, FLOOR)
            yield _change(now + step * 2_000_000, far, old, floor, locked=floor == FLOOR)
            old = floor
    elif since == EPISODE_S:
        yield _change(now, far, FLOOR, None, locked=True)
    for number in range(2, night.tunnels + 1):
        if second % 7200 == 300 * number:
            yield _change(now, remote(number), None, 1400 - 8 * number)
        elif second % 7200 == 300 * number + 600:
            yield _change(now, remote(number), 1400 - 8 * number, None)


def _change(
    ts: int, daddr: str, old: int | None, new: int | None, *, locked: bool = False
) -> PathMtuChange:
    what = "created" if old is None else "expired" if new is None else "lowered"
    return PathMtuChange(
        ts, NETNS, what, 4, daddr, None, "eth0", UNDER, "192.0.2.254", 254, old, new, locked,
        600.0, "tunnel" if daddr == remote(1) else "icmp",
    )  # fmt: skip


def write(path: Path, night: Night, **manifest: object) -> None:
    """Write the session."""
    said = {"session": path.name, "series": path.name, "previous": None, "host": "edge7",
            "boot_id": "0f3c", "kernel": "6.12.57", "architecture": "x86_64", "pmtutrace": "0.1.0",
            "began": night.at(0), "offset": night.offset, "losses": ["ring_full"],
            "options": {"paths": True}, "hooks": []}  # fmt: skip
    writer = Writer(path, said | manifest)
    writer._sql.execute("PRAGMA synchronous = OFF")  # no power cut has to be borne
    _states(writer, night)
    flows = _flows(night)
    keys = [
        schema.Counted(
            CounterKey(NETNS, dev, SITES.get(verdict, "ip_tunnel_xmit"), verdict,
                       None if verdict == "lost" else cause, 4, flow, None),
            ref.name, ref,
        )
        for flow, verdict, cause, ref, dev, _ in flows
    ]  # fmt: skip
    polite = [n for n in range(night.flows) if _share(n) < LISTEN]
    stubborn = sorted(set(range(night.flows)) - set(polite)) or polite
    turn = waiting = 0
    for second, due in night.each():
        mtu = FLOOR - 24 if night.collapsed(second) else 1360
        began = not night.collapsed(second - 1) and night.collapsed(second)
        waiting = len(polite) if began else waiting
        deltas = []
        for at in range(due):
            if waiting:
                waiting -= 1
                number = polite[waiting]
            else:
                number = stubborn[turn % len(stubborn)]
                turn += 1
            ts = night.at(second + (at + 0.5) / due)
            _drop(writer, ts, mtu, flows[number])
            deltas.append(Delta(keys[number], 1, 1476, 1476, mtu, ts))
        for change in _changes(night, second):
            writer.add(change)
        if deltas or writer.pending or second % 60 == 59:
            lost = {"ring_full": 17} if second == FIRST_S + 1 else {}
            _commit(writer, night, second, _summed(deltas), lost)
    writer.close(ended=night.at(night.seconds))


def _summed(deltas: list[Delta]) -> list[Delta]:
    """Return one delta for each counter."""
    out: dict[schema.Counted, Delta] = {}
    for delta in deltas:
        old = out.get(delta.counted)
        if old:
            delta = delta._replace(packets=old.packets + 1, bytes=old.bytes + delta.bytes)
        out[delta.counted] = delta
    return list(out.values())


def _states(writer: Writer, night: Night) -> None:
    writer.state(schema.Space(night.at(0), NETNS, "edge"))
    ways = {}
    for number in range(1, night.tunnels + 1):
        made = tunnel(number)
        writer.state(schema.TunnelThere(night.at(0), made))
        way = Way(remote(number), (Leg("eth0", UNDER, "192.0.2.254", 1500),), None)
        ways |= {Question(remote(number), made.local, None): way, Question(remote(number)): way}
    around = Surroundings(NETNS, ways, {"min_pmtu": FLOOR, "mtu_expires": 600})
    writer.state(schema.Around(night.at(0), NETNS, json.dumps(around.json())))


def _drop(
    writer: Writer,
    ts: int,
    mtu: int,
    of: tuple[Flow, str, str | None, TunnelRef, int, bytes],
) -> None:
    flow, verdict, cause, ref, dev, packet = of
    site = SITES.get(verdict, "ip_tunnel_xmit")
    writer.add(
        Drop(
            ts, NETNS, 1, site, f"{site}+0x3f1", "NOT_SPECIFIED", verdict, cause, 1476, mtu, 0,
            True, 4, ref.name, dev, "eth1", ref, flow, None, 1, packet,
        )
    )  # fmt: skip


def _commit(
    writer: Writer, night: Night, second: int, deltas: list[Delta], lost: dict[str, int]
) -> None:
    since, until = night.at(second), night.at(second) + NSEC
    offset = night.offset + night.shift(second)
    writer.commit(Second(since, until, offset, deltas, lost, second * 2_000_000, 87_000_000))


if __name__ == "__main__":
    write(Path(sys.argv[1]), Night(int(sys.argv[2]), int(sys.argv[3])))
