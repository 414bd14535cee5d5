"""Which files of a rotation go."""

import os
import re
import socket

import pytest

from pmtutrace.session.rotation import NSEC, Rotation, series, tidy
from recorded import write
from samples import TS

DAY = 86400


@pytest.fixture
def night(tmp_path):
    return tmp_path / "night.pmtu"


def session(night, age, **manifest):
    """Write a session of the series that was last written so many seconds ago."""
    path = series(night, TS - age * NSEC)
    write(path, **({"series": night.name, "host": socket.gethostname()} | manifest))
    os.utime(path, ns=(TS - age * NSEC,) * 2)
    return path


def test_names_sort_by_time(night):
    names = [series(night, TS + at * 1_000_000).name for at in (0, 1, 999, 1000, 10**7)]
    assert names == sorted(names)
    assert re.fullmatch(r"night-20261025T\d{6}\.\d{3}Z\.pmtu", names[0])


def test_old_ones_go(night):
    old, young = session(night, 8 * DAY), session(night, 6 * DAY)
    assert tidy(night, Rotation(keep=7 * DAY), TS, None) == [old]
    assert not old.exists()
    assert young.exists()


def test_the_oldest_go_where_there_are_too_many(night):
    paths = [session(night, age) for age in (4, 3, 2, 1)]
    each = paths[0].stat().st_size
    assert tidy(night, Rotation(most=2 * each), TS, paths[-1]) == paths[:2]


def test_the_one_being_written_stays(night):
    path = session(night, 8 * DAY)
    assert tidy(night, Rotation(keep=DAY, most=1), TS, path) == []


def test_what_belongs_to_a_session_goes_with_it(night):
    path = session(night, 8 * DAY)
    wal = path.with_name(f"{path.name}-wal")
    wal.touch()
    tidy(night, Rotation(keep=DAY), TS, None)
    assert list(night.parent.iterdir()) == []


def test_nothing_else_is_ever_deleted(night, tmp_path):
    stamped = series(night, TS - 8 * DAY * NSEC)
    kept = [
        session(night, 9 * DAY, host="somewhere else"),
        session(night, 10 * DAY, series="other.pmtu"),
        stamped,
        night,
        tmp_path / "night-copy.pmtu",
        tmp_path / f"{stamped.stem}-copy.pmtu",
        tmp_path / f"x{stamped.name}",
    ]
    stamped.write_text("not a session at all")
    for path in kept[3:]:
        write(path, series=night.name, host=socket.gethostname())
    target = tmp_path / "target"
    link = series(night, TS - 11 * DAY * NSEC)
    session(night, 11 * DAY).rename(target)
    link.symlink_to(target)
    folder = series(night, TS - 12 * DAY * NSEC)
    folder.mkdir()
    for path in (*kept, target):
        os.utime(path, ns=(TS - 30 * DAY * NSEC,) * 2)
    assert tidy(night, Rotation(keep=DAY, most=1), TS, None) == []
    assert all(path.exists() for path in (*kept, target, link, folder))


def test_when_a_new_one_begins():
    both = Rotation(seconds=10, size=1000)
    assert not both.due(9, 999)
    assert both.due(10, 0)
    assert both.due(0, 1000)
    assert Rotation(seconds=10, most=4000).due(0, 1000)
    assert not Rotation().due(10**9, 10**9)
    assert not Rotation(most=1).wanted
