"""Files made by hand: every kind of record, both forms of bitfields, modules, and damage."""

import runpy
import struct
from pathlib import Path

import pytest

from pmtutrace.errors import NotSupported, UsageError
from pmtutrace.kernel import btf as btf_module
from pmtutrace.kernel.btf import Btf, Field, Function, Parameter
from pmtutrace.kernel.btf_kinds import Kind

Sample = runpy.run_path(str(Path(__file__).parents[2] / "data" / "btf" / "sample.py"))["Sample"]


def test_every_kind_is_indexed_and_ids_stay_in_step():
    s = Sample()
    u32 = s.int("unsigned int", 4)
    pointer = s.add(Kind.PTR, word=u32)
    array = s.add(Kind.ARRAY, rest=[pointer, u32, 7])
    s.struct("st", 56, [("a", array, 0)])
    s.struct("un", 4, [("a", u32, 0)], Kind.UNION)
    s.enum("en", {"A": 1})
    s.add(Kind.FWD, "fw", flag=True)
    last = u32
    for kind in (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG):
        last = s.add(kind, "td" if kind in (Kind.TYPEDEF, Kind.TYPE_TAG) else "", last)
    proto = s.proto(u32, [("x", pointer), ("", 0)])
    function = s.add(Kind.FUNC, "fn", proto)
    s.add(Kind.VAR, "va", u32, [1])
    s.add(Kind.DATASEC, ".data", 4, [15, 0, 4], count=1)
    s.add(Kind.FLOAT, "double", 8)
    s.add(Kind.DECL_TAG, "dt", function, [0xFFFFFFFF])
    s.enum64("en64", {"B": 1 << 40})
    btf = s.btf()
    assert [btf[i].kind for i in range(len(btf))] == [
        Kind.VOID, Kind.INT, Kind.PTR, Kind.ARRAY, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.FWD,
        Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG, Kind.FUNC_PROTO,
        Kind.FUNC, Kind.VAR, Kind.DATASEC, Kind.FLOAT, Kind.DECL_TAG, Kind.ENUM64,
    ]  # fmt: skip
    assert btf.resolve(last) == btf[u32]
    assert btf.size(array) == 56
    assert btf.field("st", "a") == Field(0, 448, array, bitfield=False, path="a")
    parameters = (Parameter("x", "unsigned int *"), Parameter("", "..."))
    assert btf.function("fn") == Function("fn", parameters, "unsigned int")
    assert btf.enum("en64") == {"B": 1 << 40}
    assert btf.find((Kind.UNION, Kind.STRUCT), "un") == 5
    assert btf.find((Kind.STRUCT,), "un") is None


def test_bitfields_of_both_forms_are_the_same_field():
    new, old = Sample(), Sample()
    u32 = new.int("unsigned int", 4)
    new.struct("s", 8, [("a", u32, 3 << 24 | 0), ("b", u32, 9 << 24 | 35)], flag=True)
    old.int("unsigned int", 4)
    three, nine = old.int("unsigned int", 4, bits=3), old.int("unsigned int", 4, bits=9, shift=3)
    old.struct("s", 8, [("a", three, 0), ("b", nine, 32)])
    for path, at, bits in (("a", 0, 3), ("b", 35, 9)):
        for sample in (new, old):
            field = sample.btf().field("s", path)
            assert (field.bit_offset, field.bit_size, field.bitfield) == (at, bits, True)


def test_a_path_goes_through_anonymous_members_arrays_and_typedefs():
    s = Sample()
    u16 = s.int("unsigned short", 2)
    leaf = s.struct("leaf", 4, [("x", u16, 0), ("y", u16, 16)])
    const = s.add(Kind.CONST, word=leaf)
    row = s.add(Kind.ARRAY, rest=[const, u16, 3])
    grid = s.add(Kind.ARRAY, rest=[row, u16, 2])
    grid_t = s.add(Kind.TYPEDEF, "grid_t", grid)
    inner = s.struct("", 26, [("pad", u16, 0), ("grid", grid_t, 16)])
    union = s.struct("", 26, [("", inner, 0)], Kind.UNION)
    s.struct("outer", 34, [("head", u16, 0), ("", union, 64)])
    field = s.btf().field("outer", "grid.y")
    assert (field.bit_offset, field.bit_size) == (64 + 16 + 16, 16)
    assert field.path == "grid[0][0].y"
    for path in ("", "nope", "grid.nope", "head.x", "grid.y.z", "grid..y", "."):
        assert s.btf().field("outer", path) is None
    assert s.btf().field("nope", "x") is None


