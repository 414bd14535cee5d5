"""The page of a report: what is in it, what is not, and how it is made smaller."""

import base64
import hashlib
import html.parser
import itertools
import json
import re
import stat

import pytest
from click.testing import CliRunner

import night
from night import Night
from pmtutrace.cli.verbs import cli
from pmtutrace.diagnosis.timeline import Step, Timeline
from pmtutrace.report import build
from pmtutrace.report import series as over_time
from pmtutrace.report.html import charts, flows, page, words
from pmtutrace.report.series import series
from pmtutrace.session import rates, schema
from pmtutrace.session.reader import Reader
from pmtutrace.session.writer import Second, Writer
from recorded import MANIFEST, NETNS, NSEC, counted, moved, second, write
from samples import TS

LARGEST = 400_000  # octets of a page, but for what was recorded
TINY = {"drops": 400, "flows": 40, "hours": 1.25, "silent": (0, 0)}


def rendered(*paths):
    """Return the page of sessions, and the object that it draws from."""
    reports, drops, readers = [], [], [Reader(path) for path in paths]
    for group in build.groups(readers):
        reports.append(build.build(group))
        drops.append(series(group, reports[-1]))
    for reader in readers:
        reader.close()
    made = page.page(reports, drops)
    (island,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', made)
    return made, json.loads(island)


@pytest.fixture(scope="module")
def a_night(tmp_path_factory):
    path = tmp_path_factory.mktemp("night") / "s"
    night.write(path, Night(**TINY))
    return rendered(path)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    path = tmp_path_factory.mktemp("empty") / "s"
    writer = Writer(path, MANIFEST)
    writer.commit(second(1))
    writer.close(ended=TS)
    return rendered(path)


def test_without_what_was_recorded_it_is_small(empty):
    made, island = empty
    assert 40_000 < len(made.encode()) < LARGEST
    assert island["flows"] == {"columns": {}, "left": 0, "left_packets": 0}
    assert island["hosts"][0]["drops"]["after"] == []
    assert "No findings." in made


class Elements(html.parser.HTMLParser):
    """Collects elements with their attributes, and the text of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self.inside = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside in ("script", "style"):
            self.texts.setdefault(self.inside, []).append(data)


def test_it_names_no_other_place(a_night):
    found = Elements(a_night[0]).found
    links = {
        value for _, attrs in found for name, value in attrs.items() if name in ("src", "href")
    }
    assert {link for link in links if not link.startswith("#")} == {"data:,"}
    assert not {tag for tag, _ in found} & {"img", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", a_night[0])


def test_its_policy_lets_only_its_own_style_and_script_run(a_night):
    seen = Elements(a_night[0])
    ((_, meta),) = (
        one for one in seen.found if one[1].get("http-equiv") == "Content-Security-Policy"
    )
    policy = dict(part.split(" ", 1) for part in meta["content"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    for name, sources in (("style", seen.texts["style"]), ("script", seen.texts["script"][-1:])):
        digest = base64.b64encode(hashlib.sha256("".join(sources).encode()).digest()).decode()
        assert policy[f"{name}-src"] == f"'sha256-{digest}'"
    assert all("style" not in attrs for _, attrs in seen.found)


def test_every_id_is_there_once_and_every_label_leads_somewhere(a_night):
    found = Elements(a_night[0]).found
    ids = [attrs["id"] for _, attrs in found if "id" in attrs]
    assert len(ids) == len(set(ids))
    for name in ("aria-labelledby", "aria-describedby"):
        assert {attrs[name] for _, attrs in found if name in attrs} <= set(ids)
    assert {attrs["href"][1:] for tag, attrs in found if tag == "a"} <= set(ids)


def test_what_is_drawn_is_what_was_counted(a_night):
    made, island = a_night
    (host,) = island["hosts"]
    sums = {
        name: sum(packets)
        for name, packets in zip(host["drops"]["verdicts"], host["drops"]["packets"], strict=True)
    }
    columns = island["flows"]["columns"]
    by_flow = {}
    for verdict, packets in zip(columns["verdict"], columns["packets"], strict=True):
        name = island["words"][verdict]
        by_flow[name] = by_flow.get(name, 0) + packets
    assert sums == by_flow
    assert sum(sums.values()) == TINY["drops"]
    assert f'<td class="number strong">{TINY["drops"]}</td>' in made
    (path,) = (one for one in host["paths"] if island["words"][one["daddr"]] == night.remote(1))
    assert (path["base"], path["floor"]) == (1500, night.FLOOR)
    assert len(path["at"]) == path["steps"] == len(path["mtu"])
    ((began, ended, floor, locked, *seen),) = path["bands"]
    assert (began, ended) == (night.FIRST_S * 1000, (night.FIRST_S + night.EPISODE_S) * 1000)
    assert (floor, locked, seen) == (night.FLOOR, 1, [1, 1])


def test_hosts_whose_clocks_differ_share_one_axis(tmp_path):
    """Both saw one collapse at one time; the second one's clock was set by an hour meanwhile."""
    hour = 3600 * NSEC
    one = Night(**TINY)
    late = Night(**TINY, offset=one.offset + 5 * NSEC, clock_set=(1000, -hour), ahead=hour)
    night.write(tmp_path / "a", one)
    night.write(tmp_path / "b", late, host="edge8", boot_id="b", session="b")
    _, island = rendered(tmp_path / "a", tmp_path / "b")
    first, other = island["hosts"]
    assert (first["began"], first["ended"]) == (other["began"], other["ended"]) == (0, 4_500_000)
    assert first["paths"][0]["bands"] == other["paths"][0]["bands"] != []
    assert list(itertools.accumulate(first["drops"]["after"])) == list(
        itertools.accumulate(other["drops"]["after"])
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gre1", "gre1"),
        ("\u202egpj", "\\u202egpj"),
        ("a\x00\x1b", "a\\x00\\x1b"),
        ("w" * 500, "w" * 200 + "\u2026 (500 characters)"),
        (7, "7"),
    ],
)
def test_names_as_they_are_shown(text, said):
    assert words.shown(text) == said


