"""Structs that a compiler laid out come back as they were; damaged files are refused."""

import lzma
import runpy
import subprocess
import time
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmtutrace.errors import NotSupported, UsageError
from pmtutrace.kernel.btf import Btf
from pmtutrace.kernel.btf_kinds import COMPOSITE
from pmtutrace.kernel.ctypes_declare import Declarations
from pmtutrace.kernel.headers import Wanted, generate

DATA = Path(__file__).parents[1] / "data" / "btf"
TOOL = runpy.run_path(str(DATA / "prune.py"))
WANTED = Wanted(
    types=("u32", "iphdr", "sk_buff", "skb_shared_info", "possible_net_t", "rtable"),
    optional_types=("rtnl_link_ops",),
    required=("sk_buff.len", "sk_buff.pkt_type", "iphdr.frag_off", "rtable.rt_pmtu"),
    optional=("skb_shared_info.frags.bv_page", "rtnl_link_ops.kind"),
    enums=("rt_class_t", "skb_drop_reason"),
    tracepoints=("kfree_skb", "icmp_send"),
)


@cache
def small():
    """A file of 30 KB, of which nearly every byte counts for what is asked of it."""
    path = sorted(DATA.glob("*.xz"))[-1]
    keep = {
        "types": [*WANTED.types, *WANTED.optional_types, *WANTED.enums, "btf_trace_kfree_skb"],
        "functions": ["__traceiter_*_s[ek]*", "__icmp_send"],
    }
    return TOOL["prune"](lzma.decompress(path.read_bytes()), keep)


def ask(data):
    """Ask everything of a file that may be damaged: it answers, or says that it is, and soon."""
    began = time.thread_time()
    try:
        btf = Btf.parse(data)
        for name in WANTED.tracepoints:
            btf.tracepoint(name)
        btf.function("__icmp_send")
        btf.enum("skb_drop_reason")
        for path in (*WANTED.required, *WANTED.optional):
            btf.field(*path.split(".", 1))
        generate(btf, WANTED)
        Declarations(btf, [i for kind in COMPOSITE for i in btf.ids(kind) if btf[i].name])
    except (UsageError, NotSupported):
        return False
    finally:
        assert time.thread_time() - began < PATIENCE_S
    return True


PATIENCE_S = 4  # that one damaged file may take
patient = settings(max_examples=150, derandomize=True)


def test_the_file_that_gets_damaged_is_whole():
    assert ask(small())


