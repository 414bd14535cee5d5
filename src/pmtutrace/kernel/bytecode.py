"""Link bytecode: fill in maps and the kfunc, and put the functions that are called behind it.

BCC compiles every function alone and has no calls between them. So a call is written as that of a
helper which no kernel has, and the number of that helper says what is meant. A function that
several programs call is compiled once; the kernel verifies it in each of them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RDONLY_CAST = 0x7FFFFF01
# Called by programs, never attached: bpf/ is told the numbers as CALL_name.
CALLED = {
    name: 0x7FFFFF10 + number
    for number, name in enumerate(("report", "parse", "fragmented", "queued"))
}
# Maps of one value whose address is part of a program: bpf/ is told their numbers as VALUE_name.
VALUES = (
    *("settings", "sites", "found_sites", "zeros", "turns"),
    *("module_moves", "number_of_keys"),
)
KFUNC = "bpf_rdonly_cast"
CALL = 0x85
PSEUDO_CALL, PSEUDO_KFUNC_CALL = 1, 2
INSTRUCTION = 8


class Program(NamedTuple):
    """One program: bytecode, and where in it (octet offset) which map (index) is meant."""

    name: str
    code: bytes
    references: tuple[tuple[int, int], ...]


def linked(
    program: Program, programs: Mapping[str, Program], map_fds: Sequence[int], kfunc: int | None
) -> bytes:
    """Return what can be loaded: a program, and behind it all that it calls.

    Args:
        program: the one wanted.
        programs: all of the image, by name.
        map_fds: descriptors of the image's maps, in its order.
        kfunc: BTF id of bpf_rdonly_cast, if the image was built to use it.
    """
    names = {number: name for name, number in CALLED.items()}
    starts: dict[str, int] = {}
    code = bytearray()
    waiting = [program]
    calls: list[tuple[int, str]] = []
    for part in waiting:  # grows as calls are found
        start = starts[part.name] = len(code)
        code += part.code
        for at, index in part.references:
            struct.pack_into("<i", code, start + at + 4, map_fds[index])
        for at in _calls(part.code):
            number = int.from_bytes(part.code[at + 4 : at + 8], "little")
            if number == RDONLY_CAST and kfunc is not None:
                code[start + at + 1] = PSEUDO_KFUNC_CALL << 4
                struct.pack_into("<i", code, start + at + 4, kfunc)
            elif number in names:
                calls.append((start + at, names[number]))
                if programs[names[number]] not in waiting:
                    waiting.append(programs[names[number]])
    for at, name in calls:
        code[at + 1] = PSEUDO_CALL << 4
        struct.pack_into("<i", code, at + 4, (starts[name] - at) // INSTRUCTION - 1)
    return bytes(code)


def _calls(code: bytes) -> Iterator[int]:
    """Yield where calls are."""
    opcodes = code[::INSTRUCTION]
    at = opcodes.find(CALL)
    while at >= 0:
        yield at * INSTRUCTION
        at = opcodes.find(CALL, at + 1)
