"""What other tools make of an exported session."""

import csv
import json
import re
import subprocess
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from golden.test_lines import EVENTS
from pmtutrace import jsonl
from pmtutrace.cli.choice import VERDICTS
from pmtutrace.cli.export import DISSECTOR
from pmtutrace.cli.verbs import cli
from pmtutrace.events import Drop, Flow, Fragmented, TunnelRef
from pmtutrace.session.writer import Writer
from recorded import MANIFEST, NETNS, NSEC, counted, moved, second, write
from samples import TS, drop

EACH = len(EVENTS) + 1
IPV4 = bytes.fromhex("450005dc0001400040110000") + bytes([10, 77, 1, 1, 10, 77, 2, 1])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.pmtu"


def exported(path, *words):
    done = CliRunner().invoke(cli, ["export", str(path), *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def printed(path, *words):
    done = CliRunner().invoke(cli, ["print", str(path), "-j", *words])
    return [json.loads(line) for line in done.stdout.splitlines()]


def tshark(path, *words):
    """Return one line for each packet."""
    command = ["tshark", "-n", "-r", str(path), "-X", f"lua_script:{DISSECTOR}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "rror" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def test_json_lines_are_those_of_trace(path):
    write(path, seconds=1)
    *lines, summary = map(json.loads, exported(path, "--to", "jsonl").stdout.splitlines())
    names = {NETNS: "edge"}
    wanted = [jsonl.event(event, names) for event in EVENTS.values()]
    assert [{**line, "ts": None} for line in lines[:-1]] == [
        {**json.loads(json.dumps(line)), "ts": None} for line in wanted
    ]
    assert (summary["drops"], summary["verdicts"], summary["events_streamed"]) == (
        7,
        {"told": 7},
        EACH,
    )


@pytest.fixture(scope="module")
def pcapng(tmp_path_factory):
    """A capture of seven kinds of packets, some of them on interfaces with hostile names."""
    path = tmp_path_factory.mktemp("pcapng") / "s.pmtu"
    writer = Writer(path, MANIFEST)
    six = bytes.fromhex("6000000005a81140") + bytes(32)
    kinds = [
        drop(packet=IPV4 + bytes(108)),
        drop(packet=IPV4 + bytes(108), verdict="suppressed", cause="no_route_back", mtu=1276),
        drop(packet=IPV4 + bytes(3), verdict="lost", cause="NETFILTER_DROP nft_do_chain OUTPUT"),
        drop(packet=six, family=6, dev="gre1", tunnel=TunnelRef("gre1", "gre"), count=17),
        drop(packet=IPV4, dev='e"\\x1b verdict=told', verdict="suppressed", cause="unknown"),
        Fragmented(TS, NETNS, 0, 1450, 1300, 4, "eth1", 3, None, Flow("", "", 0), None, 3, IPV4),
        drop(packet=IPV4, netns=7, length=None),
    ]
    for at, event in enumerate([*kinds, drop(packet=b""), EVENTS["a tunnel appears"]]):
        writer.add(event if not isinstance(event, Drop) else drop(**_fields(event), ts=TS + at))
    writer.commit(second(1))
    writer.close()
    out = path.with_name("out.pcapng")
    exported(path, "--to", "pcapng", "-o", str(out))
    return out


def _fields(event):
    return {name: getattr(event, name) for name in event.__slots__ if name != "ts"}


def test_tshark_reads_every_packet_with_its_comment(pcapng):
    fields = ("frame.time_epoch", "frame.interface_name", "frame.len", "frame.cap_len")
    words = [word for field in (*fields, "frame.comment") for word in ("-e", field)]
    rows = [line.split("\t") for line in tshark(pcapng, "-T", "fields", *words)]
    assert len(rows) == 7
    first = rows[0]
    assert first[:4] == [f"{TS // NSEC}.{TS % NSEC:09}", "eth1", "1500", "128"]
    assert first[4] == (
        "pmtutrace type=drop verdict=told site=ip_forward reason=PKT_TOO_BIG mtu=1400 len=1500 "
        f"netns={NETNS} count=1"
    )
    assert [row[1] for row in rows[3:]] == ["gre1", 'e"\\x1b verdict=told', "eth1", "eth1"]
    assert all(row[4].startswith("pmtutrace type=") for row in rows)


def test_packets_are_taken_for_what_they_are(pcapng):
    protocols = tshark(pcapng, "-T", "fields", "-e", "frame.protocols")
    assert protocols[0].startswith("raw:ip")
    assert protocols[3].startswith("raw:ipv6")


def test_fields_of_the_dissector(pcapng):
    names = re.findall(r'"pmtutrace\.(\w+)"', DISSECTOR.read_text())
    words = [word for name in names for word in ("-e", f"pmtutrace.{name}")]
    rows = [
        dict(zip(names, line.split("\t"), strict=True))
        for line in tshark(pcapng, "-T", "fields", *words)
    ]
    told = {"type": "drop", "verdict": "told", "cause": "", "site": "ip_forward"}
    told |= {"reason": "PKT_TOO_BIG", "mtu": "1400", "len": "1500", "tunnel": "", "count": "1"}
    assert rows[0] == told | {"netns": str(NETNS)}
    assert rows[1] == rows[0] | {"verdict": "suppressed", "cause": "no_route_back", "mtu": "1276"}
    lost = {"verdict": "lost", "cause": "NETFILTER_DROP nft_do_chain OUTPUT"}
    assert rows[2] == rows[0] | lost
    assert rows[3] == rows[0] | {"tunnel": "gre1", "count": "17"}
    assert rows[4] == rows[0] | {"verdict": "suppressed", "cause": "unknown"}
    assert (rows[5]["type"], rows[5]["verdict"], rows[5]["mtu"]) == ("fragmented", "", "1300")
    assert rows[6] == rows[0] | {"netns": "7", "len": ""}


@pytest.mark.parametrize(
    ("wanted", "count"), [('pmtutrace.verdict == "suppressed"', 2), ("pmtutrace.mtu < 1350", 2)]
)
def test_fields_can_be_filtered_by(pcapng, wanted, count):
    assert len(tshark(pcapng, "-Y", wanted)) == count


def test_there_is_one_link_type(pcapng):
    types = tshark(pcapng, "-T", "fields", "-e", "frame.encap_type")
    assert set(types) == {"7"}  # WTAP_ENCAP_RAW_IP, in Wireshark's own numbers
    said = subprocess.run(["capinfos", "-E", str(pcapng)], capture_output=True, text=True)
    assert "File encapsulation:  Raw IP" in said.stdout


def test_the_dissector_is_printed():
    done = CliRunner().invoke(cli, ["export", "--lua"])
    assert done.stdout == DISSECTOR.read_text()


def test_csv_adds_up_and_says_nothing_that_a_spreadsheet_obeys(path):
    writer = Writer(path, MANIFEST)
    evil = counted(flow=Flow("10.0.0.1", "10.0.0.2", 6, 1, 2), cause="=1+1")
    writer.commit(second(1, moved(7), moved(4, evil)))
    writer.commit(second(2, moved(-2)))
    writer.close()
    rows = list(csv.DictReader(exported(path, "--to", "csv").stdout.splitlines()))
    assert [int(row["packets"]) for row in rows] == [7, 4, -2]
    assert rows[1]["cause"] == "'=1+1"
    assert (rows[0]["host"], rows[0]["dev"], rows[0]["flow_sport"]) == ("edge7", "eth1", "2323")
    assert [int(row["until"]) for row in rows] == [TS + NSEC, TS + NSEC, TS + 2 * NSEC]


def test_duckdb_reads_parquet_and_adds_up_to_the_summary(path, tmp_path):
    write(path)
    out = tmp_path / "out"
    exported(path, "--to", "parquet", "-o", str(out))
    *lines, summary = printed(path)
    counters = duckdb.read_parquet(str(out / "counters.parquet"))
    verdicts = counters.aggregate("verdict, sum(packets)::BIGINT").fetchall()
    assert dict(verdicts) == summary["verdicts"] == {"told": 21}
    assert counters.aggregate("host, epoch_us(min(since))").fetchall() == [("edge7", TS // 1000)]
    kinds = {"drop": "drop", "pmtu": "path_mtu_change", "icmp_received": "icmp_received"}
    for kind, name in kinds.items():
        events = duckdb.read_parquet(str(out / f"{name}.parquet"))
        found = events.project("count(*)").fetchall()[0][0]
        assert found == sum(line["type"] == kind for line in lines) > 0
    drops = duckdb.read_parquet(str(out / "drop.parquet"))
    types = dict(zip(drops.columns, map(str, drops.types), strict=True))
    wanted = {"ts": "TIMESTAMP WITH TIME ZONE", "df": "BOOLEAN", "mtu": "BIGINT", "packet": "BLOB"}
    assert {name: types[name] for name in wanted} == wanted
    assert drops.filter("octet_length(packet) = 128").shape[0] == 3
    assert drops.filter("netns_name = 'edge'").shape[0] > 0
    with pytest.raises(FileExistsError):
        exported(path, "--to", "parquet", "-o", str(out))


@pytest.fixture
def mixed(path):
    """A session in which drops of all verdicts are counted more often than shown."""
    writer = Writer(path, MANIFEST)
    for number, verdict in enumerate(VERDICTS, 1):
        for at in range(number):
            kind = {"verdict": verdict, "packet": IPV4 + bytes(108), "ts": TS + number * NSEC + at}
            writer.add(drop(cause="unknown" if verdict == "suppressed" else None, **kind))
        key = counted(verdict, cause="no_room" if verdict == "suppressed" else None)
        writer.commit(second(number, moved(23 * number, key)))
    writer.commit(second(len(VERDICTS) + 1, moved(7, counted("none")), moved(-3, counted("told"))))
    writer.close()
    return path


def test_a_field_filter_finds_what_print_finds(mixed, tmp_path):
    out = tmp_path / "out.pcapng"
    exported(mixed, "--to", "pcapng", "-o", str(out))
    found = {}
    for verdict in VERDICTS:
        found[verdict] = len(tshark(out, "-Y", f'pmtutrace.verdict == "{verdict}"'))
        shown = [x for x in printed(mixed, "--verdict", verdict) if x["type"] == "drop"]
        assert found[verdict] == len(shown)
    assert found == {verdict: number for number, verdict in enumerate(VERDICTS, 1)}


def test_parquet_and_csv_have_the_totals_of_report(mixed, tmp_path):
    out = tmp_path / "out"
    exported(mixed, "--to", "parquet", "-o", str(out))
    exported(mixed, "--to", "csv", "-o", str(out / "counters.csv"))
    report = CliRunner().invoke(cli, ["report", "-j", str(mixed)], catch_exceptions=False)
    totals = json.loads(report.stdout)["totals"]
    for name, read in (("parquet", duckdb.read_parquet), ("csv", duckdb.read_csv)):
        table = read(str(out / f"counters.{name}"))
        dropped = table.filter("verdict <> 'none'")
        sums = "sum(packets)::BIGINT"
        assert dropped.aggregate(sums).fetchall() == [(totals["drops"],)]
        assert dict(dropped.aggregate(f"verdict, {sums}").fetchall()) == totals["verdicts"]
        causes = dropped.filter("cause <> ''").aggregate(f"cause, {sums}").fetchall()
        assert dict(causes) == totals["causes"]
        left = table.filter("verdict = 'none'").aggregate(sums).fetchall()
        assert left == [(totals["fragmented"],)]
    events = duckdb.read_parquet(str(out / "drop.parquet")).shape[0]
    assert events == totals["events_streamed"] == sum(range(len(VERDICTS) + 1))
    assert totals["drops"] == 23 * events - 3


def test_filters_and_times_are_those_of_print(path):
    write(path)
    for words in (["--verdict", "suppressed"], ["--since", f"@{TS // NSEC + 1}"], ["-i", "ru"]):
        lines = [json.loads(x) for x in exported(path, "--to", "jsonl", *words).stdout.splitlines()]
        shown = printed(path, *words)
        assert [{**x, "ts": 0} for x in lines] == [{**x, "ts": 0} for x in shown]
        assert 1 < len(lines) < 3 * EACH


@pytest.mark.parametrize("words", [["--to", "parquet"], ["--to", "csv", "-o", "{path}"], []])
def test_what_makes_no_sense_is_a_usage_error(path, words):
    write(path, seconds=1)
    before = path.read_bytes()
    done = CliRunner().invoke(
        cli, ["export", str(path), *(word.format(path=path) for word in words)]
    )
    assert getattr(done.exception, "exit_code", done.exit_code) == 2
    assert path.read_bytes() == before


def test_what_is_written_is_for_us_alone(path, tmp_path):
    write(path, seconds=1)
    exported(path, "--to", "csv", "-o", str(tmp_path / "c.csv"))
    exported(path, "--to", "parquet", "-o", str(tmp_path / "p"))
    files = [tmp_path / "c.csv", *(tmp_path / "p").iterdir()]
    assert {Path(file).stat().st_mode & 0o777 for file in files} == {0o600}
