"""Sessions that are damaged, or were made to do harm: an error, or what could be read, and soon."""

import io
import json
import random
import sqlite3
import sys
import time
from contextlib import closing, redirect_stderr, redirect_stdout, suppress

import pytest

from pmtutrace.cli import main
from pmtutrace.session import schema
from recorded import write

SEED = 20151123
WITHIN_S = 5.0
PAGE = 4096
HOSTILE = (
    "'; DROP TABLE words; --",
    "\x1b[2J\x1b]0;owned\x07",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "A" * 300_000,
    "\udcff",
    "1e999",
    "../../etc/passwd",
    "{}",
    "[[1,2,3]]",
    "[" * 100_000,
    "\0",
    "%s%n",
)
NUMBERS = (-1, 0, 2**63 - 1, -(2**63), 2**31, 10**18)
CELLS = (*NUMBERS, 1.5, float("inf"), None, "text", b"\xff" * 9, "A" * 70_000)


def flip(octets, chance):
    for _ in range(chance.choice((1, 3, 20, 200))):
        at = chance.randrange(len(octets))
        octets[at] ^= 1 << chance.randrange(8)


def flip_head(octets, chance):
    """Flip where SQLite keeps what it believes of the file."""
    octets[chance.randrange(100)] ^= 1 << chance.randrange(8)


def cut(octets, chance):
    del octets[chance.randrange(len(octets)) :]


def swap_pages(octets, chance):
    """Have pages point at each other, and at themselves."""
    pages = len(octets) // PAGE
    for _ in range(chance.choice((1, 5))):
        one, other = (chance.randrange(1, pages) * PAGE for _ in range(2))
        octets[one : one + PAGE] = octets[other : other + PAGE]


def splice(octets, chance):
    at = chance.randrange(len(octets))
    octets[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 64, PAGE))))


def blank(octets, chance):
    at = chance.randrange(len(octets))
    octets[at : at + chance.choice((16, PAGE))] = bytes(16)


ROUGH = (flip, flip, flip_head, cut, swap_pages, splice, blank)


def cell(sql, chance):
    """Put something into a cell that does not belong there."""
    for _ in range(chance.choice((1, 5))):
        table = chance.choice(schema.TABLES)
        column, _ = chance.choice(table.columns)
        value = chance.choice((*CELLS, *HOSTILE))
        if isinstance(value, str):
            value = value.encode(errors="surrogateescape")
            value = value if chance.random() < 0.2 else value.decode(errors="replace")
        first, _ = table.columns[0]
        with suppress(sqlite3.IntegrityError):
            sql.execute(
                f'UPDATE OR IGNORE "{table.name}" SET "{column}" = ? WHERE "{first}" % ? = 0',
                (value, chance.choice((1, 2, 7))),
            )


