"""What is found in a session is what was found while it was recorded."""

import dataclasses
import json

import pytest
import world as worlds
from test_findings import FOUND, NEAR

from pmtutrace.diagnosis import Collector
from pmtutrace.report import build
from pmtutrace.session import schema
from pmtutrace.session.reader import Reader
from pmtutrace.session.writer import Delta, Second, Writer

MAKERS = {make.__name__: make for makes in (*FOUND.values(), *NEAR.values()) for make in makes}
HEARTBEAT = 60 * worlds.SECOND


class Keeping(Collector):
    """Keeps what it takes."""

    def __init__(self, *words):
        super().__init__(*words)
        self.events, self.states = [], []

    def take(self, event):
        self.events.append(event)
        super().take(event)

    def standing(self, netns, ts, item, dev):
        self.states.append(schema.ExceptionThere(ts, netns, dev, item))
        super().standing(netns, ts, item, dev)


def deltas(world):
    """Return what counters moved by at their first and at their last packet."""
    first, last = [], []
    for key, counter in (*world.counters.items(), *world.fragments.items()):
        counted = schema.Counted(key, "gre1", None)
        each = counter.bytes // counter.packets
        tail = counter.max_length, counter.mtu
        if counter.packets > 1:
            first.append(Delta(counted, 1, each, *tail, counter.first))
        rest = counter.packets - len(first[-1:]) * (counter.packets > 1)
        octets = counter.bytes - each * (counter.packets > 1)
        last.append(Delta(counted, rest, octets, *tail, counter.last))
    return first, last


def record(world, path):
    """Write what a recorder would have written: all events, and a sign of life each minute."""
    manifest = {"host": "edge", "boot_id": "b", "session": path.name, "began": worlds.START}
    writer = Writer(path, manifest)
    start, space = worlds.START, worlds.SPACE
    for state in (
        schema.Space(start, space, "edge"),
        *(schema.TunnelThere(start, tunnel) for tunnel in world.tunnels),
        *world.collector.states,
        schema.Around(start, space, json.dumps(world.around.json())),
    ):
        writer.state(state)
    for event in world.collector.events:
        writer.add(event)
    first, last = deltas(world)
    for ts in range(start, world.end, HEARTBEAT):
        writer.commit(Second(ts, ts, 0, tuple(first)))
        first = []
    writer.commit(Second(world.end, world.end, 0, tuple(last)))
    writer.close(ended=world.end)


@pytest.mark.parametrize("name", MAKERS)
def test_findings(name, tmp_path, monkeypatch):
    monkeypatch.setattr(worlds, "Collector", Keeping)
    world = MAKERS[name]()
    world.probes.clear()  # a recorder makes none
    record(world, tmp_path / "s")
    with Reader(tmp_path / "s") as reader:
        report = build.build([reader])
        assert reader.damaged == 0
    wanted = [dataclasses.asdict(finding) for finding in world.findings()]
    assert [dataclasses.asdict(finding) for finding in report.findings] == wanted
    assert report.case.senders == world.case().senders
    assert report.totals["drops"] == sum(c.packets for c in world.counters.values())