def test_an_island_ends_no_script():
    value = {"</script><!--": "<&>\u2028\u00e9", "n": None}
    written = words.island(value)
    assert not set("<>&\u2028") & set(written)
    assert written.isascii()
    assert json.loads(written) == value


def test_of_very_many_steps_the_extremes_are_kept():
    """Of 4000 steps, those that a screen of so many parts would show."""
    steps = tuple(Step(n * NSEC, 1400 - (n * 7919) % 800) for n in range(4000))
    line = Timeline(1, 4, "192.0.2.1", 0, 4000 * NSEC, 1500, steps)
    kept = charts.thinned(line, 400)
    assert charts.thinned(line, 4000) == steps
    assert 200 < len(kept) <= 400
    assert (kept[0], kept[-1]) == (steps[0], steps[-1])
    for part in range(100):
        whole = [step.mtu for step in steps[part * 40 : part * 40 + 40]]
        some = [step.mtu for step in kept if part * 40 <= step.ts // NSEC < part * 40 + 40]
        assert {min(whole), max(whole), whole[0], whole[-1]} == set(some)


def test_of_very_many_seconds_sums_and_peaks_are_kept(tmp_path, monkeypatch):
    write_rates(tmp_path / "s", [n % 7 for n in range(1, 300)])
    whole = drops(tmp_path / "s")
    monkeypatch.setattr(over_time, "MOST", 40)
    joined = drops(tmp_path / "s")
    assert (whole.width, joined.width) == (None, 8)
    assert len(joined.spans) <= 40
    for made in (whole, joined):
        assert sum(span.packets["told"] for span in made.spans) == sum(n % 7 for n in range(1, 300))
        assert max(span.peak for span in made.spans) == 6


def write_rates(path, rates_):
    writer = Writer(path, MANIFEST)
    for number, packets in enumerate(rates_, 1):
        writer.commit(second(number, moved(packets, last=TS + number * NSEC)))
    writer.close()


def drops(path, *named):
    with Reader(path) as reader:
        return series([reader], build.build([reader], named))


def test_what_turns_out_lost_was_never_told(tmp_path):
    writer = Writer(tmp_path / "s", MANIFEST)
    lost = counted("lost")
    writer.commit(second(1, moved(3)))
    writer.commit(second(2, moved(1)))
    writer.commit(second(3, moved(-2), moved(2, lost)))
    writer.close()
    found = drops(tmp_path / "s")
    assert [span.packets for span in found.spans] == [{"told": 2}, {"lost": 2}]
    assert sorted(found.verdicts) == ["lost", "told"]


def test_rates_are_those_of_the_deltas(tmp_path):
    write(tmp_path / "s", seconds=5)
    with Reader(tmp_path / "s") as reader:
        found = [(rate.since, rate.ts, rate.packets) for rate in rates.rates(reader.file)]
        assert found == [
            (began, ended, {"told": delta.packets}) for began, ended, delta in reader.deltas()
        ]


def test_fragments_are_no_drops(tmp_path):
    writer = Writer(tmp_path / "s", MANIFEST)
    writer.commit(second(1, moved(3, counted("none")), moved(2)))
    writer.commit(Second(None, TS + 60 * NSEC, 17, (moved(1, counted("none")),)))
    writer.close()
    assert [span.packets for span in drops(tmp_path / "s").spans] == [{"told": 2}]


def test_namespaces_that_are_not_wanted_do_not_count(tmp_path):
    writer = Writer(tmp_path / "s", MANIFEST)
    writer.state(schema.Space(TS, NETNS + 1, "other"))
    full = counted(netns=0, site="overflow")
    writer.commit(second(1, moved(3), moved(5, counted(netns=NETNS + 1)), moved(2, full)))
    writer.close()
    sums = [drops(tmp_path / "s", *named).spans[0].packets for named in ((), ("other",))]
    assert sums == [{"told": 10}, {"told": 7}]


def test_of_very_many_flows_the_largest_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(flows, "MOST", 7)
    night.write(tmp_path / "s", Night(**TINY))
    found = rendered(tmp_path / "s")[1]["flows"]
    assert (len(found["columns"]["packets"]), found["left"]) == (7, 33)
    assert sum(found["columns"]["packets"]) + found["left_packets"] == TINY["drops"]


def test_the_command_writes_a_new_file_that_only_we_may_read(tmp_path):
    write(tmp_path / "s")
    out = tmp_path / "page.html"
    done = CliRunner().invoke(cli, ["report", "--html", str(out), str(tmp_path / "s")])
    assert (done.exit_code, done.output) == (0, "")
    assert out.read_text().startswith("<!DOCTYPE html>\n")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    again = CliRunner().invoke(cli, ["report", "--html", str(out), str(tmp_path / "s")])
    assert again.exception.exit_code == 2
    piped = CliRunner().invoke(cli, ["report", "--html", "-", str(tmp_path / "s")])
    assert piped.stdout.startswith("<!DOCTYPE html>\n")


def colours(theme):
    """Return the colours of verdicts, as shares of red, green and blue."""
    name, block = ("dark.css", r"(.*)") if theme == "dark" else ("page.css", r":root \{(.*?)\}")
    block = re.search(block, (page.HERE / name).read_text(), re.DOTALL)[1]
    found = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block))
    return {
        name: [int(found[name][at : at + 2], 16) / 255 for at in (1, 3, 5)]
        for name in ("told", "suppressed", "lost", "never_attempted", "local")
    }


# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
KINDS_OF_SIGHT = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def lab(rgb, sight):
    """Return what an eye makes of a colour, in CIELAB (D65)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    seen = [min(1, max(0, sum(m * c for m, c in zip(row, linear, strict=True)))) for row in sight]
    to_xyz = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = [sum(m * c for m, c in zip(row, seen, strict=True)) for row in to_xyz]
    white = (0.9505, 1.0, 1.089)
    f = [
        t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116
        for t in (c / w for c, w in zip(xyz, white, strict=True))
    ]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


@pytest.mark.parametrize("sight", KINDS_OF_SIGHT)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_verdicts_can_be_told_apart_with_any_sight(theme, sight):
    seen = {name: lab(rgb, KINDS_OF_SIGHT[sight]) for name, rgb in colours(theme).items()}
    for one, other in itertools.combinations(seen, 2):
        apart = sum((a - b) ** 2 for a, b in zip(seen[one], seen[other], strict=True)) ** 0.5
        assert apart > 15, (one, other, round(apart, 1))
