"""What is written is what is read, whatever happens in between."""

import contextlib
import dataclasses
import os
import shutil
import signal
import sqlite3
import stat
from collections import Counter as Tally

import pytest

from golden.test_lines import EVENTS
from pmtutrace.errors import SessionError
from pmtutrace.events import TunnelChange
from pmtutrace.session import encode, schema
from pmtutrace.session.file import File
from pmtutrace.session.reader import Reader, Span
from pmtutrace.session.writer import NoRoomError, Writer
from recorded import MANIFEST, NSEC, STATES, counted, moved, second, write
from samples import TS, drop

ALL = Span(1, 2**62)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.pmtu"


def written(path, *events):
    writer = Writer(path, MANIFEST)
    for event in events:
        writer.add(event)
    writer.commit(second(1))
    writer.close()


def events(path, *, packets=True):
    with Reader(path) as reader:
        found = [event for _, event in reader.events(ALL, packets=packets)]
        assert reader.damaged == 0
        return found


def test_there_is_an_event_of_every_type_to_try():
    assert {type(event) for event in EVENTS.values()} == set(schema.EVENTS)


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_comes_back_as_it_was(path, name):
    written(path, EVENTS[name])
    assert events(path) == [EVENTS[name]]


def test_events_of_all_types_come_back_in_the_order_of_their_coming(path):
    several = [*EVENTS.values(), *reversed(EVENTS.values())]
    written(path, *several)
    assert events(path) == several


def test_packets_come_only_when_they_are_wanted(path):
    written(path, drop(packet=b"\x45\0\xff"))
    assert [event.packet for event in events(path)] == [b"\x45\0\xff"]
    assert [event.packet for event in events(path, packets=False)] == [b""]


@pytest.mark.parametrize("name", ["\udcff\udcfe", "a\0b", "'; DROP TABLE words; --", "", "ü"])
def test_names_come_back_octet_by_octet(path, name):
    event = TunnelChange(TS, 1, "gone", name, "gre", None)
    written(path, event)
    assert events(path) == [event]


def test_what_was_forgotten_is_written_again(path, monkeypatch):
    monkeypatch.setattr(encode, "REMEMBERED", 2)
    several = [*EVENTS.values()] * 3
    written(path, *several)
    assert events(path) == several


def test_states_come_back(path):
    write(path)
    with Reader(path) as reader:
        found = [state for cls in schema.STATES for state in reader.states(cls)]
    assert tuple(found) == STATES


def sums(path, seconds):
    found = Tally()
    with Reader(path) as reader:
        for one, counter in reader.counters(seconds):
            found[one] += counter.packets
    return found


def test_deltas_add_up(path):
    told, lost = counted(), counted("lost")
    writer = Writer(path, MANIFEST)
    writer.commit(second(1, moved(7, told)))
    writer.commit(second(2, moved(-3, told), moved(3, lost)))
    writer.close()
    assert sums(path, Span(1, 2)) == {told: 4, lost: 3}
    assert sums(path, Span(2, 2)) == {told: -3, lost: 3}


def test_a_counter_has_its_last_mtu_and_its_greatest_length(path):
    writer = Writer(path, MANIFEST)
    writer.commit(second(1, moved(1, last=TS)._replace(mtu=1400, max_length=1500)))
    writer.commit(second(2, moved(1, last=TS + NSEC)._replace(mtu=1300, max_length=1450)))
    writer.close()
    with Reader(path) as reader:
        ((_, counter),) = reader.counters(Span(1, 2))
    assert (counter.mtu, counter.max_length, counter.first, counter.last) == (
        1300,
        1500,
        TS,
        TS + NSEC,
    )


def test_losses_and_seconds(path):
    write(path)
    with Reader(path) as reader:
        assert reader.losses(Span(1, 3)) == {"ring_full": 5}
        assert reader.losses(Span(2, 3)) == {}
        assert reader.seconds(TS + NSEC, None) == Span(2, 3)
        assert reader.seconds(None, TS + NSEC) == Span(1, 1)
        assert reader.seconds(TS + 99 * NSEC) is None
        assert reader.time() == (TS - NSEC, TS + 3 * NSEC)


def spans(path, since=None, until=None, after=0):
    with Reader(path) as reader:
        return [tuple(brought.events) for brought in reader.spans(since, until, after)]


def test_what_lies_in_a_time_is_found_by_the_second(path):
    write(path)
    each = len(EVENTS) + 1
    assert spans(path) == [(1, 3 * each)]
    assert spans(path, since=TS + NSEC) == [(each + 1, 3 * each)]
    assert spans(path, until=TS + NSEC) == [(1, each)]
    assert spans(path, after=2) == [(2 * each + 1, 3 * each)]


def test_a_clock_that_is_set_back_hides_nothing(path):
    writer = Writer(path, MANIFEST)
    for at, ts in enumerate((TS + 100 * NSEC, TS, TS + 200 * NSEC), 1):
        writer.add(drop(ts=ts))
        writer.commit(second(at))
    writer.close()
    assert spans(path, since=TS + 50 * NSEC) == [(1, 1), (3, 3)]


