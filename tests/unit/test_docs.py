"""The documents say what the code does: no more, no less."""

import dataclasses
import json
import re
import shlex
import sqlite3
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import recorded
from pmtutrace import errors, jsonl, layout, probing
from pmtutrace.cli import choice, lookout
from pmtutrace.cli import export as export_verb
from pmtutrace.cli import pmtu as pmtu_verb
from pmtutrace.cli import trace as trace_verb
from pmtutrace.cli.judge import Diagnosis
from pmtutrace.cli.verbs import VERBS, cli
from pmtutrace.diagnosis import Case, Finding, facts
from pmtutrace.diagnosis.rules import rules
from pmtutrace.diagnosis.timeline import Gap
from pmtutrace.events import (
    CHANGES,
    ENDS,
    OUTCOMES,
    CounterKey,
    Drop,
    Fragmented,
    IcmpLost,
    IcmpReceived,
    InnerMtu,
    Outer,
    PathMtuChange,
    TunnelChange,
    TunnelRef,
)
from pmtutrace.export.flat import counter_columns
from pmtutrace.kernel import hooks, privileges, sites, sources
from pmtutrace.kernel.loader import Attached
from pmtutrace.lab import Expected, Topology, Traffic
from pmtutrace.lab.endured import Measured
from pmtutrace.lab.incident import VXLAN
from pmtutrace.lab.ruler import Truth
from pmtutrace.lab.run import Result
from pmtutrace.lab.scenarios import ALL
from pmtutrace.pmtu.changes import Known
from pmtutrace.pmtu.exceptions import PathMtu
from pmtutrace.probing import Result as ProbeResult
from pmtutrace.probing import datagram, flights, search, verdict
from pmtutrace.probing.belief import Belief
from pmtutrace.probing.datagram import Datagrams
from pmtutrace.probing.echo import Echo
from pmtutrace.probing.verdict import News, Under, judge
from pmtutrace.probing.verdict import Path as ProbedPath
from pmtutrace.report.build import build
from pmtutrace.report.json import report as report_json
from pmtutrace.report.moments import WHATS
from pmtutrace.session import manifest, schema
from pmtutrace.session.reader import Reader
from pmtutrace.tracing.filters import Filter
from pmtutrace.tracing.summary import summarize
from samples import FLOW, HEARD, LOWERED, drop

TREE = Path(__file__).resolve().parents[2]
DOCS = TREE / "docs"
PAGES = (
    *TREE.glob("*.md"),
    *(TREE / "bpf").glob("*.md"),
    *(TREE / "vagrant").glob("*.md"),
    *DOCS.rglob("*.md"),
)
HEADING = re.compile(r"^(#+) +(.*)$")
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
WORDS = layout.Layout(sources.layout_source())
LOSSES = [*WORDS.words("loss", "LOSS_").values(), "recursion"]


def section(page, title):
    """Return the lines below a heading, up to the next of any level."""
    lines = iter(page.read_text().splitlines())
    for line in lines:
        found = HEADING.match(line)
        if found and found[2].replace("`", "") == title:
            break
    else:
        pytest.fail(f"{page.name} has no section {title!r}")
    out = []
    for line in lines:
        if HEADING.match(line):
            break
        out.append(line)
    return out


