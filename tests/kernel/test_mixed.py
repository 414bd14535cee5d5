"""Packets of random sizes, DF on and off, through four tunnels at once, among much other traffic.

For each packet it is worked out what must become of it; what we count, packets and octets, must be
just that, and what the kernel counts, too. ``PMTUTRACE_SEED`` repeats a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from pmtutrace import lab
from pmtutrace.errors import NotSupported
from pmtutrace.events import Counter as Count
from pmtutrace.lab import packets
from pmtutrace.lab.run import until
from pmtutrace.lab.scenarios.routed import R_TO_A, A, cidr

pytestmark = pytest.mark.live

PACKETS, NOISE = 10_000, 2_000  # NOISE are refused, or not, for other reasons than their size
SMALLEST, LARGEST, JUMBO = 64, 9000, 9216
R, R6 = "192.0.2.1", "2001:db8::1"
# Source ports tell what must become of a packet; destination ports tell what is in its way.
FITS, REFUSED, OTHER = 1001, 1002, 1003
SINK, CLOSED, FILTERED = 9, 10, 11
NO_ROUTE = "198.51.100.9"
NOTHING = Count(0, 0, 0, 0, 0, 0)
RULES = """
table inet lab {
 counter told { }
 chain in { type filter hook prerouting priority 0
  udp dport 11 drop
 }
 chain out { type filter hook output priority 0
  icmp type destination-unreachable icmp code 4 counter name told
  icmpv6 type packet-too-big counter name told
 }
}
"""


@dataclass(frozen=True)
class Way:
    """A tunnel between r and b, and what it does with packets that are too long for its path.

    ``with_df`` and ``without``: ``inside`` (refused by the tunnel), ``outside`` (wrapped, then
    refused), ``split`` (wrapped, then fragmented). ``far`` is b's endpoint.
    """

    name: str
    type: str
    number: int
    mtu: int
    path: int
    overhead: int
    with_df: str
    without: str
    under: int = 4
    key: int | None = None
    df: str | None = None
    options: tuple[tuple[str, object], ...] = ()

    @property
    def dev(self) -> str:
        return f"t{self.number}"

    @property
    def near_end(self) -> str:
        return f"10.78.{self.number}.1"

    @property
    def far_end(self) -> str:
        return f"10.78.{self.number}.2"

    @property
    def far(self) -> str:
        return f"192.0.2.{self.number + 10}" if self.under == 4 else f"2001:db8::{self.number + 10}"

    def refusals(self, length: int, *, df: bool) -> list[tuple[str, str, int, int]]:
        """Return site, device, MTU and length of each refusal that a packet must meet."""
        if df and length > self.mtu:
            return [("ip_forward", self.dev, self.mtu, length)]
        what = self.with_df if df else self.without
        found = []
        for piece in pieces(length, self.mtu):
            wrapped = piece + self.overhead
            if wrapped <= self.path or what == "split":
                continue
            if what == "inside":
                found.append(("ip_tunnel_xmit", self.dev, self.path - self.overhead, piece))
            else:
                site = "ip_fragment" if self.under == 4 else "ip6_fragment"
                found.append((site, "ru", self.path, wrapped))
        return found


GRE = {"overhead": 24, "with_df": "inside"}
OUTSIDE = {"with_df": "outside", "without": "outside"}
VXLANS = (
    Way("vxlan", "vxlan", 1, 8950, 3000, 50, "split", "split", key=1),
    Way("vxlan df set", "vxlan", 2, 8000, 4444, 50, **OUTSIDE, key=2, df="set"),
    Way("vxlan df inherit", "vxlan", 3, 8500, 1400, 50, "outside", "split", key=3, df="inherit"),
    Way("vxlan on IPv6", "vxlan", 4, 7001, 2600, 70, **OUTSIDE, under=6, key=4),
)
TYPES = (
    Way("gre", "gre", 1, 6000, 1500, **GRE, without="outside"),
    Way("gre nopmtudisc", "gre", 2, 9192, 4096, **GRE, without="split", options=(("pmtudisc", 0),)),
    Way("ipip", "ipip", 3, 5555, 1280, 20, "inside", "outside"),
    Way("vxlan on IPv6", "vxlan", 4, 7001, 2600, 70, **OUTSIDE, under=6, key=4),
)


def pieces(length: int, mtu: int) -> list[int]:
    """Return the lengths of the fragments that ip_do_fragment() makes of a packet."""
    if length <= mtu:
        return [length]
    room = (mtu - 20) // 8 * 8
    payload = length - 20
    return [min(room, payload - at) + 20 for at in range(0, payload, room)]


def topology(ways: tuple[Way, ...]) -> lab.Topology:
    """Return ``a - r =four tunnels= b`` on cables that carry the longest packets."""
    near = (lab.Port("a", "a0", cidr(A), JUMBO), lab.Port("r", "ra", cidr(R_TO_A), JUMBO))
    ends = [f"{way.far}/{24 if way.under == 4 else 64}" for way in ways]
    under = (
        lab.Port("r", "ru", (f"{R}/24", f"{R6}/64"), JUMBO),
        lab.Port("b", "bu", tuple(ends), JUMBO),
    )
    tunnels = [
        lab.Tunnel(
            way.type,
            (
                lab.Port("r", way.dev, (f"{way.near_end}/24",), way.mtu),
                lab.Port("b", way.dev, (f"{way.far_end}/24",), way.mtu),
            ),
            (R if way.under == 4 else R6, way.far),
            key=way.key,
            df=way.df,
            options=dict(way.options),
        )
        for way in ways
    ]
    routes = [lab.Route("a", "0.0.0.0/0", via=R_TO_A[4])]
    routes += [lab.Route("r", way.far, dev="ru", mtu=way.path) for way in ways]
    routes += [lab.Route("b", "10.77.1.0/24", via=ways[0].near_end)]
    # Fragments of refused packets stay behind at b; they must not push out those of others.
    sysctls = (("b", "ipv4.ipfrag_high_thresh", str(1 << 30)), ("b", "ipv4.ipfrag_max_dist", "0"))
    return lab.Topology(
        (lab.Veth(near), lab.Veth(under)),
        tuple(tunnels),
        routes=tuple(routes),
        routers=("r",),
        sysctls=sysctls,
        rules=(("r", RULES),),
    )


@dataclass
class Plan:
    """What is sent, and what must come of it: packets and octets by site, device, MTU and port."""

    sent: list[bytes]
    packets: Counter
    octets: Counter
    arrive: Counter  # by device
    inside: Counter  # refused by the tunnel itself, by device
    outside: Counter  # refused in the outer header, by device


def plan(ways: tuple[Way, ...], seed: int) -> Plan:
    """Make the packets of a run, each with a number of its own, in any order."""
    chance = random.Random(seed)  # noqa: S311 -- can be repeated
    made = Plan([], Counter(), Counter(), Counter(), Counter(), Counter())
    kinds = [True] * PACKETS + [False] * NOISE
    chance.shuffle(kinds)
    for number, sized in enumerate(kinds):
        way, df = chance.choice(ways), chance.random() < 0.5
        length = chance.randint(SMALLEST, LARGEST)
        if not sized:
            made.sent.append(noise(way, chance, length, df=df, number=number, made=made))
            continue
        refusals = way.refusals(length, df=df)
        port = REFUSED if refusals else FITS
        made.sent.append(packet(way.far_end, length, port, df=df, number=number))
        expect(made, way, length, refusals)
    return made


def expect(made: Plan, way: Way, length: int, refusals: list) -> None:
    """Take into a plan what must come of one packet."""
    for site, dev, mtu, octets in refusals:
        made.packets[way.name, site, dev, mtu] += 1
        made.octets[way.name, site, dev, mtu] += octets
        if site == "ip_tunnel_xmit":
            made.inside[way.dev] += 1
        elif dev == "ru":
            made.outside[way.dev] += 1
    if not (refusals and refusals[0][0] == "ip_forward"):
        made.arrive[way.dev] += len(pieces(length, way.mtu)) - len(refusals)


def noise(
    way: Way, chance: random.Random, length: int, *, df: bool, number: int, made: Plan
) -> bytes:
    """Return a packet that is refused for another reason than its size, however long it is."""
    to, kind = way.far_end, chance.randrange(6)
    sent = {"df": df, "number": number}
    if kind == 0:
        return packet(NO_ROUTE, length, OTHER, **sent)
    if kind == 1:
        return packet(to, length, OTHER, ttl=1, **sent)
    if kind == 2:
        return packet(to, length, OTHER, FILTERED, **sent)
    if kind == 3:
        whole = packet(to, length, OTHER, **sent)
        return whole[:10] + bytes((whole[10] ^ 0x55,)) + whole[11:]
    # What fits, and is refused by b: a closed port, a wrong checksum of UDP.
    length = chance.randint(SMALLEST, min(way.mtu, way.path - way.overhead))
    made.arrive[way.dev] += 1
    if kind == 4:
        return packet(to, length, OTHER, CLOSED, **sent)
    whole = packet(to, length, OTHER, **sent)
    return whole[:26] + bytes((whole[26] ^ 0x55,)) + whole[27:]


def packet(
    to: str, length: int, sport: int, dport: int = SINK, *, df: bool, number: int, ttl: int = 64
) -> bytes:
    """Return a datagram from a of so many octets, all of its payload zero."""
    payload = length - 20
    header = packets.ip_header(
        A[4],
        to,
        socket.IPPROTO_UDP,
        payload,
        frag=packets.DF if df else 0,
        ttl=ttl,
        identification=number,
    )
    start = struct.pack("!HHH", sport, dport, payload)
    total = packets.checksum(packets.pseudo_header(A[4], to, socket.IPPROTO_UDP, payload) + start)
    return header + start + struct.pack("!H", ~total & 0xFFFF or 0xFFFF) + bytes(payload - 8)


def told(net: lab.Net) -> int:
    """Return how many frag-needed and packet-too-big r has sent, by netfilter's count."""
    command = ["nft", "--json", "list", "counters"]
    done = net["r"].run(lambda: subprocess.run(command, capture_output=True, check=True))
    found = json.loads(done.stdout)["nftables"]
    return next(item["counter"]["packets"] for item in found if "counter" in item)


