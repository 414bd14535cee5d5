"""The id of a module's function, as the whole parser finds it."""

import runpy
from pathlib import Path

import pytest

from pmtutrace.kernel import module_btf
from pmtutrace.kernel.btf_kinds import Kind

Sample = runpy.run_path(str(Path(__file__).parents[2] / "data" / "btf" / "sample.py"))["Sample"]


@pytest.fixture(scope="module")
def module():
    """A module's BTF with records of every kind before, between and after its functions."""
    kernel = Sample()
    integer = kernel.int("int", 4, encoding=1)
    kernel.struct("in_both", 4, [("n", integer, 0)])
    own = Sample(kernel.btf())
    own.add(Kind.PTR, word=integer)
    own.add(Kind.ARRAY, rest=[integer, integer, 7])
    own.struct("st", 8, [("a", integer, 0), ("b", integer, 32)])
    own.struct("un", 4, [("a", integer, 0)], Kind.UNION)
    own.enum("en", {"A": 1, "B": 2})
    own.enum64("en64", {"C": 1 << 40})
    own.add(Kind.DATASEC, ".data", 4, [15, 0, 4], count=1)
    proto = own.proto(integer, [("skb", integer), ("dev", integer)])
    function = own.add(Kind.FUNC, "first_xmit", proto)
    own.add(Kind.DECL_TAG, "tag", function, [0xFFFFFFFF])
    own.add(Kind.VAR, "va", integer, [1])
    own.add(Kind.FLOAT, "double", 8)
    own.struct("xmit", 0, [])
    own.add(Kind.FUNC, "second_xmit", proto)
    return own


def looked_up(module, name):
    return module_btf.function_id(module.data(), name, module.base.data, len(module.base))


def test_ids_are_those_of_the_parser(module):
    whole = module.btf()
    for name in ("first_xmit", "second_xmit"):
        assert looked_up(module, name) == whole.find((Kind.FUNC,), name) is not None


def test_what_is_not_a_function_of_the_module_has_none(module):
    for name in ("xmit", "st", "in_both", "third_xmit", "irst_xmit"):
        assert looked_up(module, name) is None


def test_a_name_that_the_kernel_has_is_not_in_the_module_again(module):
    """pahole puts a string into a module's BTF only if the kernel's has none like it."""
    base = module.base
    own = module_btf.function_id(module.data(), "second_xmit", base.data, len(base))
    words = bytearray(module.data())
    name = base.string_end + module_strings(words).index(b"\0second_xmit\0") + 1
    shared = module_strings(base.data).index(b"\0in_both\0") + 1
    at = words.index(name.to_bytes(4, "little"))
    words[at : at + 4] = shared.to_bytes(4, "little")
    assert module_btf.function_id(bytes(words), "in_both", base.data, len(base)) == own
    assert module_btf.function_id(bytes(words), "second_xmit", base.data, len(base)) is None


def module_strings(data):
    """Return the strings of a file, which end it."""
    return bytes(data[-int.from_bytes(data[20:24], "little") :])


@pytest.mark.parametrize("length", [0, 5, 23, 30])
def test_damage_is_an_error_of_the_system(module, length):
    with pytest.raises(OSError, match="Invalid argument"):
        module_btf.function_id(module.data()[:length], "first_xmit", module.base.data, 3)
