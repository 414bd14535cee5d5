"""The draft of an incident report: what it says stands in the report, and no name is markup."""

import itertools
import json
import re
import string

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import night
from night import BEGAN, FIRST_S, PERIOD_S, Night
from pmtutrace.cli.verbs import cli
from pmtutrace.events import Flow
from pmtutrace.jsonl import timestamp
from pmtutrace.report import build, incident, markdown
from pmtutrace.report import json as objects
from pmtutrace.session import schema
from pmtutrace.session.reader import Reader
from pmtutrace.session.writer import Second, Writer
from pmtutrace.tunnels.tunnel import Tunnel
from recorded import MANIFEST, NETNS, NSEC, counted, moved, second, write
from samples import TS, drop

NUMBER = re.compile(r"\d+(?:[.:-]\d+)*")
HOSTILE = (
    "`; rm -rf /", "a|b", "<img src=x onerror=alert(1)>", "[x](http://evil)", "**b**", "# h",
    "```\n# out", "&lt;", "\\`x", "http://e.x", "_a_", "\x1b[2J", "``", " ", "| --- |", "- - -",
)  # fmt: skip


def made(*paths):
    """Return the objects of a report on sessions."""
    opened = [Reader(path) for path in paths]
    try:
        return [objects.report(build.build(group)) for group in build.groups(opened)]
    finally:
        for reader in opened:
            reader.close()


@pytest.fixture(scope="module")
def two_nights(tmp_path_factory):
    """Two hosts in one night; the clock of the second was set."""
    folder = tmp_path_factory.mktemp("nights")
    night.write(folder / "a", Night(drops=800, flows=40))
    later = Night(drops=300, flows=20, clock_set=(9000, 120 * NSEC))
    night.write(folder / "b", later, host="edge8", boot_id="1", session="other")
    return folder / "a", folder / "b"


def numbers(value):
    """Yield every number that a value can be written with."""
    for leaf in leaves(value):
        for how, write_ in markdown.HOW.items():
            try:
                yield from NUMBER.findall(write_(leaf))
            except (TypeError, ValueError):
                assert how != "text"
        yield from NUMBER.findall(markdown.printable(str(leaf)))


