"""The morning after: the incident is recorded, and its report held against what the lab measured.

It happens over GRE where the kernel has that, else over VXLAN.
"""

import contextlib
import json
import re
import select
import sqlite3
import time
from datetime import UTC, datetime

import pytest
from traced import COMMAND, Trace, run

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]
CYCLES, CUT_AFTER = 10, 5
# A path MTU is believed for longer than in `demo`: where no program tells of each step of a slide,
# the collapse is first seen when that has come to its end.
PERIOD_S, LIFETIME_S = 6, 3
WITHIN = 0.1
# What path MTUs are is looked at once a second, and a busy host is late.
MOMENT_S = 2.0
LATE_S = 0.5
ENDS_WITHIN_S = 240
ADDRESS = re.compile(r"^\| `([\d.]+)` \| `[^`]+` \| (told[^|]*?|never told) \| (\d+) \|", re.M)
SITE = re.compile(r"^\| `(\w+)` \| \w+ \|[^|]*\| (\d+) \|$", re.M)
RHYTHM = re.compile(
    r"fell every ([\d.]+) s, to (\d+) octets at the least, for ([\d.]+) s each time: ([\d.]+)%"
)
TIMES = re.compile(
    r"It was low (\d+) times, first seen so at (\S+ \S+) UTC and last at (\S+ \S+) UTC"
)
HOSTS = re.compile(
    r"Affected hosts: (\d+) \(told, and followed: (\d+); "
    r"told, and went on all the same: (\d+); never told: (\d+)\)"
)
# Others may have a lab on this host, and inodes of namespaces are used again.
OURS = ("--host", "10.1.0.0/16", "--host", "198.51.100.1", "--host", "203.0.113.1")


