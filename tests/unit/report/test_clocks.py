"""Clocks that were set while somebody recorded: what was before is moved along."""

import time

import pytest

import night
from night import BEGAN, EPISODE_S, FIRST_S, NSEC, Night
from pmtutrace.report import build, text
from pmtutrace.report.clocks import MOST_SETS, Clock, epochs
from pmtutrace.session.reader import Reader, Span
from pmtutrace.session.writer import Second, Writer
from recorded import MANIFEST, moved, second
from samples import TS, drop

SHORT = {"drops": 90, "flows": 30, "hours": 1.25, "silent": (900, 1500)}
HOURS = 3600 * NSEC


def reported(path):
    with Reader(path) as reader:
        return build.build([reader])


@pytest.mark.parametrize("by", [-HOURS, -7 * NSEC, 90 * NSEC, 30 * HOURS])
@pytest.mark.parametrize("at", [600, 3000])
def test_what_was_before_moves_along(by, at, tmp_path):
    made = Night(**SHORT, clock_set=(at, by))
    night.write(tmp_path / "s", made)
    case = reported(tmp_path / "s").case
    assert (case.began, case.ended) == (BEGAN + by, BEGAN + by + 4500 * NSEC)
    (line,) = (line for line in case.timelines if line.daddr == night.remote(1))
    (episode,) = line.episodes
    assert episode.began == BEGAN + by + FIRST_S * NSEC
    assert episode.length == EPISODE_S * NSEC
    (gap,) = case.gaps
    assert (gap.began - BEGAN - by, gap.ended - BEGAN - by) == (900 * NSEC, 1500 * NSEC)
    assert sum(counter.packets for counter in case.counters.values()) == 90
    first = min(counter.first for counter in case.counters.values())
    began, due = next((second, due) for second, due in made.each() if due)
    assert first - BEGAN - by == (began + 0.5 / due) * NSEC


def test_a_clock_that_is_not_set_moves_nothing(tmp_path):
    night.write(tmp_path / "s", Night(**SHORT))
    with Reader(tmp_path / "s") as reader:
        (clock,) = Clock.of([reader])
        assert (len(clock.epochs), clock.sets, clock.right) == (1, [], Night.offset)
        seen = list(clock.events(reader.events(clock.epochs[0].seconds)))
        assert seen == [event for _, event in reader.events(clock.epochs[0].seconds)]


def written(path, *offsets):
    """Write a session of some seconds, each with a distance of its clocks."""
    writer = Writer(path, MANIFEST | {"session": path.name})
    for number, offset in enumerate(offsets):
        made = second(number + 1, moved(1, last=TS + number * NSEC))
        writer.commit(made._replace(offset=offset))
    writer.close(ended=TS + len(offsets) * NSEC)
    return Reader(path)


def test_sessions_of_one_boot_share_the_last_clock(tmp_path):
    with written(tmp_path / "a", 0, 0) as one, written(tmp_path / "b", 5 * NSEC, 5 * NSEC) as two:
        first, last = Clock.of([one, two])
        assert (first.time(TS, TS + NSEC), first.sets) == ((TS + 5 * NSEC, TS + 6 * NSEC), [])
        assert last.time(TS, TS + NSEC) == (TS, TS + NSEC)


def test_when_it_was_set_and_by_how_much(tmp_path):
    with written(tmp_path / "s", 0, 7, -3 * NSEC, -3 * NSEC) as reader:
        (clock,) = Clock.of([reader])
        assert clock.sets == [(TS + 2 * NSEC, -3 * NSEC)]


@pytest.mark.parametrize("by", [HOURS, -HOURS, 30 * NSEC])
def test_what_was_seen_in_the_second_in_which_it_was_set(by, tmp_path):
    """Counters were read before by the old clock and now by the new one; events are of both."""
    writer = Writer(tmp_path / "s", MANIFEST)
    writer.commit(Second(TS - NSEC, TS, 0))
    at = [TS + tenth * NSEC // 10 for tenth in (1, 4, 6, 9)]
    for ts, moved_by in zip(at, (0, 0, by, by), strict=True):
        writer.add(drop(ts=ts + moved_by))
    writer.commit(Second(TS, TS + NSEC + by, by))
    writer.commit(Second(TS + NSEC + by, TS + 2 * NSEC + by, by))
    writer.close()
    with Reader(tmp_path / "s") as reader:
        (clock,) = Clock.of([reader])
        seen = [event.ts for event in clock.events(reader.events(Span(1, 99)))]
        assert seen == [ts + by for ts in at]
        assert clock.sets == [(TS + by, by)]


def test_no_clock_is_set_every_second(tmp_path):
    with written(tmp_path / "s", *(n * NSEC for n in range(MOST_SETS + 1))) as reader:
        (epoch,) = epochs(reader)
        assert epoch.seconds == (1, MOST_SETS + 1)
    made = reported(tmp_path / "s")
    assert made.totals["drops"] == MOST_SETS + 1


def test_a_session_without_a_second(tmp_path):
    with written(tmp_path / "s") as reader:
        (clock,) = Clock.of([reader])
        assert (clock.moment(TS), clock.time(1, 2), clock.epochs) == (TS, (1, 2), ())


def test_an_idle_second_tells_no_beginning(tmp_path):
    writer = Writer(tmp_path / "s", MANIFEST)
    writer.commit(Second(None, TS, 0))
    writer.close()
    with Reader(tmp_path / "s") as reader:
        (clock,) = Clock.of([reader])
        assert clock.span(1, 0, TS) == (TS, TS)


def test_a_report_says_that_a_clock_was_set(tmp_path):
    with written(tmp_path / "s", 0, 0, -3 * NSEC) as reader:
        said = text.unseen(build.build([reader]))
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(TS // NSEC + 5))
    assert (
        f"the clock was set by -3.0 s when it showed {moment}; what was before is moved along"
        in (said)
    )