def leaves(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        yield value
        for inner in value:
            yield from leaves(inner)
    elif value is not None:
        yield value


def test_every_number_of_a_draft_stands_in_the_report(two_nights):
    found = made(*two_nights)
    said = incident.draft(found)
    missing = set(NUMBER.findall(said)) - set(numbers(found))
    assert not missing
    assert len(set(NUMBER.findall(said))) > 100
    assert "NaN" not in said
    assert "None" not in said


def test_no_sentence_has_a_number_of_its_own(two_nights):
    """What fills a hole stands in the report, by construction; nothing else may be a fact."""
    told = list(markdown.sentences(list(incident.blocks(made(*two_nights)))))
    assert len(told) > 200
    for sentence in told:
        assert not re.search(r"\d", sentence.text), sentence.text
        names = {name for _, name, _, _ in string.Formatter().parse(sentence.text) if name}
        assert names == set(sentence.holes)


def test_what_it_says_of_a_night(two_nights):
    path, _ = two_nights
    said = incident.draft(made(path))
    assert [line for line in said.splitlines() if line.startswith("## ")] == [
        "## Description", "## Analysis", "## Impact", "## Actions", "## What was not recorded",
        "## References",
    ]  # fmt: skip
    assert "fell every 90 min, to 552 octets at the least, for 20 min each time: 22.2%" in said
    began = timestamp(BEGAN + FIRST_S * NSEC)[:19].replace("T", " ")
    ended = timestamp(BEGAN + (FIRST_S + 5 * PERIOD_S + 1200) * NSEC)[:19].replace("T", " ")
    assert f"It was low 6 times, first seen so at {began} UTC and last at {ended} UTC." in said
    assert "nobody looked from 2026-11-22 04:25:00 UTC to 2026-11-22 04:4" in said


def test_what_was_lost_is_a_gap(tmp_path):
    writer = write(tmp_path / "s", close=False)
    said = incident.draft(made(tmp_path / "s"))
    writer.close()
    assert "- **GAP:** `edge7`: lost (ring_full): 5." in said
    assert "- **GAP:** `edge7`: recordings that were cut off, or go on: 1." in said


def test_without_a_finding_it_says_so(tmp_path):
    writer = Writer(tmp_path / "s", MANIFEST)
    writer.commit(second(1))
    writer.close(ended=TS)
    said = incident.draft(made(tmp_path / "s"))
    assert "Nothing was found to be wrong on `edge7`." in said
    assert "no host's packets were dropped" in said


def hostile(path, name):
    """Write a session in which everything that can have a name has this one."""
    writer = Writer(path, MANIFEST | {"host": name, "kernel": name, "boot_id": name})
    writer.state(schema.Space(TS, NETNS, name))
    tunnel = Tunnel(NETNS, 3, name, name, 1476, "192.0.2.1", "192.0.2.2", overhead=24)
    writer.state(schema.TunnelThere(TS, tunnel))
    of = counted(flow=Flow(name, name, 17, 1, 2), site=name, cause=name)
    of = schema.Counted(of.key, name, night.tunnel(1))
    for at in range(8):
        flow = Flow(name, name, 17, 1, 2)
        writer.add(drop(ts=TS + at * NSEC, flow=flow, dev=name, site=name))
    writer.commit(second(9, moved(8, of, TS + 8 * NSEC)))
    writer.close(ended=TS + 9 * NSEC)
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_no_markup(name, tmp_path):
    plain = incident.draft(made(hostile(tmp_path / "plain", "plain")))
    said = incident.draft(made(hostile(tmp_path / "s", name)))
    assert skeleton(said) == skeleton(plain)
    assert all(line.isprintable() for line in said.split("\n"))


def skeleton(said):
    """Return what kinds of markup a reader of Markdown finds, in order, without texts."""
    out = []
    for token in MarkdownIt("commonmark").enable("table").parse(said):
        out.append(token.type)
        kinds = (child.type for child in token.children or ())
        out.append([kind for kind, _ in itertools.groupby(kinds) if kind != "text"])
    return out


@given(st.text("aw. `|<&*_[]()!#\\~:/", max_size=16) | st.text(max_size=40))
def test_any_text_comes_back_as_it_was(text):
    (_, inline, _) = MarkdownIt("commonmark").parse(f"x{markdown.escaped(text)}x")
    assert inline.content
    shown = "".join(child.content for child in inline.children)
    assert shown == f"x{markdown.printable(text)}x"
    assert {child.type for child in inline.children} <= {"text", "text_special"}


@given(st.text("a `|<&*_", min_size=1, max_size=12) | st.text(min_size=1, max_size=40))
def test_any_name_is_one_code_span(text):
    written = markdown.code(text).replace("\\|", "|")  # as a table has it
    (_, inline, _) = MarkdownIt("commonmark").parse(f"x{written}x")
    (_, span, _) = inline.children
    assert span.type == "code_inline"
    shown = markdown.printable(text)
    assert span.content == shown


def test_a_draft_is_written_once(two_nights, tmp_path):
    path = tmp_path / "draft.md"
    words = ["report", *map(str, two_nights), "--incident"]
    done = CliRunner().invoke(cli, [*words, str(path)], catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, "")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == incident.draft(made(*two_nights))
    again = CliRunner().invoke(cli, [*words, str(path)])
    assert again.exception.exit_code == 2
    shown = CliRunner().invoke(cli, [*words, "-"], catch_exceptions=False)
    assert shown.stdout == path.read_text()


def test_several_hosts_are_on_one_axis(two_nights):
    done = CliRunner().invoke(cli, ["report", *map(str, two_nights)], catch_exceptions=False)
    _, _, table = done.stdout.partition("\nALL HOSTS\n")
    head, *rows = table.splitlines()
    assert head.split() == ["FROM", "UNTIL", "HOST", "NETNS", "WHAT"]
    times = [row[2:21] for row in rows]
    assert times == sorted(times)
    assert {"edge7", "edge8"} <= {word for row in rows for word in row.split()}
    (set_,) = [row for row in rows if "clock set by +120.0 s" in row]
    assert set_.split()[:2] == ["2026-11-21", "23:32:00"]


def test_one_namespace_of_many(tmp_path):
    write(tmp_path / "s")
    for name, drops in (("edge", 21), (str(NETNS), 21)):
        done = CliRunner().invoke(cli, ["report", "-j", "--netns", name, str(tmp_path / "s")])
        assert json.loads(done.stdout)["totals"]["drops"] == drops
    done = CliRunner().invoke(cli, ["report", "--netns", "nowhere", str(tmp_path / "s")])
    assert done.exception.exit_code == 2


def test_a_namespace_whose_inode_was_used_again(tmp_path):
    writer = Writer(tmp_path / "s", MANIFEST)
    for number, name in enumerate(("old", "new"), 1):
        ts = TS + number * NSEC
        writer.state(schema.Space(ts - 5, NETNS, name))
        writer.add(drop(ts=ts - 5))
        writer.commit(second(number, moved(number, last=ts - 5)))
    writer.close(ended=ts)
    for name, drops in (("old", 1), ("new", 2), (str(NETNS), 3)):
        done = CliRunner().invoke(cli, ["report", "-j", "--netns", name, str(tmp_path / "s")])
        found = json.loads(done.stdout)
        assert found["totals"]["drops"] == drops
        assert found["hosts"]["named"][0]["packets"] == drops


def test_a_sleep_is_a_gap(tmp_path):
    """CLOCK_BOOTTIME goes on while a machine is suspended; counters were read before and after."""
    writer = Writer(tmp_path / "s", MANIFEST)
    before = TS
    for end in (TS + NSEC, TS + 3600 * NSEC, TS + 3601 * NSEC):
        writer.commit(Second(before, end, 0))
        before = end
    writer.close(ended=end)
    (report,) = made(tmp_path / "s")
    (gap,) = report["recording"]["gaps"]
    assert (gap["since"], gap["until"]) == (timestamp(TS + NSEC), timestamp(TS + 3600 * NSEC))
