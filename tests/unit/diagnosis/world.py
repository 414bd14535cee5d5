"""A made-up endpoint of a GRE tunnel, and what a recording of it would hold."""

import dataclasses

from pmtutrace.diagnosis import Collector, diagnose
from pmtutrace.events import (
    Counter,
    CounterKey,
    Flow,
    Fragmented,
    IcmpLost,
    IcmpReceived,
    Outer,
    PathMtuChange,
    TunnelRef,
)
from pmtutrace.kernel.nftables import Rules
from pmtutrace.pmtu.exceptions import PathMtu
from pmtutrace.pmtu.surroundings import Question, Surroundings
from pmtutrace.pmtu.ways import Leg, Way
from pmtutrace.probing import Result
from pmtutrace.probing.belief import Belief
from pmtutrace.probing.verdict import Path, judge
from pmtutrace.tunnels.tunnel import Tunnel
from samples import drop

SPACE, UNDER, DEV = 4026532001, 2, 7
LOCAL, FAR, GATEWAY, ROUTER = "192.0.2.1", "198.51.100.1", "192.0.2.254", "203.0.113.9"
CUSTOMER, SERVER = "10.1.0.2", "10.2.0.2"
SECOND = 1_000_000_000
START = 1_792_924_245 * SECOND
GRE = Tunnel(SPACE, DEV, "gre1", "gre", 1476, LOCAL, FAR, pmtudisc=True, overhead=24)
VXLAN = dataclasses.replace(
    GRE, name="vx1", type="vxlan", mtu=1450, pmtudisc=None, df="unset", port=4789, overhead=50
)
OWN = Leg("eth0", UNDER, GATEWAY, 1500)
INTO = Leg("gre1", DEV, "10.2.0.2", 1476)


