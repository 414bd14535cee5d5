"""`pmtutrace trace` beside real packets: its lines, its summary and the kernel agree."""

import json
import os
import select
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from traced import COMMAND, Trace, run

from pmtutrace import lab
from pmtutrace.kernel import netns
from pmtutrace.lab import Traffic
from pmtutrace.lab.run import exercise
from pmtutrace.lab.scenarios import named
from pmtutrace.lab.scenarios.routed import STRANGER, A, B, routed
from pmtutrace.lab.traffic import COUNT, send
from routers import GATES, TARGETS, TOPOLOGY, awaited, provoke

pytestmark = pytest.mark.live
V4, V6 = (Traffic("udp", "a", A[version], B[version]) for version in (4, 6))
# To an address of its own: the sender has learned the path MTU to the other, and raw sockets obey.
SILENT = Traffic("raw-udp", "a", STRANGER[4], "10.77.2.99")


def only(net, node="r"):
    """Return the option that keeps everybody else's packets out."""
    return ("--netns", net[node].name)


@pytest.fixture(scope="module")
def net():
    """A router between two hosts, for all tests that only send another kind of traffic."""
    with lab.built(routed()) as net:
        yield net


def seen(net, *traffics, words=(), count=None):
    """Send traffics beside a trace of the router; return the trace, which has ended."""
    with Trace("--all", *only(net), *words) as trace:
        for traffic in traffics:
            send(net, traffic)
        assert trace.end(None if count else 2) == 0
        return trace.drops, trace.summary, trace.stderr


@pytest.mark.parametrize(
    "name",
    [
        "route-v4-udp-forward",
        "route-v6-echo-forward",
        "route-v6-tcp-forward",
        "route-v4-no-route-back",
        "route-v4-news-filtered",
        "vxlan-df-v4-udp-forward",
        "vxlan-bridge-v6-udp",
        "bridge-v4-udp",
    ],
)
def test_one_line_for_each_refused_packet(name):
    scenario = named(name)
    expected = scenario.expected
    with lab.built(scenario) as net, Trace("--all", *only(net)) as trace:
        kernel = exercise(net, scenario)
        assert trace.end() == 0
        lines, drops, summary = trace.lines, trace.drops, trace.summary
        assert trace.stderr == ""
    assert kernel == {item.name: item.delta for item in scenario.kernel}
    assert len(drops) == summary["drops"] == COUNT
    others = summary["icmp_received"] + summary["pmtu_changes"]
    assert len(lines) == summary["events_streamed"] == COUNT + others
    assert summary["verdicts"] == {expected.verdict: COUNT}
    assert [drop["count"] for drop in drops] == [1] * COUNT
    for drop in drops:
        assert drop["netns"] == net["r"].name
        assert drop["site"] == drop["location"].partition("+")[0].partition(".")[0]
        assert (drop["site"], drop["dev"], drop["mtu"]) == (
            expected.site,
            expected.dev,
            expected.mtu,
        )
        assert (drop["verdict"], drop["cause"] or None) == (expected.verdict, drop["cause"])
        flow = drop["flow"]
        assert (flow["saddr"], flow["daddr"]) == (scenario.traffic.saddr, scenario.traffic.daddr)
        assert (drop["tunnel"] or {}).get("name") == expected.tunnel
        assert bool(drop["outer"]) == expected.outer


def test_the_flow_of_a_datagram(net):
    (drop, *_), _, _ = seen(net, V4)
    assert drop["flow"] == {
        "saddr": "10.77.1.1",
        "daddr": "10.77.2.1",
        "proto": "udp",
        "sport": 2323,
        "dport": 9,
    }
    assert (drop["len"], drop["mtu"], drop["df"], drop["gso"]) == (1500, 1400, True, 0)
    assert (drop["dev"], drop["indev"], drop["schema"]) == ("rb", "ra", 1)


def test_the_summary_is_the_kernels_own_count(net):
    before = net["r"].counters()
    _, summary, _ = seen(net, V4, V6, SILENT)
    after = net["r"].counters()

    def moved(name):
        return after[name] - before[name]

    assert summary["drops"] == moved("IpFragFails") + moved("Ip6FragFails") == 3 * COUNT
    assert summary["verdicts"]["told"] == moved("IcmpOutDestUnreachs") + moved("Icmp6OutPktTooBigs")
    assert summary["verdicts"] == {"told": 2 * COUNT, "suppressed": COUNT}
    assert summary["causes"] == {"no_route_back": COUNT}
    assert summary["losses"] == dict.fromkeys(summary["losses"], 0)


