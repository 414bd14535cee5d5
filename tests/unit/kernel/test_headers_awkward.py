"""Types that a header must cope with and that no kernel at hand has, or not where it is sure."""

import runpy
import subprocess
from pathlib import Path

import pytest

from pmtutrace.errors import UsageError
from pmtutrace.kernel.btf_kinds import Kind
from pmtutrace.kernel.ctypes_declare import Declarations
from pmtutrace.kernel.headers import Wanted, generate

Sample = runpy.run_path(str(Path(__file__).parents[2] / "data" / "btf" / "sample.py"))["Sample"]


def accepted(text, *checks):
    """Have the host's compiler check a text, and assertions about it."""
    text += "".join(f'_Static_assert({check}, "");\n' for check in checks)
    done = subprocess.run(
        ["gcc", "-std=gnu11", "-fsyntax-only", "-Wall", "-Werror", "-x", "c", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{text}"
    return text


def declared(sample, *wanted):
    btf = sample.btf()
    declarations = Declarations(btf, wanted)
    return declarations, "\n".join(declarations.lines) + "\n"


def test_types_of_one_name_do_not_collide():
    s = Sample()
    one, four = s.int("char", 1), s.int("int", 4)
    first = s.struct("x", 1, [("a", one, 0)])
    second = s.struct("x", 4, [("a", four, 0)])
    third = s.struct("x", 4, [("a", four, 0), ("b", one, 0)], Kind.UNION)
    enum = s.enum("x", {"ONE": 1, "TWO": 2})
    other = s.enum("y", {"ONE": 10, "x_t": 20})
    typedef = s.add(Kind.TYPEDEF, "x_t", first)
    double = s.add(Kind.TYPEDEF, "x_t", second)
    all_ids = (first, second, third, enum, other, typedef, double)
    declarations, text = declared(s, *all_ids)
    names = [declarations.name(i) for i in all_ids]
    assert names == [
        "struct x", "struct x___2", "union x___3", "enum x___4", "enum y", "x_t", "x_t___2",
    ]  # fmt: skip
    sizes = zip(names, (1, 4, 4, 4, 4, 1, 4), strict=True)
    accepted(text, *(f"sizeof({n}) == {size}" for n, size in sizes), "ONE == 1", "ONE___2 == 10")


def test_a_pointed_to_struct_may_be_of_another_keyword():
    s = Sample()
    union = s.struct("x", 4, [("a", s.int("int", 4), 0)], Kind.UNION)
    pointer = s.add(Kind.PTR, word=s.add(Kind.FWD, "x"))
    holder = s.struct("holder", 16, [("p", pointer, 0), ("u", union, 64)])
    _, text = declared(s, holder, union)
    assert "void *p;" in accepted(text)


def test_a_struct_pointed_to_stays_incomplete_unless_it_is_wanted():
    s = Sample()
    inner = s.struct("inner", 4, [("a", s.int("int", 4), 0)])
    alias = s.add(Kind.TYPEDEF, "inner_t", inner)
    nameless = s.add(Kind.TYPEDEF, "nameless_t", s.struct("", 4, [("a", 1 + 1, 0)]))
    p, q = s.add(Kind.PTR, word=alias), s.add(Kind.PTR, word=nameless)
    holder = s.struct("holder", 16, [("p", p, 0), ("q", q, 64)])
    _, text = declared(s, holder)
    assert "struct inner *p;" in accepted(text)
    assert "void *q;" in text
    assert "struct inner {" not in text
    _, text = declared(s, holder, inner, nameless)
    assert "nameless_t *q;" in accepted(
        text, "sizeof(struct inner) == 4", "sizeof(nameless_t) == 4"
    )


def test_a_typedef_of_a_struct_that_holds_its_user_is_ordered():
    s = Sample()
    # struct x { z_t *p; }; typedef struct z z_t; struct z { struct x x; };
    s.add(Kind.PTR, word=2)
    s.add(Kind.TYPEDEF, "z_t", 4)
    x = s.struct("x", 8, [("p", 1, 0)])
    z = s.struct("z", 8, [("x", x, 0)])
    for wanted in ((x, 2, z), (2, x, z), (z, x, 2)):
        _, text = declared(s, *wanted)
        assert "z_t *p;" in accepted(text, "sizeof(z_t) == 8")


def test_enums_have_the_size_that_btf_says():
    s = Sample()
    short = s.add(Kind.ENUM, "short_e", 2, [s.name("S"), 300], 1)
    tiny = s.add(Kind.ENUM, "tiny_e", 1, [s.name("T"), 3], 1)
    odd = s.add(Kind.ENUM, "odd_e", 2, [s.name("O"), 3], 1)  # packed would make it 1
    wide = s.enum64("wide_e", {"MIN": -(1 << 63), "MAX": (1 << 63) - 1}, flag=True)
    huge = s.enum64("huge_e", {"HUGE_VALUE": (1 << 64) - 1})
    s.enum("other", {"NEGATIVE": -1}, flag=True)
    members = [("s", short, 0), ("t", tiny, 16), ("o", odd, 32), ("w", wide, 64), ("h", huge, 128)]
    holder = s.struct("holder", 24, members)
    checks = ["sizeof(struct holder) == 24", "__builtin_offsetof(struct holder, o) == 4"]
    _, text = declared(s, holder)  # integers in their stead
    assert "enum" not in accepted(text, *checks)
    _, text = declared(s, short, tiny, odd, wide, huge, holder)
    checks += [
        "sizeof(enum short_e) == 2",
        "sizeof(enum tiny_e) == 1",
        "sizeof(((struct holder *)0)->o) == 2",
        "O == 3",
        "HUGE_VALUE == 0xffffffffffffffffULL",
        "MIN < 0 && MAX > 0",
    ]
    accepted(text, *checks)


def test_words_of_c_can_be_names():
    s = Sample()
    u32 = s.int("unsigned int", 4)
    inner = s.struct("default", 8, [("switch", u32, 0), ("_Bool", u32, 32)])
    pair = s.add(Kind.ARRAY, rest=[inner, u32, 2])
    s.struct("outer", 24, [("linux", pair, 0), ("class", u32, 128), ("register", u32, 160)])
    bool_t = s.add(Kind.TYPEDEF, "bool", s.int("_Bool", 1, encoding=4))
    s.add(Kind.TYPEDEF, "size_t", s.int("long unsigned int", 8))
    s.add(Kind.TYPEDEF, "__int128_t", s.int("__int128", 16, encoding=1))
    s.struct("flags", 1, [("on", bool_t, 1 << 24 | 3)], flag=True)
    wanted = Wanted(
        types=("outer", "bool", "size_t", "__int128_t", "flags", "unsigned"),
        required=("outer.linux.switch", "outer.class", "flags.on"),
    )
    s.add(Kind.TYPEDEF, "unsigned", u32)
    text = accepted(
        generate(s.btf(), wanted),
        "sizeof(__int128_t) == 16",
        "sizeof(size_t) == 8",
        "(bool)7 == 1",
        "sizeof(struct flags) == 1",
        "sizeof(unsigned_) == 4",
    )
    assert "__builtin_offsetof(struct outer, linux_[0].switch_) == 0" in text


def test_the_compiler_own_types_are_not_defined_again():
    s = Sample()
    own = s.add(Kind.TYPEDEF, "__builtin_va_list", s.struct("__va_list_tag", 24, []))
    pointer = s.add(Kind.PTR, word=own)
    holder = s.struct("holder", 8, [("va", pointer, 0)])
    _, text = declared(s, holder, own)
    assert "typedef" not in accepted(text)


def test_pointers_to_functions_and_arrays():
    s = Sample()
    i = s.int("int", 4, encoding=1)
    function = s.add(Kind.PTR, word=s.proto(i, [("", i)]))
    table = s.add(Kind.ARRAY, rest=[function, i, 5])
    row = s.add(Kind.PTR, word=s.add(Kind.ARRAY, rest=[i, i, 4]))
    double = s.add(Kind.PTR, word=s.add(Kind.PTR, word=function))
    grid = s.add(Kind.ARRAY, rest=[s.add(Kind.ARRAY, rest=[i, i, 3]), i, 2])
    empty = s.add(Kind.ARRAY, rest=[i, i, 0])
    members = [
        ("call", function, 0), ("table", table, 64), ("row", row, 384), ("double_", double, 448),
        ("grid", grid, 512), ("flexible", empty, 704),
    ]  # fmt: skip
    holder = s.struct("holder", 88, members)
    callback = s.add(Kind.TYPEDEF, "callback_t", function)
    _, text = declared(s, holder, callback)
    accepted(
        text,
        "sizeof(struct holder) == 88",
        "__builtin_offsetof(struct holder, grid[1][0]) == 76",
        "__builtin_offsetof(struct holder, flexible) == 88",
        "sizeof(callback_t) == 8",
    )


def test_a_nameless_member_with_a_tag_is_written_out():
    """As -fms-extensions allows, which the kernel is built with since 6.19."""
    s = Sample()
    u32 = s.int("unsigned int", 4)
    inner = s.struct("inner", 8, [("a", u32, 0), ("b", u32, 32)])
    holder = s.struct("holder", 12, [("", inner, 0), ("c", u32, 64)])
    _, text = declared(s, holder, inner)
    accepted(text, "__builtin_offsetof(struct holder, b) == 4", "sizeof(struct inner) == 8")


def test_a_long_double_is_kept_as_bytes():
    s = Sample()
    long_double = s.add(Kind.FLOAT, "long double", 16)
    array = s.add(Kind.ARRAY, rest=[long_double, 1, 2])
    i = s.int("char", 1)
    holder = s.struct("holder", 64, [("c", i, 0), ("d", long_double, 128), ("a", array, 256)])
    _, text = declared(s, holder)
    accepted(text, "__builtin_offsetof(struct holder, a) == 32", "sizeof(struct holder) == 64")


@pytest.mark.parametrize(
    ("size", "members", "message"),
    [
        (4, [("a", 1, 0), ("b", 1, 16)], "overlap"),
        (4, [("a", 1, 32)], "sticks out"),
        (8, [("a", 1, 3)], "whole bytes"),
        (8, [("", 1, 0)], "no name"),
        (8, [("a; } evil; struct {", 1, 0)], "not a C name"),
        (8, [("a", 2, 0)], "holds itself"),
        (8, [("a", 0, 0)], "no size"),
        (8, [("a", 3, 0)], "has 3 bytes"),
        (8, [("a", 4, 0)], "no size"),
    ],
)
def test_what_no_compiler_can_have_made_is_damage(size, members, message):
    s = Sample()
    s.int("int", 4)
    holder = s.struct("holder", size, members)
    s.int("odd", 3)
    s.add(Kind.FWD, "unknown")
    with pytest.raises(UsageError, match=message):
        declared(s, holder)


@pytest.mark.parametrize("bits", [33, 40])
def test_a_bitfield_wider_than_its_type_is_damage(bits):
    s = Sample()
    s.int("int", 4)
    holder = s.struct("holder", 8, [("a", 1, bits << 24)], flag=True)
    with pytest.raises(UsageError, match="does not fit"):
        declared(s, holder)


def test_a_struct_that_embeds_without_end_is_damage():
    s = Sample()
    inner = s.int("int", 4)
    for _ in range(40):  # 2^40 members, if anybody wrote them out
        twice = [("", inner, 0), ("", inner, 0)]
        inner = s.struct("", 4, twice if _ else [("a", inner, 0)], Kind.UNION)
    holder = s.struct("holder", 4, [("", inner, 0)])
    with pytest.raises(UsageError, match="embeds too much"):
        declared(s, holder)


def test_a_struct_that_is_nested_too_deeply_is_damage():
    s = Sample()
    inner = s.int("int", 4)
    for level in range(100):
        inner = s.struct(f"level{level}", 4, [("a", inner, 0)])
    with pytest.raises(UsageError, match="nested too deeply"):
        declared(s, inner)


def test_padding_is_written_only_where_the_compiler_adds_none():
    s = Sample()
    char, u32 = s.int("char", 1), s.int("unsigned int", 4)
    rest = [("a", char, 0), ("b", u32, 32), ("c", u32, 30 << 24 | 64), ("d", u32, 5 << 24 | 96)]
    plain = s.struct("plain", 16, rest, flag=True)
    _, text = declared(s, plain)
    assert "pad" not in accepted(text, "sizeof(struct plain) == 16")
    assert "unsigned char :" not in text


def test_a_packed_union_may_be_smaller_than_the_type_of_its_bitfield():
    s = Sample()
    u32 = s.int("unsigned int", 4)
    union = s.struct("u", 1, [("a", u32, 3 << 24)], Kind.UNION, flag=True)
    _, text = declared(s, union)
    accepted(text, "sizeof(union u) == 1")


def test_two_typedefs_of_one_nameless_struct_are_the_same_type():
    s = Sample()
    nameless = s.struct("", 4, [("a", s.int("int", 4), 0)])
    one, two = (s.add(Kind.TYPEDEF, name, nameless) for name in ("one_t", "two_t"))
    _, text = declared(s, one, two)
    accepted(text, "_Generic((one_t *)0, two_t *: 1, default: 0)")


def test_long_and_long_long_are_told_apart():
    s = Sample()
    pairs = [
        (s.add(Kind.TYPEDEF, f"t{i}", s.int(name, 8, encoding=i % 2)), expected)
        for i, (name, expected) in enumerate(
            [
                ("long unsigned int", "unsigned long"),
                ("long int", "long"),
                ("long long unsigned int", "unsigned long long"),
                ("long long int", "long long"),
            ]
        )
    ]
    declarations, text = declared(s, *(type_id for type_id, _ in pairs))
    accepted(
        text,
        *(f"_Generic(({declarations.name(i)})0, {c}: 1, default: 0)" for i, c in pairs),
    )