def send(net: lab.Net, made: Plan) -> None:
    """Put all packets on a's cable, one after the other."""

    def sink():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("", SINK))
        return receiver

    def put():
        node = net["a"]
        frame = packets.ethernet(net["r"].macs["ra"], node.macs["a0"], A[4])
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("a0", 0))
            for octets in made.sent:
                sender.send(frame + octets)

    net.stack.enter_context(net["b"].run(sink))
    net["a"].run(put)


def counted(net: lab.Net, ways: tuple[Way, ...], counters: dict) -> tuple[Counter, Counter, list]:
    """Return packets and octets as a plan has them, and every counter that no plan can have."""
    r = net["r"]
    devs = {r.ifindexes[dev]: dev for dev in r.ifindexes}
    found, octets, others = Counter(), Counter(), []
    owners = {way.far_end: way for way in ways}
    for key, counter in counters.items():
        if key.netns not in {node.inum for node in net}:
            continue
        way = owners.get(key.flow.daddr)
        dev = devs.get(key.ifindex, "?")
        outer = dev == "ru"
        endpoints = (key.outer.saddr, key.outer.daddr) if key.outer else None
        if (
            way is None
            or key.netns != r.inum
            or key.verdict != "told"
            or key.flow.saddr != A[4]
            # Later fragments have no ports.
            or (key.flow.sport, key.flow.dport) not in ((REFUSED, SINK), (None, None))
            or endpoints != ((R if way.under == 4 else R6, way.far) if outer else None)
        ):
            others.append((key, counter.packets))
            continue
        found[way.name, key.site, dev, counter.mtu] += counter.packets
        octets[way.name, key.site, dev, counter.mtu] += counter.bytes
    return found, octets, others


