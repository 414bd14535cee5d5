"""What is told of path MTUs adds up to what iproute2 shows, after each of many random actions.

The kernel's own word, where it gives one, messages that are heard where not, and dumps: all
together, as whoever traces has them.
"""

import os
import random
import socket
import struct

import pytest

from pathmtus import Actions, Stream, agreed, asked, held, rows_of, shown
from pmtutrace import lab
from pmtutrace.events import PathMtuChange
from pmtutrace.lab import packets
from pmtutrace.pmtu import watch as pmtu_watch
from pmtutrace.pmtu.watch import Watch
from pmtutrace.tracing.tracer import Settings, Tracer
from routers import GATES, TARGETS, TOPOLOGY, awaited, ip, provoke

pytestmark = [pytest.mark.live, pytest.mark.timeout(1800)]
# Beside other suites, under emulation, a step takes ten times as long.
STEPS = int(os.environ.get("PMTUTRACE_STEPS", "60" if "PMTUTRACE_SHARE" in os.environ else "200"))
SEED = int(os.environ.get("PMTUTRACE_SEED", "2015"))


SENDER, OTHER_GATE = "10.77.1.1", "10.77.1.253"


@pytest.fixture
def followed(monkeypatch):
    """A lab, how its sender's path MTUs have changed since last asked, a watch over them.

    And whether the kernel tells of them as they are set.
    """
    monkeypatch.setattr(pmtu_watch, "LOOK_SHARE", 1.0)
    with lab.built(TOPOLOGY) as net, Tracer(Settings()) as tracer:
        watch = Watch({net["a"].inum}, listen=not tracer.tells("received"), every_s=0.0)
        tracer.follow(watch)

        def changes():
            # What the kernel tells of is asked for, and so shown, at the next look.
            found = [event for _ in range(2) for event in tracer.poll()]
            return [event for event in found if isinstance(event, PathMtuChange)]

        yield net, changes, watch, tracer.tells("path")


def test_after_each_of_many_random_actions_it_is_what_iproute2_shows(followed):
    net, changes, watch, told = followed
    stream = Stream({"icmp", "unknown", "administrator"})
    actions = Actions(net, changes, stream, random.Random(SEED))  # noqa: S311 -- dice
    seen, most, most_hidden = set(), 0, 0
    for number in range(STEPS):
        action = actions.step()
        there, found = agreed(actions, watch)
        hidden, answers, unfounded, more = checked(actions, watch)
        where = SEED, number, action, found, more
        if more:  # by what was collected meanwhile
            there, found = shown(net["a"])[0], found + more
        assert held(watch) == there, where
        assert stream.rows() == there | hidden, where
        # What the kernel told of and does not list, it has nevertheless, and nothing else.
        assert not unfounded, where
        assert not told or answers <= there | hidden, where
        seen |= {(change.change, change.via) for change in found}
        most, most_hidden = max(most, len(there)), max(most_hidden, len(hidden))
    assert {("created", "icmp"), ("lowered", "icmp")} <= seen
    assert "administrator" in {via for _, via in seen}
    assert most >= 6
    print(
        f"{STEPS} actions {actions.done}, up to {most} at once and {most_hidden} that are not"
        f" listed, {sorted(seen)}"
    )


def checked(actions, watch):
    """Return what is held but not listed, all that iproute2 answers, and what it does not.

    And the changes that showed meanwhile: IPv6 collects by its own clock here, too.
    """
    changes = []
    for _ in range(3):
        hidden = rows_of(k for k in watch.history.known(actions.node.inum) if not k.shown)
        answers, _, elsewhere = asked(actions.node)
        unasked = {row for row in hidden if row[0] == 6 and (row[1], row[4]) in elsewhere}
        unfounded = hidden - unasked - answers
        if not unfounded:
            break
        changes += actions.look()
    return hidden, answers, unfounded, changes


def test_a_redirect_takes_a_path_mtu_along(followed):
    net, changes, watch, _ = followed
    node, target = net["a"], TARGETS[4][0]
    assert provoke(net, 4, target, 1390)
    (created,) = changes()
    assert (created.gateway, created.router) == (GATES[4]["r"], GATES[4]["r"])
    ip(net["r"], "address", "add", f"{OTHER_GATE}/24", "dev", "ra")
    # The kernel follows no redirect to a neighbour that it does not know.
    link = ip(net["r"], "-o", "link", "show", "ra").partition("link/ether ")[2].split()[0]
    ip(node, "neigh", "replace", OTHER_GATE, "lladdr", link, "dev", "a0")
    net["r"].run(lambda: redirect(target))
    awaited(lambda: OTHER_GATE in ip(node, "route", "get", target))
    gone, moved = changes()
    assert (gone.change, gone.gateway, gone.old) == ("gone", GATES[4]["r"], 1390)
    assert (moved.change, moved.gateway, moved.new) == ("created", OTHER_GATE, 1390)
    assert (moved.via, gone.via) == ("redirect", "unknown")
    assert 290 < moved.expires <= 301
    assert provoke(net, 4, target, 1300)
    (lowered,) = changes()
    assert (lowered.change, lowered.gateway, lowered.new) == ("lowered", OTHER_GATE, 1300)
    assert watch.history.unmet(node.inum) == []


def redirect(target):
    """Lead the sender's packets to a target to the other gateway: as about an echo reply."""
    quoted = packets.ip_header(SENDER, target, socket.IPPROTO_ICMP, 8) + bytes(8)
    message = struct.pack("!BBH4s", 5, 1, 0, socket.inet_aton(OTHER_GATE)) + quoted
    total = struct.pack("!H", ~packets.checksum(message) & 0xFFFF)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(message[:2] + total + message[4:], (SENDER, 0))