FILTERS = {
    "-6 -i rb": lambda drop: drop["family"] == 6,
    "-i ra": lambda drop: False,
    "--host 198.51.100.1 --host fd77:1::1": (
        lambda drop: drop["flow"]["saddr"] in ("198.51.100.1", "fd77:1::1")
    ),
    "--site ip_forward --verdict suppressed": lambda drop: drop["verdict"] == "suppressed",
    "--tunnel vx0": lambda drop: False,
}


@pytest.fixture(scope="module")
def mixed(net):
    """All drops of a mix, unfiltered, and all filters' traces of the same packets."""
    traces = {words: Trace("--all", *only(net), *words.split()) for words in ("", *FILTERS)}
    try:
        for traffic in (V4, V6, SILENT):
            send(net, traffic)
        ended = {}
        for words, trace in traces.items():
            assert trace.end() == 0
            ended[words] = (trace.drops, trace.summary)
        yield ended
    finally:
        for trace in traces.values():
            trace.__exit__()


@pytest.mark.parametrize("words", FILTERS)
def test_a_filter_means_the_same_for_lines_and_summary(mixed, words):
    every, _ = mixed[""]
    drops, summary = mixed[words]
    wanted = [drop for drop in every if FILTERS[words](drop)]
    assert len(every) == 3 * COUNT
    strip = [{**drop, "ts": None} for drop in drops]
    assert strip == [{**drop, "ts": None} for drop in wanted]
    assert summary["drops"] == summary["events_streamed"] == len(wanted)


def test_a_filter_on_tunnels_and_devices(request):
    scenario = named("vxlan-df-v4-udp-forward")
    with (
        lab.built(scenario) as net,
        Trace("--all", *only(net), "--tunnel", "vx0") as tunnel,
        Trace("--all", *only(net), "-i", "ru") as device,
        Trace("--all", *only(net), "-i", "vx0") as other,
    ):
        exercise(net, scenario)
        for trace, count in ((tunnel, COUNT), (device, COUNT), (other, 0)):
            assert trace.end() == 0
            assert (len(trace.drops), trace.summary["drops"]) == (count, count)


def test_path_mtus_and_messages_that_arrive_are_among_the_lines():
    with lab.built(TOPOLOGY) as net:
        space = ("--netns", net["a"].name)
        with (
            Trace(*space) as lines,
            Trace(*space, "--verdict", "told") as none,
            Trace(*space, text=True) as text,
        ):
            for mtu in (1390, 500, 1300):
                assert provoke(net, 4, TARGETS[4][0], mtu)
                lines.wait_for(
                    lambda line, mtu=mtu: line["type"] == "icmp_received" and line["mtu"] == mtu
                )
                awaited(lambda mtu=mtu: f"{mtu} received" in text.stdout)
            assert [trace.end() for trace in (lines, none, text)] == [0, 0, 0]
            found, summary = lines.lines, lines.summary
            assert none.lines == []
            assert (none.summary["icmp_received"], none.summary["pmtu_changes"]) == (0, 0)
            shown, said = text.stdout, text.stderr
    heard = [line for line in found if line["type"] == "icmp_received"]
    assert [(line["mtu"], line["outcome"], line["effective"]) for line in heard] == [
        (1390, "applied", 1390),
        (500, "clamped", 552),
        (1300, "locked", 552),
    ]
    changes = [line for line in found if line["type"] == "pmtu"]
    assert [(line["change"], line["new"], line["via"]) for line in changes] == [
        ("created", 1390, "icmp"),
        ("lowered", 552, "icmp"),
    ]
    assert [line["ts"] for line in found] == sorted(line["ts"] for line in found)
    assert (summary["icmp_received"], summary["pmtu_changes"]) == (3, 2)
    assert ":9, clamped, 552 in force" in shown
    assert f"{TARGETS[4][0]} via {GATES[4]['r']} lowered, was 1390, locked, by icmp" in shown
    assert "3 messages arrived, path MTUs changed 2 times" in said


def test_other_namespaces_are_not_shown(net):
    with lab.built(named("route-v4-news-filtered")) as other, Trace("--all", *only(net)) as trace:
        exercise(other, named("route-v4-news-filtered"))
        assert trace.end() == 0
        assert trace.lines == []
        assert trace.summary["drops"] == 0


def test_count_ends_it(net):
    with Trace("--all", *only(net), "-c", "5") as trace:
        send(net, V4)
        assert trace.end(None) == 0
        assert len(trace.drops) == trace.summary["events_streamed"] == 5
        assert 5 <= trace.summary["drops"] <= COUNT


def test_duration_ends_it(net):
    with Trace("-d", "0.5", *only(net)) as trace:
        assert trace.end(None) == 0
        assert 0.5 <= trace.summary["seconds"] < 3