def table(page, title, number=0):
    """Return the rows of a section's table as dicts by the names of its columns."""
    tables, rows = [], []
    for line in [*section(page, title), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            tables.append(rows)
            rows = []
    head, rule, *body = tables[number]
    assert all(set(cell) <= set("-:") for cell in rule)
    assert all(len(row) == len(head) for row in body), f"{page.name}, {title}: a ragged table"
    return [dict(zip(head, row, strict=True)) for row in body]


def first_codes(rows):
    """Return what stands in backquotes in the first column, in order."""
    return [code for row in rows for code in CODE.findall(next(iter(row.values())))]


def fields(title):
    return first_codes(table(DOCS / "events.md", title))


def flat(value, open_objects=()):
    """Return the paths of all members of an object; those of open objects are names of data."""
    out = []
    for key, inner in value.items():
        out.append(key)
        if isinstance(inner, dict) and key not in open_objects:
            out += [f"{key}.{path}" for path in flat(inner)]
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            out += [f"{key}[].{path}" for path in flat(inner[0])]
    return out


def an_event(kind):
    if kind is Drop:
        return drop(tunnel=TunnelRef("gre1", "gre"), outer=Outer("192.0.2.3", "192.0.2.4", 47))
    if kind is IcmpLost:
        outer = Outer("192.0.2.3", "192.0.2.4", 47)
        behind = CounterKey(1, 2, "ip_forward", "lost", None, 4, FLOW, outer)
        return IcmpLost(0, 1, 0, "f", "f+0x1", None, 4, "192.0.2.1", 1400, FLOW, "OUTPUT", behind)
    if kind is IcmpReceived:
        outer = Outer("192.0.2.3", "192.0.2.4", 47)
        return dataclasses.replace(HEARD, outer=outer, tunnel=TunnelRef("gre1", "gre"))
    if kind is PathMtuChange:
        return dataclasses.replace(LOWERED, via="icmp", router="10.0.1.254", quoted=FLOW)
    if kind is Fragmented:
        outer = Outer("192.0.2.3", "192.0.2.4", 17)
        tunnel = TunnelRef("vx0", "vxlan")
        return Fragmented(0, 1, 0, 1450, 1300, 4, "eth0", 2, tunnel, FLOW, outer, 1, b"")
    return TunnelChange(0, 1, "gone", "gre1", "gre", 1476)


def a_summary():
    losses = dict.fromkeys(LOSSES, 0)
    return summarize({}, {}, losses, wanted=Filter(), seconds=1, streamed=0)


class TestEvents:
    @pytest.mark.parametrize(
        "kind", [Drop, IcmpLost, IcmpReceived, Fragmented, TunnelChange, PathMtuChange]
    )
    def test_a_line_has_the_fields_of_its_table_in_order(self, kind):
        line = jsonl.event(an_event(kind), {})
        assert flat(line) == fields(line["type"])

    def test_the_summary_has_the_fields_of_its_table_in_order(self):
        assert flat(a_summary(), ("verdicts", "causes")) == fields("summary")

    def test_the_diagnosis_has_the_fields_of_its_table_in_order(self):
        line = Diagnosis([], Case(began=0, ended=0), None).json()
        assert flat(line) == fields("diagnosis")

    def test_the_losses_of_the_summary_are_those_of_the_kernel_side(self):
        assert [path for path in fields("summary") if path.startswith("losses.")] == [
            f"losses.{kind}" for kind in LOSSES
        ]

    def test_schema_is_the_number_in_the_tables(self):
        for title in (
            "drop",
            "icmp_lost",
            "icmp_received",
            "fragmented",
            "tunnel",
            "summary",
            "diagnosis",
            "exception",
            "pmtu",
        ):
            (row,) = (r for r in table(DOCS / "events.md", title) if r["field"] == "`schema`")
            assert row["meaning"] == str(jsonl.SCHEMA)

    def test_examples_have_just_those_fields(self):
        shown = []
        for text in re.findall(r"```json\n(.*?)\n```", (DOCS / "events.md").read_text(), re.S):
            line = json.loads(text)
            title = line.get("type", "lab run")
            nullable = ("tunnel", "outer", "told")
            optional = {f for f in fields(title) if f.partition(".")[0] in nullable}
            paths = set(flat(line, ("verdicts", "causes", "kernel", "also")))
            assert set(fields(title)) - optional <= paths <= set(fields(title))
            shown.append(title)
        assert {"drop", "summary", "lab run"} <= set(shown)

    def test_protocols_with_a_name(self):
        (line,) = (
            line
            for line in (DOCS / "events.md").read_text().splitlines()
            if line.startswith("Protocols with a name:")
        )
        assert CODE.findall(line) == list(jsonl.PROTOCOLS.values())

    @pytest.mark.parametrize(
        ("title", "enum", "prefix"),
        [("Verdicts", "verdict", "VERDICT_"), ("Causes", "cause", "CAUSE_")],
    )
    def test_verdicts_and_causes_are_those_of_events_h(self, title, enum, prefix):
        rows = table(DOCS / "events.md", title)
        words = list(WORDS.words(enum, prefix).values())
        assert [CODE.findall(next(iter(row.values())))[0] for row in rows] == words
        programs = "".join((sources.folder() / name).read_text() for name in sources.TEXTS)
        programs += (sources.folder() / "include" / "skb.h").read_text()
        for word, row in zip(words, rows, strict=True):
            used = re.search(rf"\b{prefix}{word.upper()}\b", programs) is not None
            wanted = "never" if word == "none" else "yes" if used else "not yet"
            assert row["reported"] == wanted, word

    def test_verdicts_of_the_readme_and_of_the_option(self):
        words = [w for w in WORDS.words("verdict", "VERDICT_").values() if w != "none"]
        assert first_codes(table(TREE / "README.md", "How to read a verdict")) == words
        assert list(choice.VERDICTS) == words

    def test_outcomes(self):
        rows = table(DOCS / "events.md", "Outcomes")
        assert {CODE.findall(row["outcome"])[0]: row["meaning"] for row in rows} == OUTCOMES

    def test_what_can_become_of_a_path_mtu(self):
        (row,) = (r for r in table(DOCS / "events.md", "pmtu") if r["field"] == "`change`")
        assert CODE.findall(row["meaning"]) == [*CHANGES, *ENDS]

    def test_an_exception_has_the_fields_of_its_table_in_order(self):
        item = PathMtu(4, "192.0.2.1", None, 2, None, 254, 1400, False, 600.0)
        inner = (InnerMtu("gre1", "gre", 1376),)
        row = pmtu_verb.Row(0, 1, Known(item, 0, "eth0"), 1.0, 599.0, inner)
        assert flat(row.json()) == fields("exception")

    def test_lab_run(self):
        line = Result("n", "ok", None, 23, 23, {"r IpFragFails": 23}, {"a0:rx_errors": 0}).json()
        assert flat(line, ("kernel", "also")) == fields("lab run")

    def test_lab_incident(self):
        true = Truth(8.0, 2.1, 5, 5, 552, 0, 0)
        line = Measured(VXLAN, "edge", true, {"a": 1}, {"a": "followed"}, {"IpFragFails": 1}, 0.01)
        assert flat(line.json(), ("heard", "kinds", "refused")) == fields("incident")

    def test_moments(self):
        rows = table(DOCS / "events.md", "Moments")
        assert {CODE.findall(row["what"])[0]: row["meaning"] for row in rows} == WHATS

    def test_lab_list(self):
        lines = [scenario.json() for scenario in ALL]
        rows = {CODE.findall(r["field"])[0]: r for r in table(DOCS / "events.md", "lab list")}
        for line in lines:
            assert sorted(line) == sorted(rows)
        for field, kind in (("topology", Topology), ("traffic", Traffic), ("expected", Expected)):
            named = CODE.findall(rows[field]["meaning"])
            assert [n for n in named if "/" not in n] == [
                f.name for f in dataclasses.fields(kind)
            ], field

    def test_vm_list(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PMTUTRACE_CACHE", str(tmp_path))
        said = CliRunner().invoke(cli, ["vm", "list", "-j"], catch_exceptions=False)
        lines = [json.loads(line) for line in said.output.splitlines()]
        assert lines
        for line in lines:
            assert list(line) == fields("vm list")


class TestSession:
    PAGE = DOCS / "session.md"

    def test_tables_and_views(self):
        tables = [next(iter(row.values())) for row in table(self.PAGE, "Tables")]
        assert tables == [f"`{one.name}`" for one in schema.TABLES]
        views = [next(iter(row.values())) for row in table(self.PAGE, "Views")]
        assert views == [f"`{name}`" for name in schema.views()]

    @pytest.mark.parametrize("one", [schema.SECONDS, schema.DELTAS, schema.SUMS, schema.LOSSES])
    def test_columns(self, one):
        assert first_codes(table(self.PAGE, one.name)) == [name for name, _ in one.columns]

    def test_manifest(self):
        rows = {CODE.findall(r["name"])[0]: r["value"] for r in table(self.PAGE, "manifest")}
        assert rows == manifest.NAMES

    def test_report(self, tmp_path):
        recorded.write(tmp_path / "s", boot_id="b", hooks=[{"hook": "why", "blind": "a limit"}])
        with Reader(tmp_path / "s") as reader:
            made = build([reader])
        made.case = dataclasses.replace(made.case, gaps=(Gap(0, 1),))
        made.refs = dict.fromkeys(made.refs, ("gre1", TunnelRef("gre1", "gre")))
        paths = flat(report_json(made), ("totals", "losses", "rhythm"))
        paths = [p for p in paths if not p.startswith(("findings[]", "recording.losses."))]
        assert paths == fields("report")

    def test_export(self):
        formats = [next(iter(row.values())) for row in table(self.PAGE, "Export")]
        assert formats == [f"`{kind}`" for kind in export_verb.FORMATS]
        wanted = [cell.name for cell in counter_columns()]
        assert first_codes(table(self.PAGE, "CSV")) == wanted

    def test_fields_for_wireshark(self):
        fields = re.findall(r'"(pmtutrace\.\w+)"', export_verb.DISSECTOR.read_text())
        assert [next(iter(row.values())) for row in table(self.PAGE, "Wireshark")] == [
            f"`{field}`" for field in fields
        ]

    def test_version(self):
        assert f"Schema version {schema.VERSION}." in self.PAGE.read_text()

    def test_queries_can_be_asked(self, tmp_path):
        recorded.write(tmp_path / "s")
        sql = sqlite3.connect(tmp_path / "s")
        (queries,) = re.findall(r"```sql\n(.*?)```", self.PAGE.read_text(), re.S)
        for query in queries.splitlines():
            assert sql.execute(query).fetchall()
        for name in schema.views():
            assert sql.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608


class TestProbe:
    PAGE = DOCS / "probe.md"

    def test_a_line_has_the_fields_of_its_table_in_order(self):
        belief = Belief("gre1", 7, 1476, 1476)
        under = Under("gre1", "192.0.2.2", 24, 1500, belief)
        path = ProbedPath(4, 528, 528, False, News(None, 528), belief, belief, 529, under)
        result = ProbeResult("a", "192.0.2.1", judge(path), path, "icmp", 0.01, 7, 0.2, under, 0)
        assert flat(result.json()) == fields("probe")

    def test_verdicts(self):
        assert first_codes(table(self.PAGE, "Verdicts")) == list(probing.VERDICTS)

    def test_transports(self):
        assert first_codes(table(self.PAGE, "Transports"))[:1] == [Echo.name]
        assert Datagrams.name in first_codes(table(self.PAGE, "Transports"))

    def test_numbers(self):
        prose = " ".join(self.PAGE.read_text().split())
        assert f"from {datagram.PORT} on" in prose
        assert f"cuts the range by up to {search.FLIGHT + 1}" in prose
        assert (search.TRIES, search.MOST_TRIES, flights.SHORTEST_WAIT_S) == (3, 12, 0.1)
        assert (datagram.BURST, verdict.NARROWEST) == (6, {4: 576, 6: 1280})


class TestFindings:
    PAGE = DOCS / "findings.md"

    def test_fields(self):
        finding = Finding("i", "info", "t", {}, None, None, {}, "c", (), ())
        assert first_codes(
            table(self.PAGE, "Findings: what is wrong, why, and what to do")
        ) == list(finding.json())

    def test_all_of_them(self):
        wanted = {}
        for rule in rules():
            row = wanted.setdefault(rule.id, (rule.severity, [], rule.follows))
            row[1].append(rule.subject)
        rows = table(self.PAGE, "All of them")
        assert first_codes(rows) == sorted(wanted)
        for row, (severity, subjects, follows) in zip(rows, wanted.values(), strict=True):
            assert row["severity"] == severity
            assert row["subject"].split(", ") == subjects
            assert CODE.findall(row["follows from"]) == list(follows)
        titles = re.findall(r"^## `(\w+)`$", self.PAGE.read_text(), re.M)
        assert sorted(titles) == sorted(wanted)

    def test_subjects(self):
        (row,) = (
            row
            for row in table(self.PAGE, "Findings: what is wrong, why, and what to do")
            if row["field"] == "`subject`"
        )
        kinds = CODE.findall(row["meaning"].partition("(")[2].partition(")")[0])
        assert kinds == list(facts.KINDS)

    def test_units(self):
        rows = table(self.PAGE, "Evidence")
        assert {row["unit"]: tuple(CODE.findall(row["facts"])) for row in rows} == facts.UNITS
        used = {fact for rule in rules() for case in rule.cases for fact in case.evidence}
        assert {fact for names in facts.UNITS.values() for fact in names} <= used

    @pytest.mark.parametrize("name", sorted({rule.id for rule in rules()}))
    def test_evidence_and_near_miss(self, name):
        prose = " ".join(section(self.PAGE, name))
        evidence = prose.partition("Evidence")[2].partition(". ")[0]
        wanted = {
            fact
            for rule in rules()
            if rule.id == name
            for case in rule.cases
            for fact in case.evidence
        }
        assert set(CODE.findall(evidence.partition("Near miss")[0])) == wanted
        assert "Near miss: " in prose


class TestDoctor:
    @pytest.fixture
    def lines(self, monkeypatch):
        """What doctor says where the first hook holds on its last rung and the others on none."""

        class Tracer:
            attached = tuple(
                Attached(hook, hook.ladder[-1] if at == 0 else None, (("fentry", "refused"),))
                for at, hook in enumerate(hooks.HOOKS)
            )

            def __init__(self, settings):
                assert not settings.cold

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

        monkeypatch.setattr("pmtutrace.tracing.Tracer", Tracer)
        said = CliRunner().invoke(cli, ["doctor", "-j"], catch_exceptions=False)
        return [json.loads(line) for line in said.stdout.splitlines()]

    def test_every_line_has_the_fields_of_its_table_in_order(self, lines):
        assert {line["type"] for line in lines} == {"check", "hook", "doctor"}
        for line in lines:
            assert flat(line) == fields(line["type"])

    def test_the_checks_are_named(self, lines):
        (row,) = (r for r in table(DOCS / "events.md", "check") if r["field"] == "`name`")
        names = [line["name"] for line in lines if line["type"] == "check"]
        assert CODE.findall(row["meaning"]) == names


def commands(command=cli, path=()):
    """Yield every command with its path; in place of one that cannot be imported, the error."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            try:
                below = command.get_command(context, name)
            except ImportError as error:
                below = error
            yield from commands(below, (*path, name))


def options(command, path):
    """Return every spelling of every option of a command."""
    context = click.Context(command, help_option_names=["-h", "--help"])
    params = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    return sorted(word for p in params for word in (*p.opts, *p.secondary_opts))


COMMANDS = dict(commands())


def command_lines(page):
    """Yield what comes after `pmtutrace`, word by word, in code of a page."""
    text = page.read_text()
    text = re.sub(r" \\\n\s*", " ", text)
    blocks = re.findall(r"^(?: {4}|\t)(.*)$", text, re.M)
    blocks += [line for b in re.findall(r"```sh\n(.*?)```", text, re.S) for line in b.splitlines()]
    inline = re.sub(r"```.*?```", "", text, flags=re.S)
    blocks += CODE.findall(inline.replace("\n", " "))
    call = re.compile(r"(?:^|&& |-- |ssh far |# )(?:sudo )?(?:\S*/)?pmtutrace(?: (.*))?$")
    for line in blocks:
        words = line.partition("  #")[0].strip()
        while found := call.search(words):
            rest = found[1] or ""
            own, _, inside = rest.partition(" -- ")
            yield shlex.split(own)
            words = f"-- {inside}" if inside else ""


def checked(words):
    """Raise AssertionError unless a command line names a verb and options that there are."""
    path = []
    rest = list(words)
    while rest and rest[0] == "--debug":
        rest.pop(0)
    if not rest or rest[0].startswith("-"):
        if rest and rest[0] in ("--version", "-h", "--help"):
            return
        path = ["trace"]
    while rest and not rest[0].startswith("-"):
        if (*path, rest[0]) not in COMMANDS:
            if not path or isinstance(COMMANDS[tuple(path)], click.Group):
                assert rest[0].isupper(), f"there is no verb {' '.join([*path, rest[0]])}"
            break
        path.append(rest.pop(0))
    known = options(COMMANDS[tuple(path)], tuple(path))
    for word in rest:
        if word.startswith("-") and not re.match(r"-\d", word):
            assert word in known, f"{' '.join(path)} has no option {word}"


class TestUsage:
    @pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
    def test_every_option_has_a_row_and_every_row_is_an_option(self, path):
        assert isinstance(COMMANDS[path], click.Command), COMMANDS[path]
        title = " ".join(path) if path else "Usage"
        rows = table(DOCS / "usage.md", title)
        assert sorted(first_codes(rows)) == options(COMMANDS[path], path)

    def test_verbs_come_in_the_order_of_the_help(self):
        titles = [
            line.removeprefix("## ").strip("`")
            for line in (DOCS / "usage.md").read_text().splitlines()
            if line.startswith("## `")
        ]
        assert titles == list(VERBS)

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TREE)))
    def test_command_lines_can_be_run(self, page):
        for words in command_lines(page):
            checked(words)

    def test_command_lines_are_found(self):
        assert len(list(command_lines(TREE / "README.md"))) >= 8
        for wrong in (["nonsense"], ["trace", "--nonsense"], ["lab", "nonsense"], ["--nonsense"]):
            with pytest.raises(AssertionError):
                checked(wrong)

    def test_make_targets_are_in_the_makefile(self):
        targets = re.findall(r"^([a-z-]+):", (TREE / "Makefile").read_text(), re.M)
        for page in PAGES:
            for target in re.findall(r"(?:`|^ {4})make ([a-z-]+)\b", page.read_text(), re.M):
                assert target in targets, page.name

    def test_packages_that_the_makefile_installs_are_in_the_readme(self):
        lists = re.findall(r"^APT_\w+ := (.*)$", (TREE / "Makefile").read_text(), re.M)
        assert len(lists) == 3
        named = CODE.findall("\n".join(section(TREE / "README.md", "Try it")))
        packages = [code for code in named if " " in code and not code.startswith("make ")]
        assert " ".join(" ".join(packages).split()) == " ".join(lists)

    def test_exit_codes(self):
        def below(kind):
            return {kind.exit_code}.union(*(below(k) for k in kind.__subclasses__()))

        wanted = {0, *below(errors.PmtutraceError), trace_verb.FAILED_ON, trace_verb.LOST_DATA}
        for page in (DOCS / "usage.md", TREE / "README.md"):
            assert [int(row["code"]) for row in table(page, "Exit codes")] == sorted(wanted)
        in_help = {int(code) for code in re.findall(r"(\d+) [a-z-]", cli.epilog or "")}
        assert in_help == wanted


class TestService:
    PAGE = DOCS / "systemd.md"

    def test_fields_of_the_journal(self, monkeypatch, tmp_path):
        sent = {}

        def journal(message, priority, **fields):
            sent.update({"MESSAGE": message, "PRIORITY": str(priority)} | fields)
            return True

        monkeypatch.setattr(lookout.systemd, "journal", journal)
        subject = {"kind": "tunnel", "netns": "edge", "name": "gre1"}
        rest = {"severity": "critical", "since": None, "remedy": ["a", "b"], "cause": "c"}
        lookout.told({"id": "i", "title": "t", "subject": subject} | rest, tmp_path)
        rows = table(self.PAGE, "Findings in the journal")
        assert first_codes(rows) == list(sent)
        assert f"`{lookout.MESSAGE_ID}`" in [row["what"] for row in rows]

    def test_what_the_unit_records(self):
        unit = (TREE / "contrib" / "systemd" / "pmtutrace.service").read_text()
        (wanted,) = re.findall(r'"PMTUTRACE_RECORD=(.*)"', unit)
        assert f'PMTUTRACE_RECORD="{wanted}"' in self.PAGE.read_text()
        (first,) = re.findall(r"^ExecStart=pmtutrace (.*) \$PMTUTRACE_RECORD$", unit, re.M)
        checked([*shlex.split(first), *shlex.split(wanted)])

    def test_capabilities_are_those_that_are_kept(self):
        unit = (TREE / "contrib" / "systemd" / "pmtutrace.service").read_text()
        for kind in ("AmbientCapabilities", "CapabilityBoundingSet"):
            (names,) = re.findall(rf"^{kind}=(.*)$", unit, re.M)
            found = {getattr(privileges, name) for name in names.split()}
            assert found == privileges.TRACING


class TestHooks:
    PAGE = DOCS / "hooks.md"

    @pytest.mark.parametrize("hook", hooks.HOOKS, ids=lambda hook: hook.name)
    def test_the_ladder_of_each_hook(self, hook):
        rows = table(self.PAGE, hook.name)
        assert [(row["rung"], CODE.findall(row["attachments"])) for row in rows] == [
            (rung.name, [f"{a.how}:{a.target}" for a in rung.attachments]) for rung in hook.ladder
        ]
        prose = " ".join(section(self.PAGE, hook.name)).replace("`", "")
        assert f"Cost: {hook.cost}" in prose
        assert "Without" in prose or hook.needed

    def test_there_is_no_other_hook(self):
        titles = re.findall(r"^## `(\w+)`$", self.PAGE.read_text(), re.M)
        assert titles == [hook.name for hook in hooks.HOOKS]

    def test_sites(self):
        rows = table(self.PAGE, "Sites")
        assert [
            (CODE.findall(r["site"]), CODE.findall(r["test made again"]), r["silent"]) for r in rows
        ] == [([s.name], [s.check], "yes" if s.silent else "no") for s in sites.SITES]

    def test_where_a_site_may_be_inlined(self):
        prose = CODE.findall("\n".join(section(self.PAGE, "Sites")))
        for site in sites.SITES:
            assert set(site.freed_in) <= set(prose)


class TestCompatibility:
    def test_the_rungs_of_the_tested_kernels(self):
        held = tomllib.loads((TREE / "tests" / "kernel" / "features.toml").read_text())
        rows = table(DOCS / "compatibility.md", "Kernels")
        assert [row["kernel"] for row in rows] == list(held)
        for row in rows:
            ladder = held[row["kernel"]]["hooks"]
            assert (row["`icmp4` by"], row["`icmp6` by"]) == (ladder["icmp4"], ladder["icmp6"])
            assert list(ladder) == [hook.name for hook in hooks.HOOKS]


class TestLimitations:
    PAGE = DOCS / "limitations.md"

    def test_every_kind_of_loss(self):
        assert first_codes(table(self.PAGE, "Losses")) == LOSSES

    def test_sizes_are_those_of_the_sources(self):
        maps, packet = "bpf/maps.bpf.c", "bpf/include/packet.h"
        found = set()
        for file, names in (
            (maps, "MAX_FLOWS|RING_PAGES|NEAR_BITS|[A-Z]+"),
            (packet, "(?:MAX|PORT)_[A-Z_]+"),
        ):
            defined = re.findall(rf"^#define ({names}) (\d+)\b", (TREE / file).read_text(), re.M)
            found |= {(f"`{name}`", value, f"`{file}`") for name, value in defined}
        rows = [(r["constant"], r["value"], r["file"]) for r in table(self.PAGE, "Sizes")]
        assert set(rows) == found
        assert len(rows) == len(found)

    def test_what_the_prose_calls_a_size_is_in_the_table(self):
        sizes = first_codes(table(self.PAGE, "Sizes"))
        assert {
            c for c in CODE.findall(self.PAGE.read_text()) if re.fullmatch(r"[A-Z_]{5,}", c)
        } <= {
            *sizes,
            "PKT_TOO_BIG",
        }


class TestLinks:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TREE)))
    def test_links_within_the_tree_lead_somewhere(self, page):
        for target in LINK.findall(page.read_text()):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            there = (page.parent / name).resolve() if name else page
            assert there.exists(), target
            if anchor:
                titles = [m[2] for m in map(HEADING.match, there.read_text().splitlines()) if m]
                slugs = [re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles]
                assert anchor in slugs, target

    def test_files_that_are_named_are_there(self):
        """Paths in backquotes, from the top of the tree or from the package."""
        roots = (TREE, TREE / "src" / "pmtutrace", TREE / "bpf")
        for page in PAGES:
            for code in CODE.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.S)):
                if re.fullmatch(r"[a-z_0-9]+(/[\w.-]+)*(/|\.(py|h|c|toml|md))", code) and (
                    not code.startswith("linux/")
                ):
                    assert any((root / code).exists() for root in roots), f"{page.name}: {code}"


class TestBpf:
    def test_every_file_is_listed(self):
        base = sources.folder()
        files = [p for p in base.rglob("*") if p.suffix in (".c", ".h", ".toml")]
        rows = table(base / "README.md", "bpf/")
        assert sorted(first_codes(rows)) == sorted(str(p.relative_to(base)) for p in files)


class TestLicences:
    def test_every_file_of_bpf_names_its_licence(self):
        first = "/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */"
        for file in [*(TREE / "bpf").rglob("*.c"), *(TREE / "bpf").rglob("*.h")]:
            assert file.read_text().splitlines()[0] == first, file.name

    def test_texts(self):
        assert "Version 2.0, January 2004" in (TREE / "LICENSE").read_text()
        text = (TREE / "bpf" / "LICENSE").read_text()
        assert "GPL-2.0-only OR BSD-2-Clause" in text
        assert "Redistributions in binary form" in text
