"""Path MTU exceptions are those that the kernel has, however they came, changed and went."""

import contextlib
import ipaddress
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from pathmtus import Actions, Stream, agreed, held, shown, words
from pmtutrace import lab
from pmtutrace.lab import Port, Tunnel
from pmtutrace.pmtu.watch import Watch
from routers import (
    GATES,
    PREFIX,
    TARGETS,
    TOPOLOGY,
    WITHIN_S,
    awaited,
    ip,
    lifetime,
    provoke,
    refused,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]
COMMAND = (sys.executable, "-m", "pmtutrace.cli.main", "pmtu")
STEPS = 200
SEED = int(os.environ.get("PMTUTRACE_SEED", "2015"))


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


def test_after_each_of_many_random_actions_it_is_what_iproute2_shows(net, watch):
    stream = Stream()
    actions = Actions(net, watch.look, stream, random.Random(SEED))  # noqa: S311 -- dice
    seen, all_of_them, most = set(), [], 0
    for number in range(STEPS):
        action = actions.step()
        there, changes = agreed(actions, watch)
        assert held(watch) == there, (SEED, number, action)
        assert stream.rows() == there, (SEED, number, action, changes)
        seen |= words(changes)
        all_of_them += changes
        most = max(most, len(there))
    # A test that never saw anything cannot have found anything.
    assert {"created", "lowered", "flushed"} <= seen
    assert most >= 6
    assert len(actions.done) == 7
    assert "administrator" in {change.via for change in all_of_them}
    print(
        f"{STEPS} actions {actions.done}, up to {most} exceptions at once, changes: {sorted(seen)}"
    )


def is_new(change, lifetime_s):
    """Return whether an exception that was read later than it was set has its life before it.

    The kernel counts what is left from its last tick on: when it was read, not when we began to
    read, and up to a tick too much.
    """
    return lifetime_s - 10 < change.expires < lifetime_s + 1


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
        assert is_new(change, 600)
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
        lifetime(node, family, 5)
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
        assert began + 5e9 - late <= change.ts <= ended + 5e9 + late
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
        assert is_new(change, {4: 900, 6: 600}[family])

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

        def learned():
            for target in TARGETS[family]:
                assert provoke(net, family, target, 1390)
            return watch.look()

        # Which legs learn of it hangs on the kernel and on the hash, of each socket anew; of IPv6,
        # a dump has what was learned of the first leg only.
        changes = awaited(learned)
        assert words(changes) == {"created"}
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

    @pytest.mark.parametrize(("mtu", "inside"), [(1300, 1250), (500, 552)])
    def test_says_what_a_tunnel_has_set(self, tunnelled, mtu, inside):
        """As it sends, whether anybody hears of it or not."""
        node = tunnelled["a"]
        assert provoke(tunnelled, 4, TARGETS[4][0], mtu)
        node.run(lambda: refused(4, "172.16.0.2", 0))
        ip(node, "route", "get", "172.16.0.2")  # shown once somebody has asked
        lines = map(json.loads, self.run("--netns", node.name, "-j").stdout.splitlines())
        found = {line["daddr"]: (line["mtu"], line["origin"]) for line in lines}
        assert found["172.16.0.2"] == (inside, "tunnel")
        assert found[TARGETS[4][0]][1] is None

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
            assert (line["type"], line["outcome"], line["mtu"]) == (
                "icmp_received",
                "applied",
                1300,
            )
            line = json.loads(child.stdout.readline())
            assert (line["type"], line["change"], line["netns"]) == ("pmtu", "lowered", name)
            assert (line["old"], line["new"], line["via"]) == (1390, 1300, "icmp")
            assert (line["from"], line["quoted"]["daddr"]) == (GATES[4]["r"], target)
            assert (line["quoted"]["proto"], line["quoted"]["dport"]) == ("udp", 9)
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