def test_values_are_signed_as_the_file_marks_them():
    old = Sample()
    old.enum("e", {"MINUS": -1})
    assert old.btf().enum("e") == {"MINUS": -1}  # before pahole 1.24 nothing was marked
    new = Sample()
    new.enum("other", {"X": -5}, flag=True)
    new.enum("e", {"BIG": 0xFFFFFFFF})
    new.enum64("signed", {"LOW": -(1 << 40)}, flag=True)
    new.enum64("unsigned", {"HIGH": 1 << 63})
    btf = new.btf()
    assert btf.enum("other") == {"X": -5}
    assert btf.enum("e") == {"BIG": 0xFFFFFFFF}
    assert btf.enum("signed") == {"LOW": -(1 << 40)}
    assert btf.enum("unsigned") == {"HIGH": 1 << 63}


def test_an_enum_that_is_only_declared_is_passed_over():
    s = Sample()
    s.enum("e", {})
    s.enum("e", {"A": 1})
    assert s.btf().enum("e") == {"A": 1}


def tracepoint_sample(with_typedef=True):
    s = Sample()
    void = s.add(Kind.PTR)
    skb = s.struct("sk_buff", 0, [])
    pointer = s.add(Kind.PTR, word=skb)
    constant = s.add(Kind.PTR, word=s.add(Kind.CONST, word=skb))
    number = s.int("int", 4, encoding=1)
    reason = s.enum("skb_drop_reason", {"R": 1})
    proto = s.proto(0, [("", i) for i in (void, pointer, void, reason, constant, number)])
    if with_typedef:
        s.add(Kind.TYPEDEF, "btf_trace_t", s.add(Kind.PTR, word=proto))
    return s, void, pointer


def test_a_tracepoint_without_names_is_named_by_types():
    s, _, _ = tracepoint_sample()
    assert s.btf().tracepoint("t") == ("skb", "location", "reason", "skb", "arg4")
    assert s.btf().tracepoint("nope") is None


def test_a_tracepoint_is_named_by_the_functions_that_call_its_probes():
    s, void, pointer = tracepoint_sample()
    s.add(Kind.FUNC, "__bpf_trace_t", s.proto(0, [("__data", void), ("second", pointer)]))
    assert s.btf().tracepoint("t") == ("second",)
    s.add(Kind.FUNC, "__traceiter_t", s.proto(0, [("__data", void), ("first", pointer)]))
    assert s.btf().tracepoint("t") == ("first",)


def test_an_event_class_is_no_tracepoint():
    s, void, pointer = tracepoint_sample(with_typedef=False)
    s.add(Kind.FUNC, "__bpf_trace_t", s.proto(0, [("__data", void), ("skb", pointer)]))
    assert s.btf().tracepoint("t") is None


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda s, t: s.add(Kind.PTR, word=s.add(Kind.CONST, word=t)), "const struct t *"),
        (lambda s, t: s.add(Kind.CONST, word=s.add(Kind.PTR, word=t)), "struct t * const"),
        (lambda s, t: s.add(Kind.PTR, word=s.proto(t, [])), "function *"),
        (lambda s, t: s.add(Kind.PTR, word=s.add(Kind.FWD, "u", flag=True)), "union u *"),
        (lambda s, t: s.add(Kind.ARRAY, rest=[t, t, 3]), "struct t [3]"),
        (lambda s, t: s.add(Kind.PTR, word=s.add(Kind.TYPE_TAG, "rcu", t)), "struct t *"),
        (lambda s, t: 0, "void"),
    ],
)
def test_types_are_spelled_as_in_c(build, text):
    s = Sample()
    t = s.struct("t", 0, [])
    type_id = build(s, t)
    assert s.btf().spell(type_id) == text


def split_sample():
    base = Sample()
    base_int = base.int("int", 4, encoding=1)
    base.struct("shared", 4, [("n", base_int, 0)])
    whole = base.btf()
    own = Sample(whole)
    own.struct("own", 8, [("s", 2, 0), ("p", 1, 32)])
    own.struct("shared", 4, [("m", 1, 0)])
    return whole, own.data()


