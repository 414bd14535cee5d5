"""Link bytecode: fill in maps and the kfunc, and put the functions that are called behind it.

BCC compiles every function alone and has no calls between them. So a call is written as that of a
helper which no kernel has, and the number of that helper says what is meant. A function that
several programs call is compiled once; the kernel verifies it in each of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RDONLY_CAST = 0x7FFFFF01
# Called by programs, never attached: bpf/ is told the numbers as CALL_name.
CALLED = {"report": 0x7FFFFF10, "parse": 0x7FFFFF11, "fragmented": 0x7FFFFF12}
KFUNC = "bpf_rdonly_cast"
CALL = 0x85
PSEUDO_CALL, PSEUDO_KFUNC_CALL = 1, 2
INSTRUCTION = 8


@dataclass(frozen=True, slots=True)
class Program:
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
        for at in range(start, len(code), INSTRUCTION):
            number = int.from_bytes(code[at + 4 : at + 8], "little")
            if code[at] != CALL:
                continue
            if number == RDONLY_CAST and kfunc is not None:
                code[at + 1] = PSEUDO_KFUNC_CALL << 4
                struct.pack_into("<i", code, at + 4, kfunc)
            elif number in names:
                calls.append((at, names[number]))
                if programs[names[number]] not in waiting:
                    waiting.append(programs[names[number]])
    for at, name in calls:
        code[at + 1] = PSEUDO_CALL << 4
        struct.pack_into("<i", code, at + 4, (starts[name] - at) // INSTRUCTION - 1)
    return bytes(code)
