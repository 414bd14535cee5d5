"""Findings while a recording goes on, looked for by the real child in sessions made up."""

import os
import select
import sys
import time

import pytest

from pmtutrace.cli import lookout
from pmtutrace.events import Flow
from pmtutrace.session.recorder import Status
from pmtutrace.session.writer import Writer
from recorded import HOLDS, MANIFEST, counted, moved, second

SILENT = counted("suppressed", Flow("10.9.0.9", "10.77.2.1", 6, 1, 443), cause="no_route_back")


class Recorded:
    """A session that grows, and all that was told of it."""

    def __init__(self, path):
        self.told, self.said = [], []
        self.lookout = lookout.Lookout(self.tell, self.said.append)
        self.status = Status()
        self.begin(path)

    def begin(self, path):
        boot = {"boot_id": "b", "session": path.name}
        self.writer = Writer(path, MANIFEST | boot)
        self.status.path = path
        self.seconds = 0

    def tell(self, finding, session):
        self.told.append((finding["id"], finding["severity"], session.name))

    def second(self, *deltas):
        self.seconds += 1
        self.writer.commit(second(self.seconds, *deltas))
        self.status.events += 1

    def tick(self):
        """Tick until a look is over, if one was due."""
        self.lookout.tick(self.status)
        deadline = time.monotonic() + 60
        while self.lookout._child is not None:
            assert time.monotonic() < deadline
            select.select([], [], [], 0.02)
            self.lookout.tick(self.status)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(lookout, "EVERY_S", 0)
    monkeypatch.setattr(lookout, "SHARE", 1e9)
    recorded = Recorded(tmp_path / "first")
    yield recorded
    recorded.lookout.close(recorded.status)
    recorded.writer.close()


def test_each_finding_is_told_once_over_rotations_and_anew_when_it_was_gone(recorded, tmp_path):
    recorded.second(moved(7))
    recorded.tick()
    assert recorded.told == []
    recorded.second(moved(23, SILENT))
    recorded.tick()
    (told,) = recorded.told
    recorded.second(moved(23, SILENT))
    recorded.tick()
    recorded.begin(tmp_path / "second")
    recorded.second(moved(7))
    recorded.tick()
    assert recorded.told == [told]
    for name in ("third", "fourth"):
        recorded.begin(tmp_path / name)
        recorded.second(moved(7))
        recorded.tick()
    assert recorded.told == [told]
    recorded.second(moved(23, SILENT))
    recorded.tick()
    assert recorded.told == [told, (*told[:2], "fourth")]
    assert recorded.said == []


def test_nobody_looks_while_nothing_happens(recorded, monkeypatch):
    recorded.second(moved(23, SILENT))
    recorded.tick()
    before = recorded.lookout._began
    recorded.tick()
    assert recorded.lookout._began == before
    monkeypatch.setattr(lookout, "EVERY_S", 3600)
    recorded.second(moved(23, SILENT))
    recorded.tick()
    recorded.second(moved(23, SILENT))
    after = recorded.lookout._began
    assert after > before
    recorded.tick()
    assert recorded.lookout._began == after


def test_the_end_brings_what_is_new(recorded, monkeypatch):
    monkeypatch.setattr(lookout, "EVERY_S", 3600)
    monkeypatch.setattr(lookout, "LAST_S", 60)  # it is nice to whoever else is busy
    recorded.second(moved(7))
    recorded.tick()
    recorded.second(moved(23, SILENT))
    recorded.lookout.tick(recorded.status)
    assert recorded.told == []
    recorded.writer.close()
    recorded.lookout.close(recorded.status)
    assert len(recorded.told) == 1


def test_who_reads_a_session_lets_go_of_it_before_it_is_closed(recorded, monkeypatch):
    def module(_name, *words):
        return [sys.executable, "-c", HOLDS, words[-1]], dict(os.environ)

    recorded.second(moved(7))
    with monkeypatch.context() as patched:
        patched.setattr(lookout.paths, "module", module)
        recorded.lookout.tick(recorded.status)
    while not os.fstat(recorded.lookout._out.fileno()).st_size:
        select.select([], [], [], 0.02)
    recorded.lookout.let_go()
    recorded.writer.close()
    assert recorded.writer.single
    recorded.tick()  # and looks again
    assert recorded.said == []


def test_a_look_that_fails_is_said_once_and_tried_again(recorded, tmp_path):
    recorded.status.path = tmp_path / "none"
    for _ in range(2):
        recorded.status.events += 1
        recorded.tick()
    assert len(recorded.said) == 1
    assert "cannot be looked for" in recorded.said[0]
    recorded.status.path = tmp_path / "first"
    recorded.lookout._sessions = ()
    recorded.second(moved(23, SILENT))
    recorded.tick()
    assert len(recorded.told) == 1


def test_a_flood_is_cut(recorded, monkeypatch):
    monkeypatch.setattr(lookout, "AT_ONCE", 0)
    recorded.second(moved(23, SILENT))
    recorded.tick()
    assert recorded.told == []
    (said,) = recorded.said
    assert said.startswith("1 more findings: pmtutrace report ")