def test_a_module_goes_on_after_the_kernel():
    base, data = split_sample()
    module = Btf.parse(data, base)
    assert len(module) == 5
    assert module[3].name == "own"
    assert module.field("own", "s.n").bit_size == 32  # through a type of the kernel
    assert module.field("own", "p").bit_offset == 32
    assert list(module.named((Kind.STRUCT,), "shared")) == [4, 2]
    assert base.find((Kind.STRUCT,), "own") is None
    assert module.sha256 != Btf.parse(base.data).sha256 == base.sha256


def test_a_module_without_its_kernel_is_damaged():
    _, data = split_sample()
    with pytest.raises(UsageError):
        Btf.parse(data).field("own", "s.n")


def small():
    s = Sample()
    s.struct("s", 4, [("a", s.int("int", 4), 0)])
    return s.data()


def changed(offset, form, value):
    data = bytearray(small())
    struct.pack_into(form, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too few"),
        (b"\x7fELF" + bytes(60), "is not BTF"),
        (b"\xeb\x9f" + small()[2:], "big-endian"),
        (changed(2, "B", 2), "version 2"),
        (changed(4, "<I", 8), "header of 8"),
        (changed(4, "<I", 1 << 31), "cut short"),
        (changed(12, "<I", 9), "not whole words"),
        (small()[:-1], "cut short"),
        (small()[:-1] + b"x", "does not end"),
        (changed(20, "<I", 0), "first string"),
    ],
)
def test_a_damaged_header_is_said(data, message):
    with pytest.raises(UsageError, match=message) as caught:
        Btf.parse(data)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "data",
    [
        changed(24 + 4, "<I", 31 << 24),  # an unknown kind
        changed(24 + 4, "<I", int(Kind.STRUCT) << 24 | 0xFFFF),  # more members than there are bytes
        changed(24 + 16 + 12 + 4, "<I", 99),  # a member of a type that does not exist
        changed(24 + 16 + 12, "<I", 99),  # a name that does not exist
    ],
)
def test_a_damaged_record_is_said(data):
    with pytest.raises(UsageError, match="is damaged"):
        Btf.parse(data).field("s", "a")


@pytest.mark.parametrize("kind", [Kind.TYPEDEF, Kind.CONST, Kind.PTR, Kind.ARRAY, Kind.FUNC_PROTO])
def test_rings_end(kind):
    s = Sample()
    own = s.add(kind, "ring", 1, [1, 1, 2] if kind is Kind.ARRAY else ())
    s.struct("s", 8, [("a", own, 0)])
    s.add(Kind.FUNC, "f", s.proto(own, [("p", own)]))
    btf = s.btf()
    if kind is Kind.PTR:
        assert btf.field("s", "a").bit_size == 64
    else:
        with pytest.raises(UsageError, match="is damaged"):
            btf.field("s", "a")
    spelled = {Kind.FUNC_PROTO: "function", Kind.TYPEDEF: "ring"}.get(kind)
    if spelled:
        assert btf.function("f").returns == spelled
    else:
        with pytest.raises(UsageError, match="is damaged"):
            btf.function("f")


def test_endless_nesting_ends():
    s = Sample()
    deep = s.int("int", 4)
    for _ in range(400):
        deep = s.struct("", 4, [("", deep, 0)])
    s.struct("s", 4, [("", deep, 0)])
    with pytest.raises(UsageError, match="nests too deeply"):
        s.btf().field("s", "a")


def test_names_that_are_not_ascii_are_damage():
    data = small().replace(b"int\0", b"\xff\xfe\xfd\0")
    with pytest.raises(UsageError, match="not ASCII"):
        assert Btf.parse(data)[1]


def test_a_missing_file_is_said_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(btf_module, "VMLINUX", tmp_path / "vmlinux")
    with pytest.raises(NotSupported) as caught:
        Btf.load()
    assert "CONFIG_DEBUG_INFO_BTF" in caught.value.hint
    assert "--btf" in caught.value.hint
    with pytest.raises(UsageError, match="does not exist"):
        Btf.load(tmp_path / "named")
    with pytest.raises(UsageError, match="cannot read"):
        Btf.load(tmp_path)


def test_a_file_is_read_and_named_in_errors(tmp_path):
    path = tmp_path / "small.btf"
    path.write_bytes(small())
    assert Btf.load(path).field("s", "a").bit_size == 32
    path.write_bytes(small()[:40])
    with pytest.raises(UsageError, match=r"small\.btf is damaged"):
        Btf.load(path)
