"""Path MTU exceptions are those that the kernel has, however they came, changed and went."""

import contextlib
import ipaddress
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pmtutrace import lab
from pmtutrace.events import ENDS
from pmtutrace.lab import Port, Route, Topology, Tunnel, Veth
from pmtutrace.pmtu.watch import Watch

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]
COMMAND = (sys.executable, "-m", "pmtutrace.cli.main", "pmtu")
WITHIN_S = 20.0
STEPS = 200
SEED = int(os.environ.get("PMTUTRACE_SEED", "2015"))
PMTUDISC_PROBE = 3  # linux/in.h
LENGTH = 1400  # fits every device of the sender
TARGETS = {
    v: [p.format(n) for n in range(1, 7)] for v, p in {4: "10.77.2.{}", 6: "fd77:2::{}"}.items()
}
PREFIX = {4: "10.77.2.0/24", 6: "fd77:2::/64"}
# Gateways of the sender by the two routers' names.
GATES = {4: {"r": "10.77.1.254", "s": "10.77.4.254"}, 6: {"r": "fd77:1::fe", "s": "fd77:4::fe"}}
WAYS = ("r", "s", "rs")  # by one router, by the other, by both
TOPOLOGY = Topology(
    veths=(
        Veth(
            (
                Port("a", "a0", ("10.77.1.1/24", "fd77:1::1/64")),
                Port("r", "ra", ("10.77.1.254/24", "fd77:1::fe/64")),
            )
        ),
        Veth(
            (
                Port("a", "a1", ("10.77.4.1/24", "fd77:4::1/64")),
                Port("s", "sa", ("10.77.4.254/24", "fd77:4::fe/64")),
            )
        ),
        Veth(
            (
                Port("r", "rb", ("10.77.2.254/24", "fd77:2::fe/64")),
                Port(
                    "b",
                    "b0",
                    (*(f"{t}/24" for t in TARGETS[4]), *(f"{t}/64" for t in TARGETS[6])),
                ),
            )
        ),
        Veth(
            (
                Port("s", "sb", ("10.77.5.254/24", "fd77:5::fe/64")),
                Port("b", "b1", ("10.77.5.1/24", "fd77:5::1/64")),
            )
        ),
    ),
    routes=(
        Route("a", PREFIX[4], via=GATES[4]["r"]),
        Route("a", PREFIX[6], via=GATES[6]["r"]),
        Route("s", PREFIX[4], via="10.77.5.1"),
        Route("s", PREFIX[6], via="fd77:5::1"),
    ),
    routers=("r", "s"),
)


@pytest.fixture
def net():
    with lab.built(TOPOLOGY) as net:
        yield net


@pytest.fixture
def watch(net):
    """A watch over the sender's namespace that has seen that there is nothing yet."""
    with Watch({net["a"].inum}) as watch:
        assert watch.look() == []
        yield watch


def ip(node, *words):
    return node.run(
        lambda: subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
    )


def awaited(condition):
    """Wait for what must come to pass; return what the condition then gives."""
    end = time.monotonic() + WITHIN_S
    pause = threading.Event()
    while not (found := condition()) and time.monotonic() < end:
        pause.wait(0.02)
    assert found, "it did not come to pass"
    return found


def provoke(net, family, target, mtu):
    """Have both routers refuse a packet to a target, and the sender hear of it."""
    version = [f"-{family}"]
    gates = {"r": ["dev", "rb"], "s": ["via", "10.77.5.1" if family == 4 else "fd77:5::1"]}
    for router, way in gates.items():
        ip(net[router], *version, "route", "replace", target, *way, "mtu", "lock", str(mtu))
    return net["a"].run(lambda: refused(family, target))


