"""Pieces of functions from canned kallsyms: core symbols in order, modules' in none."""

import hashlib
import json

import pytest

from pmtutrace.errors import NotSupported, PrivilegeError, UsageError
from pmtutrace.kernel import symbols
from pmtutrace.kernel.symbols import Boot, Range

CORE = b"""\
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff81001000 t ip_fragment.constprop.0
ffffffff81001200 T ip_fragment_extra
ffffffff81001300 T ip_forward
ffffffff81001300 T ip_forward_alias
ffffffff81001300 t __pfx_other
ffffffff81001400 t ip_forward_finish
ffffffff81001500 T ip6_fragment
ffffffff81001600 T __ip6_fragment
ffffffff81001700 t ip6_forward.isra.0
ffffffff81001780 t ip6_forward.part.0.isra.0
ffffffff810017c0 D ip6_forward_data
ffffffff81001800 w br_dev_queue_push_xmit
ffffffff81001900 t ip_md_tunnel_xmit.llvm.1234567890123456789
ffffffff81001a00 D ip_tunnel_xmit
ffffffff81001b00 b ip_forward
ffffffff82000000 t ip_fragment.cold
ffffffff82000020 t ip_fragment.constprop.0.cold
ffffffff82000040 t ip_forward.cold
ffffffff82000100 T _etext
"""
MODULES = b"""\
ffffffffc0003000 t ip_tunnel_rcv\t[ip_tunnel]
ffffffffc0001000 T ip_tunnel_xmit\t[ip_tunnel]
ffffffffc0009000 t other\t[vxlan]
ffffffffc0001800 t ip_tunnel_init\t[ip_tunnel]
ffffffffc0001900 t nearer\t[vxlan]
ffffffffc0001700 t ip_tunnel_xmit.cold\t[ip_tunnel]
ffffffffc0009800 t skb_tunnel_check_pmtu\t[last]
"""
TEXT = CORE + MODULES


def pieces(*names, text=TEXT):
    return [(r.symbol, r.start, r.end) for r in symbols.find(text, frozenset(names))]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Aliases at the same address do not end it; the next address does.
        (
            "ip_forward",
            [
                ("ip_forward", 0xFFFFFFFF81001300, 0xFFFFFFFF81001400),
                ("ip_forward.cold", 0xFFFFFFFF82000040, 0xFFFFFFFF82000100),
            ],
        ),
        (
            "ip_fragment",
            [
                ("ip_fragment.constprop.0", 0xFFFFFFFF81001000, 0xFFFFFFFF81001200),
                ("ip_fragment.cold", 0xFFFFFFFF82000000, 0xFFFFFFFF82000020),
                ("ip_fragment.constprop.0.cold", 0xFFFFFFFF82000020, 0xFFFFFFFF82000040),
            ],
        ),
        (
            "ip6_forward",
            [
                ("ip6_forward.isra.0", 0xFFFFFFFF81001700, 0xFFFFFFFF81001780),
                ("ip6_forward.part.0.isra.0", 0xFFFFFFFF81001780, 0xFFFFFFFF810017C0),
            ],
        ),
        ("ip6_fragment", [("ip6_fragment", 0xFFFFFFFF81001500, 0xFFFFFFFF81001600)]),
        (
            "br_dev_queue_push_xmit",
            [("br_dev_queue_push_xmit", 0xFFFFFFFF81001800, 0xFFFFFFFF81001900)],
        ),
        (
            "ip_md_tunnel_xmit",
            [
                (
                    "ip_md_tunnel_xmit.llvm.1234567890123456789",
                    0xFFFFFFFF81001900,
                    0xFFFFFFFF81001A00,
                )
            ],
        ),
        # Data of that name is no function; the module's is, and ends where its own module says.
        (
            "ip_tunnel_xmit",
            [
                ("ip_tunnel_xmit", 0xFFFFFFFFC0001000, 0xFFFFFFFFC0001700),
                ("ip_tunnel_xmit.cold", 0xFFFFFFFFC0001700, 0xFFFFFFFFC0001800),
            ],
        ),
        ("no_such_function", []),
        ("ip_f", []),
    ],
)
def test_the_pieces_of_a_function(name, expected):
    assert pieces(name) == expected


def test_the_last_symbol_of_a_module_ends_somewhere():
    ((_, start, end),) = pieces("skb_tunnel_check_pmtu")
    assert start < end <= start + (1 << 20)


def test_pieces_of_several_come_in_order():
    found = symbols.find(TEXT, frozenset({"ip_tunnel_xmit", "ip_forward", "ip_fragment"}))
    assert [r.start for r in found] == sorted(r.start for r in found)
    assert {r.name for r in found} == {"ip_tunnel_xmit", "ip_forward", "ip_fragment"}


def test_names_are_not_patterns():
    assert pieces("ip.forward") == []
    assert pieces(".*") == []


@pytest.fixture
def kallsyms(tmp_path):
    path = tmp_path / "kallsyms"
    path.write_bytes(TEXT)
    return path


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0xFFFFFFFF81001500, "ip6_fragment+0x0"),
        (0xFFFFFFFF810015FF, "ip6_fragment+0xff"),
        (0xFFFFFFFFC0001010, "ip_tunnel_xmit+0x10"),
        (0xFFFFFFFFC0003123, "ip_tunnel_rcv+0x123"),
        (0xFFFFFFFF82000041, "ip_forward.cold+0x1"),
        # Too far from anything to be in it, and before everything.
        (0xFFFFFFFFD0000000, "0xffffffffd0000000"),
        (0x1000, "0x1000"),
    ],
)
def test_an_address_by_name(kallsyms, address, name):
    assert symbols.resolve(address, kallsyms) == name


