"""`pmtutrace probe` on paths whose MTU is known, as root and as an ordinary user."""

import json
import socket
import struct
import subprocess

import pytest

from pmtutrace import lab
from pmtutrace.lab import Bridge, Port, Route, Topology, Veth, packets
from pmtutrace.lab.scenarios import routed, vxlan
from pmtutrace.lab.scenarios.routed import DROP_NEWS, R_TO_A, B
from pmtutrace.lab.scenarios.tunnelled import B_INNER, B_UNDER, R_UNDER
from probed import COMMAND, USERS, WITHIN_S, as_everybody, longer_dropped, probe

pytestmark = pytest.mark.live


def narrow(mtu, version):
    """Return a path of this MTU, told by the router: on a cable, or, where none can be, a route."""
    if mtu >= 1280:
        return routed.routed(mtu)
    length = {4: 32, 6: 128}[version]
    return routed.routed(1500).having(
        routes=(Route("r", f"{B[version]}/{length}", dev="rb", mtu=mtu),)
    )


@as_everybody
@pytest.mark.parametrize(
    ("version", "mtu", "verdict"),
    [
        (4, 1500, "fine"),
        (4, 1400, "reduced"),
        (4, 1280, "reduced"),
        (4, 576, "reduced"),
        (4, 552, "collapsed"),
        (4, 500, "collapsed"),
        (6, 1500, "fine"),
        (6, 1400, "reduced"),
        (6, 1280, "reduced"),
    ],
)
def test_a_path_whose_router_tells(user, version, mtu, verdict):
    with lab.built(narrow(mtu, version).having(sysctls=user.sysctls)) as net:
        code, (line,) = probe(net["a"], B[version], before=user.before)
    assert (line["mtu"], line["settled"], line["by"]) == (mtu, True, user.by)
    assert line["verdict"] == verdict
    assert code == (0 if verdict == "fine" else 3)
    assert (line["dev"], line["dev_mtu"], line["believed"]) == ("a0", 1500, 1500)
    told = None if mtu == 1500 else {"from": R_TO_A[version], "mtu": mtu}
    assert line["told"] == told
    assert line["hole"] is None
    assert line["round_trip"] == (mtu if user.by == "icmp" else None)


@as_everybody
@pytest.mark.parametrize(
    ("version", "mtu"), [(4, 1300), (4, 1299), (4, 1471), (6, 1300), (6, 1471)]
)
def test_a_black_hole(user, version, mtu):
    hole = routed.routed(1500).having(rules=(longer_dropped("r", mtu),), sysctls=user.sysctls)
    with lab.built(hole) as net:
        code, (line,) = probe(net["a"], B[version], before=user.before)
    assert (line["mtu"], line["settled"]) == (mtu, True)
    assert (line["verdict"], code) == ("black_hole", 3)
    assert (line["hole"], line["told"]) == ([mtu + 1, 1500], None)


@as_everybody
def test_a_hole_into_which_answers_fall_as_well(user):
    """A port unreachable is longer than what it is about: 473 to 500 octets arrive unheard."""
    hole = routed.routed(1500).having(rules=(longer_dropped("r", 500),), sysctls=user.sysctls)
    with lab.built(hole) as net:
        code, (line,) = probe(net["a"], B[4], before=user.before)
    assert (line["verdict"], code) == ("black_hole", 3)
    assert line["settled"] == (user.by == "icmp")
    assert line["mtu"] == 500 if line["settled"] else line["mtu"] <= 472


@as_everybody
def test_a_bridge_that_drops_without_a_word(user):
    """A bridge spares 4 octets for a VLAN tag, tagged or not (is_skb_forwardable())."""
    ends = (
        Port("a", "a0", ("192.0.2.1/24", "2001:db8::1/64")),
        Port("b", "b0", ("192.0.2.2/24", "2001:db8::2/64")),
    )
    inner = (Port("s", "s0", bridge="br"), Port("s", "s1", mtu=1300, bridge="br"))
    switched = Topology(
        (Veth((ends[0], inner[0])), Veth((inner[1], ends[1]))),
        bridges=(Bridge("s", "br"),),
        sysctls=user.sysctls,
    )
    with lab.built(switched) as net:
        code, lines = probe(net["a"], "192.0.2.2", "2001:db8::2", before=user.before)
    assert code == 3
    for line in lines:
        assert (line["mtu"], line["verdict"], line["hole"]) == (1304, "black_hole", [1305, 1500])


@as_everybody
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mtu", [1400, 1280])
def test_a_router_whose_news_is_filtered(user, version, mtu):
    silent = routed.routed(mtu).having(rules=(("r", DROP_NEWS[version]),), sysctls=user.sysctls)
    with lab.built(silent) as net:
        code, (line,) = probe(net["a"], B[version], before=user.before)
    assert (line["mtu"], line["verdict"], code) == (mtu, "black_hole", 3)
    assert line["hole"] == [mtu + 1, 1500]