def since(before: dict, after: dict) -> dict:
    """Return what has been counted between two readings, leaving out what did not move."""
    # Inodes of namespaces are used again: an earlier test may have left the same key.
    return {
        key: replace(now, packets=now.packets - old.packets, bytes=now.bytes - old.bytes)
        for key, now in after.items()
        if (old := before.get(key, NOTHING)).packets != now.packets
    }


def test_what_must_be_refused_is_counted_and_nothing_else(tracer, kernel):
    seed = int(os.environ.get("PMTUTRACE_SEED", random.SystemRandom().randrange(1 << 32)))
    ways = TYPES
    with contextlib.suppress(NotSupported), lab.built(topology(ways)) as net:
        compare(net, ways, plan(ways, seed), tracer, f"PMTUTRACE_SEED={seed}")
        return
    assert not kernel.known or kernel.may_skip("gre-v4-udp-forward")
    ways = VXLANS
    with lab.built(topology(ways)) as net:
        compare(net, ways, plan(ways, seed), tracer, f"PMTUTRACE_SEED={seed}")


def kernel_says(net: lab.Net, ways: tuple[Way, ...]) -> dict[str, int]:
    """Return what the kernel has counted of all that a plan speaks of."""
    r, b = net["r"].counters(), net["b"].counters()
    found = {"told": told(net), "FragFails": r["IpFragFails"] + r["Ip6FragFails"]}
    for way in ways:
        for column in ("tx_errors", "tx_dropped", "tx_packets"):
            found[f"{way.dev}:{column}"] = r[f"{way.dev}:{column}"]
        found[f"{way.dev}:rx_packets"] = b[f"{way.dev}:rx_packets"]
    return found


def kernel_must_say(made: Plan, ways: tuple[Way, ...]) -> dict[str, int]:
    """Return what the kernel must have counted in the end."""
    total = made.packets.total()
    wanted = {"told": total, "FragFails": total - made.inside.total()}
    for way in ways:
        dev, outside = way.dev, made.outside[way.dev]
        # On IPv6 an outer packet that is refused is an error of the tunnel's.
        errors = outside if way.under == 6 else 0
        wanted[f"{dev}:tx_errors"] = made.inside[dev] + errors
        wanted[f"{dev}:tx_dropped"] = outside - errors
        wanted[f"{dev}:tx_packets"] = wanted[f"{dev}:rx_packets"] = made.arrive[dev]
    return wanted


def compare(net: lab.Net, ways: tuple[Way, ...], made: Plan, tracer, seed: str) -> None:
    """Send all of a plan and hold our counters, and the kernel's, against it."""
    tracer.refresh()
    before, wanted = tracer.counters(), kernel_must_say(made, ways)
    send(net, made)
    said = until(
        lambda: kernel_says(net, ways),
        lambda seen: all(seen[name] >= wanted[name] for name in seen),
    )
    found, octets, others = counted(net, ways, since(before, tracer.counters()))
    assert said == wanted, seed
    assert not others, seed
    assert found == made.packets, seed
    assert octets == made.octets, seed