def test_hidden_addresses_are_a_matter_of_privilege(tmp_path):
    path = tmp_path / "kallsyms"
    path.write_bytes(b"0000000000000000 T _text\n0000000000000000 T ip_forward\n")
    with pytest.raises(PrivilegeError):
        symbols.read(path)


def test_no_kallsyms_at_all(tmp_path):
    with pytest.raises(NotSupported, match="kallsyms"):
        symbols.read(tmp_path / "nothing")


class TestBoot:
    """Facts of one boot: read once, kept, and never believed when something differs."""

    NAMES = frozenset({"ip_forward", "ip_tunnel_xmit"})

    @pytest.fixture(autouse=True)
    def canned(self, tmp_path, monkeypatch, kallsyms):
        monkeypatch.setenv("PMTUTRACE_CACHE", str(tmp_path / "cache"))
        self.modules = tmp_path / "modules"
        self.modules.write_text("ip_tunnel 32768 1 ip_gre, Live 0xffffffffc0001000\n")
        self.btf = tmp_path / "btf"
        self.btf.write_bytes(b"types")
        boot_id = tmp_path / "boot_id"
        boot_id.write_text("one\n")
        self.reads = []

        def read():
            self.reads.append(1)
            return kallsyms.read_bytes()

        monkeypatch.setattr(symbols, "read", read)
        monkeypatch.setattr(symbols, "MODULES", self.modules)
        monkeypatch.setattr(symbols, "BOOT_ID", boot_id)
        self.boot_id = boot_id
        self.folder = tmp_path / "cache" / "boot"

    def look(self):
        boot = Boot(self.NAMES, self.btf)
        return boot.btf, boot.ranges

    def test_read_once(self):
        assert self.look() == self.look()
        assert len(self.reads) == 1
        btf, ranges = self.look()
        assert btf == hashlib.sha256(b"types").hexdigest()
        assert ranges == tuple(symbols.find(TEXT, self.NAMES))

    @pytest.mark.parametrize(
        "change",
        [
            lambda self: self.boot_id.write_text("two\n"),
            # Loaded again it may lie elsewhere, under the same name.
            lambda self: self.modules.write_text("ip_tunnel 32768 0 - Live 0xffffffffc0005000\n"),
            lambda self: self.modules.write_text(""),
            lambda self: self.btf.write_bytes(b"other types"),
        ],
    )
    def test_read_again_when_something_changes(self, change):
        self.look()
        change(self)
        self.look()
        assert len(self.reads) == 2

    def test_how_often_a_module_is_used_does_not_matter(self):
        self.look()
        self.modules.write_text("ip_tunnel 32768 7 ip_gre, Live 0xffffffffc0001000\n")
        self.look()
        assert len(self.reads) == 1

    def test_a_module_that_comes_while_tracing_needs_no_cache(self, monkeypatch):
        boot = Boot(self.NAMES, self.btf)
        assert boot.again().key == boot.key
        before = boot.ranges
        monkeypatch.setenv("PMTUTRACE_CACHE", "/proc/nothing")
        self.btf.unlink()
        self.modules.write_text("vxlan 32768 0 - Live 0xffffffffc0009000\n")
        now = boot.again()
        assert now.key != boot.key
        assert (now.ranges, now.btf) == (before, boot.btf)
        assert len(self.reads) == 2
        assert len(list(self.folder.iterdir())) == 1

    def test_every_damage_is_noticed(self):
        expected = self.look()
        (kept,) = self.folder.iterdir()
        whole = kept.read_bytes()
        for at in range(len(whole)):
            damaged = bytearray(whole)
            damaged[at] ^= 1
            kept.write_bytes(damaged)
            assert self.look() == expected
        assert len(self.reads) == 1 + len(whole)
        kept.write_bytes(b"")
        assert self.look() == expected

    def test_a_good_seal_on_nonsense_is_not_enough(self):
        expected = self.look()
        (kept,) = self.folder.iterdir()
        for nonsense in ({}, [], 5, {"btf": "x"}, {"btf": "x", "ranges": [[1]]}):
            text = json.dumps(nonsense).encode()
            kept.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
            assert self.look() == expected

    def test_for_its_owner_only(self):
        self.look()
        (kept,) = self.folder.iterdir()
        assert kept.stat().st_mode & 0o777 == 0o600
        kept.chmod(0o666)
        self.look()
        assert len(self.reads) == 2

    def test_btf_that_cannot_be_read(self, tmp_path, monkeypatch):
        with pytest.raises(UsageError, match="cannot read BTF"):
            Boot(self.NAMES, tmp_path / "nothing")
        monkeypatch.setattr(symbols, "KERNEL_BTF", tmp_path)
        with pytest.raises(NotSupported, match="no BTF"):
            Boot(self.NAMES, tmp_path / "nothing")


def test_a_range_is_what_it_says():
    (first, *_) = symbols.find(TEXT, frozenset({"ip6_fragment"}))
    assert first == Range("ip6_fragment", "ip6_fragment", 0xFFFFFFFF81001500, 0xFFFFFFFF81001600)
