"""What is called is put behind the program that calls it, once, with its own maps filled in."""

import struct

import pytest

from pmtutrace.kernel import bytecode, compiler, headers, sources
from pmtutrace.kernel.btf import Btf
from pmtutrace.kernel.bytecode import Program

FRAME, COPY, ADD = 10, 0xBF, 0x07  # r10; rX = rY; rX += number
EXIT = bytes.fromhex("9500000000000000")
MAP = bytes.fromhex("18110000000000000000000000000000")
REPORT = bytecode.CALLED["report"]


def call(number):
    return bytes([bytecode.CALL, 0, 0, 0]) + number.to_bytes(4, "little")


def test_a_call_leads_to_the_function_behind_the_program():
    caller = Program("p", call(REPORT) + MAP + call(REPORT) + EXIT, ((8, 0),))
    report = Program("report", MAP + EXIT, ((0, 1),))
    code = bytecode.linked(caller, {"p": caller, "report": report}, [70, 71], None)
    assert len(code) == len(caller.code) + len(report.code)
    for at in (0, 24):
        assert code[at + 1] == bytecode.PSEUDO_CALL << 4
        distance = int.from_bytes(code[at + 4 : at + 8], "little", signed=True)
        # The kernel counts from the instruction behind the call.
        assert (at // 8) + 1 + distance == len(caller.code) // 8
    assert code[12:16] == (70).to_bytes(4, "little")
    assert code[len(caller.code) + 4 : len(caller.code) + 8] == (71).to_bytes(4, "little")


def test_functions_may_call_functions(monkeypatch):
    monkeypatch.setitem(bytecode.CALLED, "second", REPORT + 1)
    first = Program("report", call(REPORT + 1) + EXIT, ())
    second = Program("second", call(REPORT) + EXIT, ())
    parts = {program.name: program for program in (first, second)}
    code = bytecode.linked(first, parts, [], None)
    assert int.from_bytes(code[4:8], "little", signed=True) == 1
    assert int.from_bytes(code[20:24], "little", signed=True) == -3


def test_what_calls_nothing_stays_as_it_is():
    program = Program("p", call(1) + EXIT, ())
    assert bytecode.linked(program, {"p": program}, [], 5) == program.code


def frame(code):
    """Return how far down its stack a function reaches, as kernels before 6.13 round it."""
    lowest, copied = 0, None
    for at in range(0, len(code), 8):
        opcode, registers, offset, number = struct.unpack_from("<BBhi", code, at)
        target, source = registers & 15, registers >> 4
        stores, loads = opcode & 7 in (2, 3), opcode & 7 == 1
        if (stores and target == FRAME) or (loads and source == FRAME):
            lowest = min(lowest, offset)
        if opcode == ADD and copied == target:
            lowest = min(lowest, number)
        copied = target if opcode == COPY and source == FRAME else None
    return (31 - lowest) // 32 * 32


@pytest.mark.live
def test_a_program_and_what_it_calls_fit_one_stack():
    """Newer kernels give called functions a stack of their own; older ones refuse the program."""
    types = headers.generate(Btf.load(), headers.Wanted.read(sources.folder() / "kernel.toml"))
    with compiler.Compiler() as bcc:
        compiled = bcc.compile(types, {"TP_BTF": 1})
    code = {program["name"]: bytes.fromhex(program["code"]) for program in compiled["programs"]}
    calls = {
        name: [called for called, number in bytecode.CALLED.items() if call(number) in octets]
        for name, octets in code.items()
    }
    assert all(any(name in called for called in calls.values()) for name in bytecode.CALLED)

    def deepest(name):
        return frame(code[name]) + max((deepest(called) for called in calls[name]), default=0)

    assert {name: deepest(name) for name in code if deepest(name) > 512} == {}
