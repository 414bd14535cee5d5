"""Sums that a session was closed with are what its deltas add up to, or are not used."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtutrace.session import sums
from pmtutrace.session.rates import rates
from pmtutrace.session.reader import Reader, Span
from pmtutrace.session.writer import Delta, Writer
from recorded import MANIFEST, NSEC, counted, second
from samples import TS

MS = 1_000_000
ALL = Span(1, 2**62)
DELTAS = st.builds(
    lambda port, packets, longest, mtu, last: Delta(
        counted("lost" if port else "told"), packets, packets * 1500, longest, mtu, TS + last * MS
    ),
    st.integers(0, 1),
    st.integers(-5, 2**40),
    st.integers(0, 65535),
    st.integers(68, 65535),
    st.integers(0, 10**6),
)
# A counter moves once a second at most.
NIGHTS = st.lists(st.lists(DELTAS, max_size=2, unique_by=lambda delta: delta.counted), max_size=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sums")


def write(path, night, **ended):
    path.unlink(missing_ok=True)
    writer = Writer(path, MANIFEST)
    for number, deltas in enumerate(night, 1):
        writer.commit(second(number, *deltas))
    writer.close(**ended)


def counters(path, span=ALL):
    with Reader(path) as reader:
        assert reader.damaged == 0
        return {one.key: counter for one, counter in reader.counters(span)}


def by_second(path):
    with Reader(path) as reader:
        found = list(rates(reader.file))
        assert reader.damaged == 0
        return found


def change(path, statement):
    with sqlite3.connect(path) as sql:
        sql.execute(statement)


def rows(path):
    with sqlite3.connect(path) as sql:
        return sql.execute("SELECT count(*) FROM sums").fetchone()[0]


def apart(night):
    """Say if no counter was touched twice in one millisecond: only then is its last MTU certain."""
    touched = [(delta.counted, delta.last) for deltas in night for delta in deltas]
    return len(set(touched)) == len(touched)


@given(NIGHTS.filter(apart))
def test_they_are_what_deltas_add_up_to(folder, night):
    path = folder / "s.pmtu"
    write(path, night)
    assert rows(path) == len({delta.counted for deltas in night for delta in deltas})
    with_sums = counters(path)
    change(path, "DELETE FROM sums")
    assert counters(path) == with_sums


@given(NIGHTS)
def test_those_by_verdict_are_what_deltas_add_up_to(folder, night):
    path = folder / "v.pmtu"
    write(path, night)
    with_sums = by_second(path)
    assert [one.number for one in with_sums] == [n for n, deltas in enumerate(night, 1) if deltas]
    change(path, "DELETE FROM verdicts")
    assert by_second(path) == with_sums


def test_those_by_verdict_are_not_made_anew(tmp_path):
    path = tmp_path / "s.pmtu"
    write(path, [[Delta(counted(), 1, 1500, 1500, 1400, TS)], [], []])
    change(path, "UPDATE verdicts SET packets = 77")  # to know them by
    assert [one.packets for one in by_second(path)] == [{"told": 77}]
    change(path, "UPDATE verdicts SET second = 2")  # of another time
    assert [one.packets for one in by_second(path)] == [{"told": 1}]


def test_those_by_verdict_that_make_no_sense_are_damage(tmp_path):
    path = tmp_path / "s.pmtu"
    write(path, [[Delta(counted(), 1, 1500, 1500, 1400, TS)] for _ in range(3)])
    change(path, "UPDATE verdicts SET packets = 'x' WHERE second = 1")
    change(path, "UPDATE verdicts SET verdict = 99 WHERE second = 2")
    with Reader(path) as reader:
        assert [one.number for one in rates(reader.file)] == [3]
        assert reader.damaged == 2


def test_only_all_seconds_have_them(tmp_path):
    path = tmp_path / "s.pmtu"
    one = Delta(counted(), 1, 1500, 1500, 1400, TS)
    write(path, [[one], [one._replace(last=TS + NSEC)], []])
    change(path, "UPDATE sums SET packets = 77")  # to know them by
    key = counted().key
    assert counters(path)[key].packets == 77
    assert counters(path, Span(1, 2))[key].packets == 77  # nothing moved in the third
    assert counters(path, Span(2, 3))[key].packets == 1
    assert counters(path, Span(1, 1))[key].packets == 1


def test_those_of_another_time_are_not_used(tmp_path):
    path = tmp_path / "s.pmtu"
    write(path, [[Delta(counted(), 1, 1500, 1500, 1400, TS)]])
    change(path, "UPDATE sums SET packets = 77, second = 2")
    assert counters(path)[counted().key].packets == 1


def test_too_many_counters_have_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sums, "MOST", 1)
    path = tmp_path / "s.pmtu"
    write(path, [[Delta(counted(word), 3, 1, 1, 1400, TS) for word in ("told", "lost")]])
    assert rows(path) == 0
    assert [counter.packets for counter in counters(path).values()] == [3, 3]