@patient
@given(st.data())
def test_flipped_bits(data):
    damaged = bytearray(small())
    for bit in data.draw(st.sets(st.integers(0, 8 * len(damaged) - 1), min_size=1, max_size=40)):
        damaged[bit // 8] ^= 1 << bit % 8
    ask(bytes(damaged))


@patient
@given(st.data())
def test_words_that_were_meant_for_elsewhere(data):
    """Ids, offsets and counts that are plausible, but wrong: rings, overlaps, stray names."""
    damaged = bytearray(small())
    word = st.integers(6, len(damaged) // 4 - 1)
    for at in data.draw(st.sets(word, min_size=1, max_size=10)):
        source = data.draw(word)
        damaged[4 * at : 4 * at + 4] = damaged[4 * source : 4 * source + 4]
    ask(bytes(damaged))


@patient
@given(st.integers(0, 1 << 20))
def test_cut_off_files(size):
    size %= len(small())
    assert not ask(small()[:size])


@patient
@given(st.binary(max_size=400), st.integers(0, 100))
def test_any_bytes_behind_a_good_header(types, strings):
    size = len(types) // 4 * 4
    header = b"\x9f\xeb\x01\x00" + b"".join(
        n.to_bytes(4, "little") for n in (24, 0, size, size, strings + 2)
    )
    ask(header + types[:size] + b"\0" + b"a" * strings + b"\0")


@patient
@given(st.binary(max_size=200))
def test_any_bytes(data):
    assert not ask(data)


SCALARS = (
    "char", "signed char", "unsigned char", "short", "unsigned short", "int", "unsigned int",
    "long", "unsigned long", "long long", "unsigned long long", "_Bool", "float", "double",
    "long double", "__int128", "void *", "enum e1", "enum e2", "enum e8", "struct s0", "union u0",
    "struct p0",
)  # fmt: skip
# Bitfields of char and short are left to the packed case of other types: their rules in packed
# structs changed with GCC 4.4, and the kernel has none.
BITFIELDS = {"unsigned char": 8, "unsigned short": 16, "int": 32, "unsigned int": 32, "_Bool": 1,
             "unsigned long": 64, "enum e1": 2}  # fmt: skip
PRELUDE = """
enum __attribute__((packed)) e1 { E1_A, E1_B = 3 };
enum e2 { E2_A = -1, E2_B = 70000 };
enum e8 { E8_A, E8_B = 0x100000000 };
struct s0 { char a; int b; char c; };
union u0 { char a[5]; short b; };
struct __attribute__((packed)) p0 { char a; long b; unsigned int c : 5; unsigned int d : 30; };
"""


@st.composite
def members(draw, prefix="m", depth=0):
    """Draw the members of a struct or union in C."""
    lines = []
    for i in range(draw(st.integers(0 if depth else 1, 6))):
        name = f"{prefix}_{i}"
        shape = draw(
            st.sampled_from(["plain"] * 4 + ["bits"] * 4 + ["array", "nested", "callback"])
        )
        align = draw(st.sampled_from([""] * 6 + ["packed", "aligned(4)", "aligned(32)"]))
        attribute = f" __attribute__(({align}))" if align else ""
        if shape == "plain":
            lines.append(f"{draw(st.sampled_from(SCALARS))} {name}{attribute};")
        elif shape == "array":
            dimensions = draw(st.lists(st.integers(0, 4), min_size=1, max_size=2))
            text = "".join(f"[{n}]" for n in dimensions)
            lines.append(f"{draw(st.sampled_from(SCALARS))} {name}{text}{attribute};")
        elif shape == "callback":
            lines.append(f"int (*{name}[2])(struct s0 *, ...){attribute};")
        elif shape == "bits":
            base = draw(st.sampled_from(sorted(BITFIELDS)))
            width = draw(st.integers(0, BITFIELDS[base]))
            unnamed = width == 0 or draw(st.integers(0, 4)) == 0
            lines.append(f"{base} {'' if unnamed else name} : {width};")
        elif depth < 2:
            keyword = draw(st.sampled_from(["struct", "union"]))
            packed = draw(st.sampled_from(["", " __attribute__((packed))"]))
            inner = draw(members(name, depth + 1))
            lines.append(f"{keyword}{packed} {{ {inner} }} {draw(st.sampled_from(['', name]))};")
    return " ".join(lines)


@st.composite
def structs(draw):
    """Draw some named structs in C, later ones embedding earlier ones."""
    text = []
    for i in range(draw(st.integers(1, 6))):
        attributes = draw(st.sampled_from(["", "", "packed", "aligned(16)", "packed, aligned(4)"]))
        earlier = f"char gap; struct t{draw(st.integers(0, i - 1))} embedded;" if i else ""
        body = f"{draw(members())} {earlier}"
        text.append(f"struct t{i} {{ {body} }} __attribute__(({attributes})) v{i};")
    return "\n".join(text)


def gcc(folder, text, *options):
    done = subprocess.run(
        ["gcc", "-std=gnu11", "-w", "-x", "c", *options, "-"],
        input=text,
        text=True,
        check=False,
        cwd=folder,
        capture_output=True,
    )
    assert done.returncode == 0, f"{done.stderr[:2000]}\n{text}"


def leaves(btf, type_id, path="", offset=0):
    """Yield dotted paths, bit offsets and widths (0 if no bitfield) of all that can be named."""
    for member in btf.members(type_id):
        at = offset + member.bit_offset
        inner = btf.resolve(member.type_id)
        if member.name:
            yield path + member.name, at, member.bit_size
        if inner.kind in COMPOSITE:
            yield from leaves(btf, inner.id, path + member.name + "." * bool(member.name), at)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(text=structs())
def test_what_a_compiler_laid_out_is_laid_out_again(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("btf")
    gcc(folder, PRELUDE + text, "-gbtf", "-c", "-o", "types.o")
    copy = ["objcopy", "-O", "binary", "--only-section=.BTF", "--set-section-flags", ".BTF=alloc"]
    subprocess.run([*copy, "types.o", "types.btf"], check=True, cwd=folder)
    btf = Btf.load(folder / "types.btf")
    roots = [i for kind in COMPOSITE for i in btf.ids(kind) if btf[i].name]
    declarations = Declarations(btf, roots)
    checks = []
    program = []
    for root in roots:
        name = declarations.name(root)
        for path, at, width in leaves(btf, root):
            if not width:
                at_path = f"__builtin_offsetof({name}, {path})"
                checks.append(f'_Static_assert({at_path} == {at // 8}, "{path}");')
                continue
            # Set the bitfield alone: these bits and no others are set.
            program.append(
                f"{{ union {{ {name} s; unsigned char b[sizeof({name}) + 1]; }} u;"
                f" memset(&u, 0, sizeof(u)); u.s.{path} = -1;"
                f" for (unsigned long i = 0; i < 8 * sizeof({name}); i++)"
                f" if ((u.b[i / 8] >> i % 8 & 1) != (i >= {at} && i < {at + width})) return 1; }}"
            )
    emitted = "\n".join([*declarations.lines, *checks])
    main = "void *memset(void *, int, unsigned long);\nint main(void) {\n%s\nreturn 0; }\n"
    gcc(folder, f"{emitted}\n{main % chr(10).join(program)}", "-o", "program")
    subprocess.run([folder / "program"], check=True)