def test_it_is_for_us_alone_and_one_plain_file(path):
    writer = write(path)
    assert writer.single
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_nothing_is_overwritten(path):
    path.write_text("mine")
    with pytest.raises(SessionError, match="is there already"):
        Writer(path, MANIFEST)
    path.unlink()
    path.symlink_to(path.parent / "elsewhere")
    with pytest.raises(SessionError):
        Writer(path, MANIFEST)
    assert not (path.parent / "elsewhere").exists()


def test_it_is_read_while_it_is_written(path):
    writer = Writer(path, MANIFEST)
    with Reader(path) as reader:
        assert not reader.ended
        for number in (1, 2, 3):
            writer.add(drop(ts=TS + number))
            assert len(list(reader.events(ALL))) == number - 1
            writer.commit(second(number))
            assert len(list(reader.events(ALL))) == number
        writer.close(ended=TS)
        assert reader.ended
    assert len(events(path)) == 3


def test_what_was_committed_survives_and_nothing_else(path, tmp_path):
    writer = write(path, seconds=2, close=False)
    for _ in range(20_000):  # so many that SQLite has begun to write them
        writer.add(drop())
    left = tmp_path / "left"
    left.mkdir()
    for file in path.parent.glob("s.pmtu*"):
        shutil.copy(file, left / file.name)
    found = events(left / path.name, packets=False)
    assert len(found) == 2 * (len(EVENTS) + 1)
    writer.close()


def test_a_full_disk_loses_events_and_no_count(path):
    writer = write(path, seconds=1, close=False)
    before = len(events(path))
    pages = writer._sql.execute("PRAGMA page_count").fetchone()[0]
    writer._sql.execute(f"PRAGMA max_page_count = {pages + 1}")
    for number in range(2000):
        writer.add(drop(ts=TS + number, packet=bytes(128), site=f"site{number}"))
    with pytest.raises(NoRoomError) as refused:
        writer.commit(second(2, moved(11)))
    assert refused.value.events == 2000
    assert len(events(path)) == before
    writer._sql.execute("PRAGMA max_page_count = 100000")
    writer.add(drop(ts=TS + 5, site="ip_forward"))
    writer.commit(second(2, moved(11), unstored=2000))
    writer.close()
    assert writer.single
    assert [event.site for event in events(path)[before:]] == ["ip_forward"]
    assert sums(path, Span(1, 99)) == {counted(): 18}
    with Reader(path) as reader:
        assert reader.losses(Span(1, 99)) == {"ring_full": 5, "unstored": 2000}
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def changed(path, *statements):
    sql = sqlite3.connect(path)
    for statement in statements:
        sql.execute(statement)
    sql.commit()
    sql.close()


def test_an_older_file_has_defaults_for_what_it_lacks(path):
    written(path, drop(spi=7, mark=3), EVENTS["a tunnel appears"])
    views = [f"DROP VIEW {name}" for name in schema.views()]
    changed(
        path,
        *views,
        "ALTER TABLE event_drop DROP COLUMN spi",
        "ALTER TABLE event_drop DROP COLUMN cpu",
        "DROP TABLE event_icmp_received",
        "DROP TABLE losses",
    )
    assert events(path) == [
        dataclasses.replace(drop(mark=3), cpu=0),
        EVENTS["a tunnel appears"],
    ]
    with Reader(path) as reader:
        assert reader.losses(Span(1, 9)) == {}


def test_what_is_not_known_is_left_alone(path):
    written(path, drop())
    changed(path, "ALTER TABLE event_drop ADD COLUMN later", "CREATE TABLE event_later (id)")
    assert events(path) == [drop()]


def test_a_newer_version_is_refused(path):
    write(path)
    changed(path, f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(SessionError, match="newer"):
        Reader(path)


def test_what_is_no_session_is_refused(path, tmp_path):
    sqlite3.connect(path).execute("CREATE TABLE words (id)")
    (tmp_path / "text").write_text("SQLite")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    for name in (path, "text", "fifo", "empty", "nowhere", ".", "a\0b"):
        with pytest.raises(SessionError) as refused:
            Reader(tmp_path / name)
        assert refused.value.hint


def test_a_folder_that_cannot_be_written(path, tmp_path):
    """Neither root nor tmpfs care for modes, so the file is read as if it were on such a medium."""
    write(path)
    path.chmod(0o400)
    assert len(events(path)) == 3 * (len(EVENTS) + 1)


def test_a_signal_while_sqlite_is_at_work_is_one_and_no_damage(path):
    """SQLite forgets what is raised in what it calls."""

    class Disturbed(File):
        def _step(self):
            signal.raise_signal(signal.SIGINT)
            return super()._step()

    write(path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    cases = (Disturbed, KeyboardInterrupt, None), (File, SessionError, "damaged: interrupted")
    counting = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    )
    try:
        for kind, error, said in cases:
            with (
                contextlib.closing(kind(path)) as file,
                pytest.raises(error, match=said),
                file.telling(),
            ):
                file.sql.execute(counting).fetchone()
    finally:
        signal.signal(signal.SIGINT, before)