NO_ECHO = (
    "b",
    "table inet f { chain i { type filter hook input priority 0; "
    "icmp type echo-request drop; icmpv6 type echo-request drop; }; }\n",
)


@as_everybody
@pytest.mark.parametrize("version", [4, 6])
def test_a_host_that_answers_no_echo(user, version):
    mute = routed.routed(1400).having(rules=(NO_ECHO,), sysctls=user.sysctls)
    with lab.built(mute) as net:
        _, (line,) = probe(net["a"], B[version], before=user.before)
    assert (line["mtu"], line["verdict"], line["by"]) == (1400, "reduced", "udp")


@as_everybody
@pytest.mark.parametrize("version", [4, 6])
def test_neither_echo_nor_news(user, version):
    rules = (NO_ECHO, longer_dropped("r", 1300))
    with lab.built(routed.routed(1500).having(rules=rules, sysctls=user.sysctls)) as net:
        _, (line,) = probe(net["a"], B[version], before=user.before)
    assert (line["mtu"], line["verdict"], line["by"]) == (1300, "black_hole", "udp")


@pytest.mark.parametrize("user", USERS[:2], ids=lambda user: user.name)
@pytest.mark.parametrize("version", [4, 6])
def test_a_hole_on_the_way_back(user, version):
    rules = (longer_dropped("r", 1300, 'iifname "rb"'),)
    with lab.built(routed.routed(1500).having(rules=rules, sysctls=user.sysctls)) as net:
        code, (line,) = probe(net["a"], B[version], before=user.before)
    assert (line["mtu"], line["round_trip"]) == (1500, 1300)
    assert (line["verdict"], code) == ("asymmetric", 3)


ROUTE = (Route("a", f"{B[4]}/32", via=R_TO_A[4], mtu=1400),)


@as_everybody
def test_a_route_with_an_mtu_of_its_own_does_not_limit_the_search(user):
    with lab.built(routed.routed(1500).having(routes=ROUTE, sysctls=user.sysctls)) as net:
        code, (line,) = probe(net["a"], B[4], before=user.before)
    assert (line["mtu"], line["believed"], line["expires"]) == (1500, 1400, None)
    assert (line["verdict"], code) == ("reduced", 3)


@as_everybody
@pytest.mark.parametrize(
    ("version", "told", "believed", "locked"),
    [(4, 500, 552, True), (4, 1400, 1400, False), (6, 1400, 1400, False)],
)
def test_what_the_kernel_learned_and_is_no_longer_true(user, version, told, believed, locked):
    """The path was narrow for a moment; the kernel goes on to believe it for ten minutes."""
    length = {4: 32, 6: 128}[version]
    way = ("route", "replace", f"{B[version]}/{length}", "dev", "rb")
    with lab.built(routed.routed(1500).having(sysctls=user.sysctls)) as net:
        ip(net["r"], *way, "mtu", str(told))
        _, (line,) = probe(net["a"], B[version], before=user.before)
        assert (line["mtu"], line["believed"], line["learned"]) == (told, 1500, believed)
        ip(net["r"], *way)
        code, (line,) = probe(net["a"], B[version], before=user.before)
    assert (line["mtu"], line["believed"], line["locked"]) == (1500, believed, locked)
    assert 590 < line["expires"] <= 600
    assert (line["verdict"], code) == ("collapsed", 3)


@as_everybody
def test_several_at_once_in_the_order_given(user):
    """A hole for one of them, a healthy path, nobody, and a way that is not there."""
    rules = (longer_dropped("r", 1300, f"ip daddr {B[4]}"),)
    nobody, unknown = "10.77.2.77", "203.0.113.1"
    with lab.built(routed.routed(1500).having(rules=rules, sysctls=user.sysctls)) as net:
        code, lines = probe(net["a"], B[4], B[6], nobody, unknown, R_TO_A[4], before=user.before)
    assert code == 3
    assert [(line["dest"], line["verdict"], line["mtu"]) for line in lines] == [
        (B[4], "black_hole", 1300),
        (B[6], "fine", 1500),
        (nobody, "no_answer", None),
        (unknown, "no_answer", None),
        (R_TO_A[4], "fine", 1500),
    ]
    assert lines[3]["found"] == "network is unreachable"