class World:
    """An endpoint with one tunnel; ``legs`` are the nexthops of the route to its far end."""

    def __init__(self, tunnel=GRE, legs=(OWN,), route_mtu=None, rules=None, **around):
        self.tunnels = [tunnel]
        self.collector = Collector({SPACE}, START)
        self.counters, self.fragments, self.probes = {}, {}, []
        self.end = START + 3600 * SECOND
        way = Way(FAR, tuple(legs), route_mtu)
        ways = {Question(FAR, LOCAL, tunnel.link): way, Question(FAR): way}
        self.around = Surroundings(SPACE, ways, {"min_pmtu": 552}, rules=rules or Rules(), **around)

    def way(self, daddr, *legs, mtu=None):
        self.around = dataclasses.replace(
            self.around, ways={**self.around.ways, Question(daddr): Way(daddr, legs, mtu)}
        )

    def at(self, second):
        return START + round(second * SECOND)

    def change(self, second, new, *, old=None, daddr=FAR, leg=OWN, locked=False, via="unknown"):
        what = "created" if old is None else "expired" if new is None else "lowered"
        self.collector.take(self.changed(second, what, old, new, daddr, leg, locked, via))

    def changed(self, second, what, old, new, daddr=FAR, leg=OWN, locked=False, via="unknown"):
        return PathMtuChange(
            ts=self.at(second),
            netns=SPACE,
            change=what,
            family=6 if ":" in daddr else 4,
            daddr=daddr,
            saddr=None,
            dev=leg.dev,
            ifindex=leg.ifindex,
            gateway=leg.gateway,
            table=254,
            old=old,
            new=new,
            locked=locked,
            expires=600.0,
            via=via,
        )

    def standing(self, new, *, daddr=FAR, locked=False):
        """Let an exception be there as recording begins."""
        item = PathMtu(4, daddr, None, OWN.ifindex, OWN.gateway, 254, new, locked, 600.0)
        self.collector.standing(SPACE, self.at(0.5), item, OWN.dev)

    def slide(self, second, *, legs=(OWN,), lasts=600.0, start=1476, by=24, floor=552):
        """Let the path MTU to the far end fall by the same amount until it is locked."""
        old, mtu, at = None, start, second
        while mtu > floor:
            for leg in legs:
                self.change(at, mtu, old=old, leg=leg)
            old, mtu, at = mtu, mtu - by, at + 0.1
        for leg in legs:
            self.change(at, floor, old=old, leg=leg, locked=True)
        for leg in legs:
            self.change(second + lasts, None, old=floor, leg=leg, locked=True)

    def dropped(self, second, *, count=1, **what):
        """Let packets be dropped: one event, and the counter that goes with it."""
        made = {
            "site": "ip_tunnel_xmit",
            "length": 1476,
            "mtu": 1400,
            "dev": "gre1",
            "ifindex": DEV,
            "tunnel": TunnelRef(self.tunnels[0].name, self.tunnels[0].type),
            "flow": Flow(CUSTOMER, SERVER, 17, 2323, 9),
        } | what
        event = drop(ts=self.at(second), netns=SPACE, count=count, **made)
        self.collector.take(event)
        key = CounterKey(
            SPACE, event.ifindex, event.site, event.verdict, event.cause if event.verdict != "lost"
            else None, event.family, event.flow, event.outer,
        )  # fmt: skip
        self._count(self.counters, key, event.ts, count, event.length or 0, event.mtu)

    def split(self, second, *, count=1, mtu=1500):
        """Let outer packets leave in fragments."""
        tunnel = self.tunnels[0]
        outer = Outer(LOCAL, FAR, 17 if tunnel.port else 47)
        flow = Flow(CUSTOMER, SERVER, 17, 2323, 9)
        ref = TunnelRef(tunnel.name, tunnel.type)
        ts = self.at(second)
        self.collector.take(
            Fragmented(ts, SPACE, 0, 1550, mtu, 4, "eth0", UNDER, ref, flow, outer, count, b"")
        )
        key = CounterKey(SPACE, UNDER, "other", "none", None, 4, flow, outer)
        self._count(self.fragments, key, ts, count, 1550, mtu)

    def _count(self, counters, key, ts, packets, length, mtu):
        old = counters.get(key, Counter(0, 0, 0, mtu, ts, ts))
        counters[key] = Counter(
            old.packets + packets,
            old.bytes + packets * length,
            max(old.max_length, length),
            mtu,
            old.first,
            ts,
        )

    def news(self, second, mtu, outcome="applied", *, daddr=FAR, saddr=LOCAL, effective=None):
        """Let a message arrive."""
        flow = Flow(saddr, daddr, 47)
        made = IcmpReceived(
            ts=self.at(second),
            netns=SPACE,
            cpu=0,
            family=4,
            router=ROUTER,
            to=LOCAL,
            mtu=mtu,
            flow=flow,
            outer=None,
            dev="eth0",
            ifindex=UNDER,
            tunnel=None,
            outcome=outcome,
            effective=effective,
        )
        self.collector.take(made)

    def lost(self, second, *, reason="NETFILTER_DROP", site="nft_do_chain", hook="OUTPUT"):
        """Let a message die after its drop was reported."""
        flow = Flow(CUSTOMER, SERVER, 17, 2323, 9)
        place = f"{site}+0x10"
        self.collector.take(
            IcmpLost(self.at(second), SPACE, 0, site, place, reason, 4, CUSTOMER, 1400, flow, hook)
        )

    def probed(self, mtu, *, before=1500, after=None, silent=False, learned=False):
        """Let the far end have been probed."""
        belief = Belief("eth0", UNDER, 1500, before, expires=500.0 if learned else None)
        now = dataclasses.replace(belief, mtu=after or before)
        path = Path(4, mtu, mtu, silent, None, belief, now, mtu + 1)
        made = Result(FAR, FAR, judge(path), path, "icmp", 0.01, 9, 0.5, None, START)
        self.probes.append((SPACE, made))

    def case(self):
        return self.collector.case(
            counters=self.counters,
            fragments=self.fragments,
            tunnels=self.tunnels,
            surroundings={SPACE: self.around},
            probes=self.probes,
            names={SPACE: "edge"},
            ended=self.end,
        )

    def findings(self):
        return diagnose(self.case())

    def found(self, name):
        """Return the one finding with this id."""
        (one,) = (finding for finding in self.findings() if finding.id == name)
        return one

    @property
    def ids(self):
        return [finding.id for finding in self.findings()]