def refused(family, target):
    """Send one packet that no router takes; say if the news arrived."""
    if family == 4:
        kind, level, header = socket.AF_INET, socket.IPPROTO_IP, 28
        discover, receive = 10, 11  # IP_MTU_DISCOVER, IP_RECVERR
    else:
        kind, level, header = socket.AF_INET6, socket.IPPROTO_IPV6, 48
        discover, receive = 23, 25
    with socket.socket(kind, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(level, discover, PMTUDISC_PROBE)
        sender.setsockopt(level, receive, 1)
        sender.connect((target, 9))
        sender.send(bytes(LENGTH - header))
        heard = select.poll()
        heard.register(sender, select.POLLERR)
        return bool(heard.poll(WITHIN_S * 1000))


def lifetime(node, family, seconds):
    """Set how long a new exception lives, in the namespace or, on old kernels, everywhere."""
    path = Path(f"/proc/sys/net/ipv{family}/route/mtu_expires")
    try:
        node.run(lambda: path.write_text(f"{seconds}\n"))
    except FileNotFoundError:
        path.write_text(f"{seconds}\n")


SHOW = ("-o", "route", "show", "table", "all", "cache")  # without a table, only those of "main"
ROW = re.compile(
    r"(?P<daddr>\S+) (?:from (?P<saddr>\S+) )?(?:via (?:inet6 )?(?P<gateway>\S+) )?"
    r"dev (?P<dev>\S+) .*?(?:expires (?P<expires>\d+)sec )?(?:mtu (?P<lock>lock )?(?P<mtu>\d+))?"
    r"(?: pref \w+)?\s*$"
)


def shown(node):
    """Return what iproute2 says: exceptions without their end, and the seconds to the first end."""
    rows, least = set(), 1e9
    for family in (4, 6):
        for line in ip(node, f"-{family}", *SHOW).splitlines():
            row = ROW.match(line)
            assert row, line
            if not row["mtu"]:
                continue  # IPv4 in the very tick in which it expires
            what = row["daddr"], row["saddr"], row["gateway"], row["dev"]
            rows.add((family, *what, int(row["mtu"]), bool(row["lock"])))
            least = min(least, int(row["expires"] or 0))  # nothing in its last instant
    return rows, least


class Stream:
    """The table that whoever reads nothing but the changes comes to."""

    def __init__(self):
        self.table = {}
        self.last = 0

    def take(self, changes):
        for change in changes:
            assert change.ts >= self.last - 50_000_000, "changes are not in order of time"
            self.last = max(self.last, change.ts)
            assert change.via == "unknown"
            where = change.family, change.daddr, change.saddr, change.gateway, change.dev
            key = *where, change.table
            before = self.table.pop(key, None)
            assert change.old == (before and before[0]), change
            assert (change.old is None) == (change.change == "created")
            assert (change.new is None) == (change.change in ENDS)
            if change.new is not None:
                self.table[key] = change.new, change.locked

    def rows(self):
        return {(*key[:-1], *value) for key, value in self.table.items()}


def held(watch):
    return {
        (
            k.item.family,
            k.item.daddr,
            k.item.saddr,
            k.item.gateway,
            k.dev,
            k.item.mtu,
            k.item.locked,
        )
        for _, k in watch.now()
    }


def words(changes):
    return {change.change for change in changes}


class Actions:
    """What may befall a namespace, at random."""

    def __init__(self, net, watch, stream, dice):
        self.net, self.watch, self.stream, self.dice = net, watch, stream, dice
        self.node = net["a"]
        self.done = {}

    def step(self):
        weights = {
            self.news: 10,
            self.flush: 2,
            self.expiry: 1,
            self.route: 2,
            self.own_table: 1,
            self.device: 2,
        }
        (action,) = self.dice.choices(list(weights), list(weights.values()))
        self.done[action.__name__] = self.done.get(action.__name__, 0) + 1
        return action()

    def look(self):
        self.stream.take(changes := self.watch.look())
        return changes

    def any_target(self):
        family = self.dice.choice((4, 6))
        return family, self.dice.choice(TARGETS[family])

    def news(self):
        family, target = self.any_target()
        mtu = self.dice.randint(300 if family == 4 else 1280, LENGTH - 1)
        assert provoke(self.net, family, target, mtu)
        return "news", family, target, mtu

    def flush(self):
        family = self.dice.choice((4, 6))
        ip(self.node, f"-{family}", "route", "flush", "cache")
        return "flush", family

    def expiry(self):
        family, target = self.any_target()
        lifetime(self.node, family, 1)
        try:
            provoke(self.net, family, target, self.dice.randint(1280, LENGTH - 1))
            self.look()
            awaited(lambda: shown(self.node)[1] > 2)
        finally:
            lifetime(self.node, family, 600)
        return "expiry", family, target

    def route(self):
        family, way = self.dice.choice((4, 6)), self.dice.choice(WAYS)
        legs = [word for gate in way for word in ("nexthop", "via", GATES[family][gate])]
        ip(self.node, f"-{family}", "route", "replace", PREFIX[family], *legs)
        return "route", family, way

    def own_table(self):
        family, target = self.any_target()
        if f"to {target}" not in ip(self.node, f"-{family}", "rule"):
            ip(self.node, f"-{family}", "rule", "add", "to", target, "table", "100")
        gate = GATES[family][self.dice.choice("rs")]
        ip(self.node, f"-{family}", "route", "replace", target, "via", gate, "table", "100")
        return "own table", family, target, gate

    def device(self):
        dev, mtu = self.dice.choice(("a0", "a1")), self.dice.choice((LENGTH, 1450, 1500))
        ip(self.node, "link", "set", dev, "mtu", str(mtu))
        return "device", dev, mtu


def test_after_each_of_many_random_actions_it_is_what_iproute2_shows(net, watch):
    stream = Stream()
    actions = Actions(net, watch, stream, random.Random(SEED))  # noqa: S311 -- dice
    seen, most = set(), 0
    for number in range(STEPS):
        action = actions.step()
        changes = actions.look()
        there, _ = shown(net["a"])
        assert held(watch) == there, (SEED, number, action)
        assert stream.rows() == there, (SEED, number, action, changes)
        seen |= words(changes)
        most = max(most, len(there))
    # A test that never saw anything cannot have found anything.
    assert {"created", "lowered", "flushed"} <= seen
    assert most >= 6
    assert len(actions.done) == 6
    print(
        f"{STEPS} actions {actions.done}, up to {most} exceptions at once, changes: {sorted(seen)}"
    )


@pytest.mark.parametrize("family", [4, 6])
class TestWords:
    def test_created_lowered_flushed(self, net, watch, family):
        first, second = TARGETS[family][:2]
        assert provoke(net, family, first, 1390)
        (change,) = watch.look()
        assert (change.change, change.daddr, change.old, change.new) == (
            "created",
            first,
            None,
            1390,
        )
        assert (change.dev, change.gateway, change.table) == ("a0", GATES[family]["r"], 254)
        assert change.netns == net["a"].inum
        assert 590 < change.expires <= 600
        assert 0 <= time.time_ns() - change.ts < WITHIN_S * 1e9
        assert provoke(net, family, second, 1350)
        assert words(watch.look()) == {"created"}
        assert provoke(net, family, first, 1300)
        (change,) = watch.look()
        assert (change.change, change.daddr, change.old, change.new) == (
            "lowered",
            first,
            1390,
            1300,
        )
        assert watch.look() == []
        ip(net["a"], f"-{family}", "route", "flush", "cache")
        changes = watch.look()
        assert {(c.change, c.daddr, c.old, c.new) for c in changes} == {
            ("flushed", first, 1300, None),
            ("flushed", second, 1350, None),
        }

    def test_expired_with_the_time_at_which_it_did(self, net, watch, family):
        node = net["a"]
        lifetime(node, family, 1)
        try:
            began = time.time_ns()
            assert provoke(net, family, TARGETS[family][0], 1390)
            ended = time.time_ns()
            (created,) = watch.look()
            awaited(lambda: not shown(node)[0])
            (change,) = watch.look()
        finally:
            lifetime(node, family, 600)
        late = 50_000_000
        assert began - late <= created.ts <= ended + late
        assert change.change == "expired"
        assert began + 1e9 - late <= change.ts <= ended + 1e9 + late
        assert change.expires == 0

    def test_only_ipv4_gives_time_anew(self, net, watch, family):
        node, target = net["a"], TARGETS[family][0]
        assert provoke(net, family, target, 1390)
        watch.look()
        lifetime(node, family, 900)
        try:
            assert provoke(net, family, target, 1300)
            (change,) = watch.look()
        finally:
            lifetime(node, family, 600)
        assert change.change == "lowered"
        assert (change.expires > 600) == (family == 4)

    def test_a_route_that_goes_takes_its_own_along(self, net, watch, family):
        node, (first, second) = net["a"], TARGETS[family][:2]
        ip(node, f"-{family}", "route", "add", second, "via", GATES[family]["s"])
        assert watch.look() == []
        for target in (first, second):
            assert provoke(net, family, target, 1390)
        assert words(watch.look()) == {"created"}
        ip(node, f"-{family}", "route", "del", second)
        (change,) = watch.look()
        assert (change.change, change.daddr, change.dev) == ("removed", second, "a1")

    def test_legs_of_a_multipath_route(self, net, watch, family):
        node = net["a"]
        legs = [word for gate in "rs" for word in ("nexthop", "via", GATES[family][gate])]
        ip(node, f"-{family}", "route", "replace", PREFIX[family], *legs)
        watch.look()
        for target in TARGETS[family]:
            assert provoke(net, family, target, 1390)
        changes = watch.look()
        assert words(changes) == {"created"}
        # Which legs learn of it hangs on the kernel and on the hash.
        assert {c.gateway for c in changes} <= set(GATES[family].values())
        assert held(watch) == shown(node)[0]


def test_locked_is_said_of_what_is_below_the_least(net, watch):
    assert provoke(net, 4, TARGETS[4][0], 500)
    (change,) = watch.look()
    assert (change.change, change.new, change.locked) == ("created", 552, True)


def test_a_namespace_that_goes_takes_all_along():
    with Watch() as watch:
        watch.look()
        with lab.built(TOPOLOGY) as net:
            inum = net["a"].inum
            assert provoke(net, 4, TARGETS[4][0], 1390)

            def ours():
                watch.wait()
                return [c for c in watch.look() if c.netns == inum]

            assert words(awaited(ours)) == {"created"}
        # Its cables may go before it, and be seen to.
        assert words(awaited(ours)) <= {"removed", "gone"}


@contextlib.contextmanager
def following(*options):
    child = subprocess.Popen(
        [*COMMAND, "--watch", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


class TestVerb:
    @pytest.fixture
    def tunnelled(self):
        ends = (
            Port("a", "x0", ("172.16.0.1/24",), None),
            Port("b", "x1", ("172.16.0.2/24",), None),
        )
        vxlan = Tunnel("vxlan", ends, ("10.77.1.1", TARGETS[4][0]), key=7)
        with lab.built(TOPOLOGY.having(tunnels=(vxlan,))) as net:
            yield net

    def run(self, *words, **how):
        return subprocess.run(
            [*COMMAND, *words], capture_output=True, text=True, check=False, **how
        )

    def test_lists_what_there_is(self, tunnelled):
        assert provoke(tunnelled, 4, TARGETS[4][0], 500)
        assert provoke(tunnelled, 6, TARGETS[6][3], 1300)
        name = tunnelled["a"].name
        done = self.run("--netns", name, "-j")
        assert (done.returncode, done.stderr) == (0, "")
        first, second = (json.loads(line) for line in done.stdout.splitlines())
        assert first["type"] == "exception"
        assert (first["netns"], first["daddr"], first["mtu"]) == (name, TARGETS[4][0], 552)
        assert first["locked"] is True
        assert first["tunnels"] == [{"name": "x0", "type": "vxlan", "mtu": 502}]
        assert first["age"] + first["expires"] == pytest.approx(600, abs=0.02)
        assert (second["daddr"], second["mtu"], second["tunnels"]) == (TARGETS[6][3], 1300, [])
        done = self.run("--netns", name)
        header, one, two = done.stdout.splitlines()
        for word, cell in (("VIA", "10.77.1.254"), ("DEV", "a0"), ("LOCK", "lock")):
            assert one.index(cell) == header.index(word), done.stdout
        assert one.endswith("x0 502")
        assert ipaddress.ip_address(two.split()[1]) == ipaddress.ip_address(TARGETS[6][3])
        assert len(self.run("-6", "--netns", name, "-j").stdout.splitlines()) == 1

    def test_nothing_is_said_where_there_is_nothing(self, net):
        done = self.run("--netns", net["a"].name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_follows_what_happens(self, tunnelled):
        name, target = tunnelled["a"].name, TARGETS[4][0]
        assert provoke(tunnelled, 4, target, 1390)
        with following("-j", "--netns", name) as child:
            assert json.loads(child.stdout.readline())["type"] == "exception"
            assert provoke(tunnelled, 4, target, 1300)
            line = json.loads(child.stdout.readline())
            assert (line["type"], line["change"], line["netns"]) == ("pmtu", "lowered", name)
            assert (line["old"], line["new"], line["via"]) == (1390, 1300, "unknown")
            assert line["tunnels"] == [{"name": "x0", "type": "vxlan", "mtu": 1250}]
            ip(tunnelled["a"], "route", "flush", "cache")
            assert json.loads(child.stdout.readline())["change"] == "flushed"
            child.send_signal(signal.SIGINT)
            assert child.wait(WITHIN_S) == 0
            assert child.stderr.read() == ""

    def test_of_an_unknown_namespace(self):
        done = self.run("--netns", "nowhere")
        assert done.returncode == 2
        assert "hint:" in done.stderr

    def test_not_as_root(self, net):
        """The own namespace can be seen by anybody."""
        node = net["a"]
        assert provoke(net, 4, TARGETS[4][0], 1390)
        done = node.run(lambda: self.run("-j", user=65534, env={**os.environ, "HOME": "/"}))
        assert done.returncode == 0
        (line,) = (json.loads(line) for line in done.stdout.splitlines())
        assert (line["daddr"], line["mtu"]) == (TARGETS[4][0], 1390)
        assert "run it as root" in done.stderr
        done = self.run("--netns", node.name, user=65534)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Traceback" not in done.stderr