class Night:
    """A recorder around the incident, and what the lab says of that in the end."""

    def __init__(self, folder, cycles):
        self.path, self.said = folder / "night.pmtu", folder / "lab.json"
        words = (*COMMAND, "lab", "incident", "-j", "--cycles", str(cycles))
        words += ("--period", str(PERIOD_S), "--lifetime", str(LIFETIME_S))
        into = f"exec {' '.join(words)} >{self.said}"
        words = ("-w", str(self.path), *OURS, "--", "sh", "-c", into)
        self.trace = Trace(*words, text=True, verb="record")

    def wait(self, done):
        end = time.monotonic() + ENDS_WITHIN_S
        while not done():
            assert time.monotonic() < end, self.trace.stderr
            select.select([], [], [], 0.05)

    @property
    def truth(self):
        return json.loads(self.said.read_text())

    def report(self, *words):
        """Return what `report` says of edge, and of nothing that others do on this host."""
        done = run("report", "--netns", self.truth["netns"], str(self.path), *words)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def committed(self):
        """Return up to when the session goes so far, to the millisecond."""
        with contextlib.closing(sqlite3.connect(self.path)) as sql:
            return sql.execute("SELECT max(ts) FROM seconds").fetchone()[0] // 1_000_000 / 1000

    def sound(self):
        with contextlib.closing(sqlite3.connect(self.path)) as sql:
            return sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Two nights at once; the recorder of the second is killed in the middle of it.

    They are had again where the machine has kept the lab from what it does by the clock.
    """
    for _ in range(3):
        both = had([tmp_path_factory.mktemp(name) for name in ("whole", "cut")])
        if max(night.truth["late_s"] for night in both) < LATE_S:
            break
    return both


def had(folders):
    whole, cut = Night(folders[0], CYCLES), Night(folders[1], CUT_AFTER + 1)
    with whole.trace, cut.trace:
        cut.wait(lambda: f"collapse {CUT_AFTER} of" in cut.trace.stderr)
        select.select([], [], [], LIFETIME_S - 1.5)  # well into it, while packets are dropped
        assert cut.trace.child.poll() is None, cut.trace.stderr
        before = cut.committed()
        cut.wait(lambda: cut.committed() > before)
        cut.last, cut.killed = cut.committed(), time.time()
        cut.trace.child.kill()
        cut.trace.child.wait()
        cut.gone = time.time()
        cut.wait(lambda: cut.said.read_text().endswith("\n"))  # the lab itself goes on to its end
        assert whole.trace.child.wait(ENDS_WITHIN_S) == 0, whole.trace.stderr
        return whole, cut


@pytest.fixture
def whole(nights):
    return nights[0]


@pytest.fixture
def cut(nights):
    return nights[1]


def seconds(stamp):
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp()


def agrees(night):
    """See that a report names cause, rhythm and tunnel as they are true."""
    report, truth = json.loads(night.report("-j")), night.truth
    first = report["findings"][0]
    assert (first["id"], first["subject"]["name"]) == ("recursive_tunnel", truth["tunnel"]["name"])
    (rhythm,) = [
        one
        for one in report["findings"]
        if one["id"] == "periodic_collapse" and one["subject"]["name"] == truth["remote"]
    ]
    for name in ("period_s", "episode_s", "duty"):
        assert rhythm["evidence"][name] == pytest.approx(truth[name], rel=WITHIN), name
    assert rhythm["evidence"]["floor"] == truth["floor"]
    return report


def test_a_night_is_explained(whole):
    report, truth = agrees(whole), whole.truth
    assert whole.sound()
    assert truth["cycles"] == truth["ended"] == CYCLES
    assert report["recording"]["unfinished"] == 0
    (line,) = [one for one in report["timelines"] if one["daddr"] == truth["remote"]]
    assert line["episodes"] == CYCLES
    for name in ("first", "last"):
        assert seconds(line[name]) == pytest.approx(seconds(truth[name]), abs=MOMENT_S)


def test_who_was_affected_and_where_is_counted_exactly(whole):
    report, truth = json.loads(whole.report("-j")), whole.truth
    hosts = {one["saddr"]: one for one in report["hosts"]["named"]}
    assert {saddr: one["kind"] for saddr, one in hosts.items()} == truth["kinds"]
    assert {saddr: one["told"] for saddr, one in hosts.items()} == truth["heard"]
    counted = {"IpFragFails": 0, "t0:tx_errors": 0}
    for one in report["refusals"]:
        counted["IpFragFails" if one["site"] == "ip_forward" else "t0:tx_errors"] += one["packets"]
    assert counted == truth["refused"]


def test_the_text_names_them(whole):
    said = whole.report()
    assert f"AFFECTED HOSTS: {len(whole.truth['kinds'])}: " in said
    assert all(f" {saddr}" in said for saddr in whole.truth["kinds"])


def test_the_draft_of_the_incident_report_says_what_is_true(whole):
    said, truth = whole.report("--incident", "-"), whole.truth
    period, floor, episode, duty = map(float, RHYTHM.search(said).groups())
    assert period == pytest.approx(truth["period_s"], rel=WITHIN)
    assert episode == pytest.approx(truth["episode_s"], rel=WITHIN)
    assert duty / 100 == pytest.approx(truth["duty"], rel=WITHIN)
    assert floor == truth["floor"]
    times, first, last = TIMES.search(said).groups()
    assert int(times) == CYCLES
    assert seconds(first) == pytest.approx(seconds(truth["first"]), abs=MOMENT_S)
    assert seconds(last) == pytest.approx(seconds(truth["last"]), abs=MOMENT_S)
    kinds = list(truth["kinds"].values())
    wanted = [len(kinds), kinds.count("followed"), kinds.count("ignored"), 0]
    assert [int(number) for number in HOSTS.search(said).groups()] == wanted
    assert {saddr: int(packets) for saddr, _, packets in ADDRESS.findall(said)} == truth["heard"]
    refused = sum(int(packets) for _, packets in SITE.findall(said))
    assert refused == sum(truth["refused"].values())


def test_a_night_that_was_cut_short_is_explained_too(cut):
    report = agrees(cut)
    assert cut.sound()
    assert report["recording"]["unfinished"] == 1
    ended = seconds(report["until"])
    assert cut.last <= ended <= cut.gone
    assert cut.killed - 2 < ended  # a second, and what a busy host takes to commit
    low = [one for one in report["moments"] if one["name"] == cut.truth["remote"]]
    assert len(low) == CUT_AFTER