@pytest.mark.parametrize("rate", [1, 3])
def test_rate_bounds_the_lines_of_a_flow_and_nothing_else(net, rate):
    burst = Traffic("udp", "a", A[4], B[4], count=500)
    other = replace(SILENT, count=500)
    with Trace("--rate", str(rate), *only(net)) as trace:
        for traffic in (burst, other):
            send(net, traffic)
        assert trace.end() == 0
        drops, summary = trace.drops, trace.summary
    assert summary["drops"] == 1000
    assert summary["events_streamed"] == len(drops)
    for verdict in ("told", "suppressed"):
        stamps = sorted(_seconds(drop) for drop in drops if drop["verdict"] == verdict)
        assert stamps
        # In a window of a second that may begin at any moment, the rate may come twice.
        for start in stamps:
            assert sum(start <= stamp < start + 1 for stamp in stamps) <= 2 * rate
    assert sum(drop["count"] for drop in drops) <= 1000


def _seconds(line):
    hours, minutes, seconds = line["ts"][11:-1].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def test_without_json_the_lines_are_data_and_the_summary_is_not(net):
    with Trace("--all", *only(net), text=True) as trace:
        send(net, V4)
        assert trace.end() == 0
        header, *lines = trace.stdout.splitlines()
        said = trace.stderr
    assert header.endswith("VERDICT    FLOW, SITE")
    assert len(lines) == COUNT
    assert all(
        line.endswith("told       udp 10.77.1.1:2323 > 10.77.2.1:9, ip_forward") for line in lines
    )
    assert said.startswith(f"{COUNT} oversize packets dropped in ")
    assert said.endswith(f": {COUNT} told\n")


@pytest.mark.parametrize("words", [("-j",), ()])
def test_a_reader_that_has_seen_enough(net, words, tmp_path):
    """As with `| head -1`: no traceback, and it is no failure."""
    trace = [*COMMAND, "trace", "--all", *only(net), *words]
    with subprocess.Popen(trace, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        deadline = time.monotonic() + 30
        head = subprocess.Popen(["head", "-1"], stdin=child.stdout, stdout=subprocess.PIPE)
        child.stdout.close()
        while head.poll() is None or child.poll() is None:
            send(net, V4)
            assert time.monotonic() < deadline, "it never noticed"
        line, _ = head.communicate()
        said = child.stderr.read().decode()
    assert (head.returncode, child.returncode) == (0, 0)
    assert said == ""
    assert json.loads(line)["type"] == "drop" if words else line.startswith(b"TIME")


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("<&-", 0, ""),
        (">/dev/full", 1, "pmtutrace: No space left on device"),
    ],
)
def test_whatever_the_standard_streams_are(redirection, code, said):
    line = f'"$@" trace -j -d 0.1 {redirection}'
    done = run(command=("sh", "-c", line, "sh", *COMMAND))
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
    types = [json.loads(line)["type"] for line in done.stdout.splitlines()]
    # Before the summary comes whatever others drop on this host.
    assert types[-1:] == ([] if redirection.startswith(">") else ["summary"])


def test_what_the_reader_missed_is_counted_and_strict_says_so(net):
    """A tracer that is held up: the ring runs over, the counters do not."""
    many = Traffic("udp", "a", A[4], B[4], count=9001)
    with Trace("--all", *only(net), "-i", "rb", "--strict") as trace:
        trace.child.send_signal(signal.SIGSTOP)
        send(net, many)
        trace.child.send_signal(signal.SIGCONT)
        assert trace.end() == 4
        summary = trace.summary
        assert summary["drops"] == 9001
        assert summary["events_lost"] == summary["losses"]["ring_full"] > 0
        assert summary["events_streamed"] + summary["events_lost"] == 9001


def test_a_blocked_writer_ends_at_the_second_signal(net):
    """Nobody reads the pipe, and it is full: the first signal cannot be heeded, the second is."""
    unread, pipe = os.pipe()
    words = [*COMMAND, "trace", "-j", "--all", *only(net), "-c", "5000"]
    ready, told = os.pipe()
    named = f"/proc/{os.getpid()}/fd/{told}"
    child = subprocess.Popen([*words, "--ready-file", named], stdout=pipe)
    os.close(pipe)
    try:
        assert os.read(ready, 6) == b"ready\n"
        send(net, replace(V4, count=3000))
        child.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1)
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    finally:
        child.kill()
        child.wait()
        for number in (unread, ready, told):
            os.close(number)