@pytest.mark.parametrize("user", USERS[::2], ids=lambda user: user.name)
class TestTunnels:
    """VXLAN in IPv4 with DF over a route whose MTU is too low, probed on the endpoint."""

    def test_one_that_promises_too_much(self, user):
        sysctls = tuple(("r", key, value) for _, key, value in user.sysctls)
        tunnel = vxlan.topology(vxlan.DF, 1300).having(sysctls=sysctls)
        with lab.built(tunnel) as net:
            words = ("--tunnel", "vx0", B_INNER[4])
            code, (line,) = probe(net["r"], *words, before=user.before)
        assert (line["mtu"], line["verdict"], code) == (1250, "reduced", 3)
        assert line["hint"].endswith("ip link set vx0 mtu 1250")
        assert line["tunnel"] == {
            "name": "vx0",
            "remote": "192.0.2.2",
            "overhead": 50,
            "mtu": 1500,
            "believed": 1300,
            "locked": False,
            "expires": None,
            "recursive": False,
        }

    @pytest.mark.parametrize(
        ("told", "believed", "mtu", "behind"),
        # Told less than 552 the kernel believes 552, locked: then it sends this host's packets
        # without DF, in fragments, and forwards up to 552.
        [(1000, 1000, 950, 950), (500, 552, 1450, 552)],
    )
    def test_one_whose_path_below_has_collapsed(self, user, told, believed, mtu, behind):
        """The incident: the endpoint believes less of the path below than that carries."""
        sysctls = tuple(("r", key, value) for _, key, value in user.sysctls)
        tunnel = vxlan.topology(vxlan.DF).having(sysctls=sysctls)
        with lab.built(tunnel) as net:
            teach(net["r"], net["b"], R_UNDER[4], B_UNDER[4], told)
            code, (line,) = probe(net["r"], B_INNER[4], before=user.before)
            _, (far,) = probe(net["a"], B_INNER[4])
        assert (line["mtu"], line["verdict"], code) == (mtu, "collapsed", 3)
        below = line["tunnel"]
        assert (below["mtu"], below["believed"], below["locked"]) == (1500, believed, told < 552)
        assert far["mtu"] == behind

    def test_one_that_is_routed_into_itself(self, user):
        sysctls = tuple(("r", key, value) for _, key, value in user.sysctls)
        loop = Route("r", "192.0.2.2/32", dev="vx0")
        with lab.built(vxlan.topology(vxlan.DF).having(sysctls=sysctls, routes=(loop,))) as net:
            code, (line,) = probe(net["r"], B_INNER[4], before=user.before)
        assert (line["verdict"], code) == ("collapsed", 3)
        assert line["tunnel"]["recursive"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "Missing argument"),
        (["224.0.0.1"], 2, "not one host's address"),
        (["255.255.255.255"], 2, "not one host's address"),
        (["::"], 2, "not one host's address"),
        ([""], 2, "empty"),
        (["-4", "-6", "127.0.0.1"], 2, "-4 and -6"),
        (["--tunnel", "lo", "127.0.0.1"], 2, "no tunnel here"),
        (["--tunnel", "\x1b[2J", "127.0.0.1"], 2, r"\x1b[2J"),
        (["-j", "no.such.host.invalid"], 1, ""),
        (["-j", "-6", "127.0.0.1"], 1, ""),
        (["-j", "a" * 300], 1, ""),
        (["-j", "fe80::1%nonsense"], 1, ""),
        (["-j", "\x1b[2J"], 1, ""),
        (["127.0.0.1"], 0, ""),
        (["-j", "::1", "127.0.0.1"], 0, ""),
    ],
)
def test_bad_input_is_a_line_and_a_hint(words, code, said):
    ends = (Port("n", "n0"), Port("n", "n1"))
    with lab.built(Topology((Veth(ends),))) as net:
        done = net["n"].run(
            lambda: subprocess.run(
                [*COMMAND, *words], capture_output=True, check=False, text=True, timeout=60
            )
        )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert said in done.stderr
    if code == 2:
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 2
    if "-j" in words:
        verdict = "fine" if code == 0 else "no_answer"
        assert {json.loads(line)["verdict"] for line in done.stdout.splitlines()} == {verdict}


def ip(node, *words):
    node.run(lambda: subprocess.run(["ip", *words], check=True))


def teach(node, liar, source, target, mtu):
    """Have a node learn a path MTU from a frag-needed about an echo of its own."""
    quoted = packets.ip_header(source, target, socket.IPPROTO_ICMP, 1480)
    quoted += packets.echo_request(target, 1480, 1)[:8]
    head = struct.pack("!BBHHH", 3, 4, 0, 0, mtu)
    total = struct.pack("!H", ~packets.checksum(head + quoted) & 0xFFFF)

    def raw():
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)

    # The kernel asks the sockets whose packet it could be; a raw one says yes to any.
    with node.run(raw) as listening, liar.run(raw) as sender:
        sender.sendto(head[:2] + total + head[4:] + quoted, (source, 0))
        listening.settimeout(WITHIN_S)
        assert listening.recv(64)[20:22] == b"\x03\x04"