def words(sql, chance):
    """Call everything by a hostile name, addresses included."""
    rows = sql.execute("SELECT id FROM words").fetchall()
    for (number,) in chance.sample(rows, len(rows) // chance.choice((1, 3))):
        text = chance.choice(HOSTILE).encode(errors="surrogateescape")
        sql.execute("UPDATE words SET text = CAST(? AS TEXT) WHERE id = ?", (text, number))


def manifest(sql, chance):
    for name, _ in sql.execute("SELECT name, value FROM manifest").fetchall():
        value = chance.choice((*HOSTILE, *CELLS, "[null]", '{"a": [1]}', "-1e400", "NaN"))
        if isinstance(value, str):
            value = value.encode(errors="surrogateescape").decode(errors="replace")
        sql.execute("UPDATE manifest SET value = ? WHERE name = ?", (value, name))


def gigantic(sql, chance):
    table, column = chance.choice(
        (("words", "text"), ("packets", "octets"), ("manifest", "value"), ("event_drop", "mtu"))
    )
    sql.execute(f"UPDATE {table} SET {column} = zeroblob(5000000) WHERE rowid = 1")


def cyclic(sql, chance):
    """Put views that never end in the place of tables."""
    sql.execute("PRAGMA writable_schema = ON")
    for view in schema.views():
        sql.execute(f"DROP VIEW {view}")
    name = chance.choice(("words", "seconds", "manifest", "event_drop", "deltas", "packets"))
    sql.execute(f"DROP TABLE {name}")
    columns = next(t for t in schema.TABLES if t.name == name).columns
    listed = ", ".join(f'1 AS "{column}"' for column, _ in columns)
    if chance.random() < 0.5:
        sql.execute(f"CREATE VIEW other AS SELECT * FROM {name}")
        sql.execute(f"CREATE VIEW {name} AS SELECT * FROM other")
    else:
        endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
        sql.execute(f"CREATE VIEW {name} AS {endless} SELECT {listed} FROM n")


def values_that_are_not_there(sql, chance):
    """Have events and what is counted name values that nobody wrote."""
    sql.execute("UPDATE value_counter_key SET flow = id + 1000000")
    sql.execute("UPDATE event_drop SET flow = -1")


def huge_gaps(sql, chance):
    sql.execute("UPDATE event_drop SET id = id + 4611686018427387904")
    sql.execute("UPDATE seconds SET last_event = 9223372036854775807, first_event = 1")


def endless_seconds(sql, chance):
    sql.execute("UPDATE seconds SET since = -1, ts = 9223372036854775807, newest = ts, oldest = 0")


def newer(sql, chance):
    sql.execute(f"PRAGMA user_version = {chance.choice((2, 99, 2**31 - 1, -1))}")


def without_a_table(sql, chance):
    for view in schema.views():
        sql.execute(f"DROP VIEW {view}")
    sql.execute(f'DROP TABLE "{chance.choice(schema.TABLES).name}"')


FINE = (
    cell,
    cell,
    cell,
    words,
    words,
    manifest,
    gigantic,
    cyclic,
    values_that_are_not_there,
    huge_gaps,
    endless_seconds,
    newer,
    without_a_table,
)
VERBS = (
    ("print",),
    ("print", "-j"),
    ("print", "--host", "10.77.1.1", "--since", "@1792924246"),
    ("report",),
    ("export", "--to", "csv"),
    ("export", "--to", "pcapng"),
    ("report", "-j"),
    ("export", "--to", "jsonl"),
    ("report", "--incident", "-"),
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "s"
    write(path)
    return path.read_bytes()


def mutated(number, sound, path):
    """Write a session that is not what it should be, always the same for a number."""
    chance = random.Random(SEED + number)  # noqa: S311 -- damage, no secrets
    if number % 2:
        octets = bytearray(sound)
        chance.choice(ROUGH)(octets, chance)
        path.write_bytes(octets)
        return
    path.write_bytes(sound)
    with closing(sqlite3.connect(path)) as sql:
        FINE[number // 2 % len(FINE)](sql, chance)
        sql.commit()


def run(words):
    """Run the command line here; return its code and what it said."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace"), io.StringIO()
    out.reconfigure(write_through=True)
    with redirect_stdout(out), redirect_stderr(err):
        code = main._run(list(words))
        sys.stdout.flush()
    return code, out.buffer.getvalue(), err.getvalue()


@pytest.mark.parametrize("number", range(200))
def test_a_file_that_is_not_what_it_should_be(number, sound, tmp_path):
    path = tmp_path / "s"
    mutated(number, sound, path)
    verb, *options = VERBS[number // 2 % len(VERBS)]
    before = time.monotonic()
    code, out, err = run((verb, str(path), *options))
    assert time.monotonic() - before < WITHIN_S
    assert code in (0, 1)
    if code:
        assert err.count("\n") >= 2
        assert err.splitlines()[-1].startswith("hint: ")
    assert "Traceback" not in err
    for text in (err, "" if "pcapng" in options else out.decode()):
        assert all(line.isprintable() for line in text.split("\n"))
    if "-j" in options or "jsonl" in options:
        for line in out.decode().splitlines():
            json.loads(line)


def test_the_tests_above_can_fail(sound, tmp_path):
    """What is sound is read to its end; most of what is not is noticed."""
    path = tmp_path / "s"
    path.write_bytes(sound)
    code, out, err = run(("print", str(path), "-j"))
    assert (code, err) == (0, "")
    whole = len(out.splitlines())
    noticed = 0
    for number in range(40):
        mutated(number, sound, path)
        code, out, err = run(("print", str(path), "-j"))
        noticed += bool(code or err or len(out.splitlines()) != whole)
    assert noticed >= 20