def test_namespaces_without_a_name_cost_nothing(net):
    """As those of containers: to look for their names at every line would hold the reader up."""
    topology = routed()
    with lab.built(topology) as other:
        holder = subprocess.Popen(["nsenter", f"--net={other['r'].path}", "sleep", "60"])
        try:
            with Trace("--all", "--netns", other["r"].name) as trace:
                wait_until_inside(holder, other["r"].inum)
                # Whoever looks at namespaces may have this one open just now.
                subprocess.run(["umount", "--lazy", other["r"].path], check=True)
                send(other, replace(V4, count=2003))
                assert trace.end() == 0
                assert {drop["netns"] for drop in trace.drops} == {other["r"].inum}
                assert len(trace.drops) == 2003
        finally:
            holder.kill()
            holder.wait()


def wait_until_inside(process, inum):
    while Path(f"/proc/{process.pid}/ns/net").stat().st_ino != inum:
        assert process.poll() is None


def test_fail_on(net):
    for words, code in (
        (("--fail-on", "told"), 3),
        (("--fail-on", "drop"), 3),
        (("--fail-on", "suppressed"), 0),
        (("--fail-on", "drop", "-6"), 0),
    ):
        with Trace("--all", *only(net), *words) as trace:
            send(net, V4)
            assert trace.end() == code, words


def test_a_namespace_that_goes_away():
    with lab.built(routed()) as net:
        trace = Trace("--all")
        inum = net["r"].inum
        send(net, V4)
    with trace, lab.built(routed()) as net:
        send(net, V6)
        assert trace.end() == 0
        drops = trace.drops
        assert trace.stderr == ""
    gone = [drop for drop in drops if drop["flow"]["saddr"] == A[4] and drop["netns"] != inum]
    assert len([drop for drop in drops if drop["netns"] == net["r"].name]) >= COUNT
    assert gone or len([drop for drop in drops if drop["netns"] == inum]) >= COUNT


def known(trace):
    """Yield the drops so far whose tunnel is known in full: the inventory has been read."""
    whole, _, _ = trace.stdout.rpartition("\n")
    for line in map(json.loads, whole.splitlines()):
        if line["type"] == "drop" and (line["tunnel"] or {}).get("local"):
            yield line


def test_a_tunnel_that_goes_away():
    scenario = named("vxlan-df-v4-udp-forward")
    with lab.built(scenario) as net, Trace("--all", *only(net)) as trace:
        deadline, sent = time.monotonic() + 30, 0
        while not (named_first := next(known(trace), None)):
            assert time.monotonic() < deadline, "the tunnel is not known"
            send(net, scenario.traffic)
            sent += COUNT
            select.select([], [], [], 0.3)
        net["r"].run(lambda: subprocess.run(["ip", "link", "del", "vx0"], check=True))
        trace.wait_for(lambda line: line["type"] == "tunnel")
        assert trace.end() == 0
        drops, summary = trace.drops, trace.summary
        changes = [line for line in trace.lines if line["type"] == "tunnel"]
        assert trace.stderr == ""
    assert len(drops) == summary["drops"] == sent
    (tunnel,) = {json.dumps(drop["tunnel"]) for drop in drops if drop["ts"] >= named_first["ts"]}
    assert json.loads(tunnel) == {
        "name": "vx0",
        "type": "vxlan",
        "local": "192.0.2.1",
        "remote": "192.0.2.2",
        "overhead": 50,
    }
    assert [(line["change"], line["name"], line["kind"]) for line in changes] == [
        ("gone", "vx0", "vxlan")
    ]


def test_hostile_names():
    """Names that a terminal would obey reach it escaped, and cannot make a second line of JSON."""
    space, device = "\x1b[31m\nx\udcff", "r\x1b[2J\u202eé"
    named = Path(netns.RUN, space)
    with lab.built(routed()) as net:
        named.touch()
        subprocess.run(["mount", "--bind", net["r"].path, named], check=True)
        try:
            for words in (
                ("link", "set", "rb", "down"),
                ("link", "set", "rb", "name", device),
                ("link", "set", device, "up"),
                ("route", "replace", "10.77.2.0/24", "dev", device),
            ):
                net["r"].run(lambda words=words: subprocess.run(["ip", *words], check=True))
            with (
                Trace("--all", *only(net), "-i", device) as lines,
                Trace("--all", *only(net), text=True) as text,
            ):
                send(net, V4)
                assert (lines.end(), text.end()) == (0, 0)
                assert (lines.stderr, len(lines.drops)) == ("", COUNT)
                assert {drop["netns"] for drop in lines.drops} == {space}
                assert {drop["dev"] for drop in lines.drops} == {r"r\x1b[2J\u202e" + "é"}
                _, *rows = text.stdout.splitlines()
                assert len(rows) == COUNT
                assert all(r" \x1b[31m\nx\udcff r\x1b[2J\u202eé " in row for row in rows)
                assert (text.stdout + text.stderr).replace("\n", "").isprintable()
        finally:
            subprocess.run(["umount", "--lazy", named], check=True)
            named.unlink()
