"""The one thing that attaching to a module's function takes of its BTF: the function's type id.

A module's BTF goes on after the kernel's: its ids follow the last type there, its names the last
string. So only what is its own has to be gone through, and not the 100 000 types of the kernel.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

from pmtutrace.kernel import libbpf

FOLDER = Path("/sys/kernel/btf")
FUNC = 12
# Words that follow the three of every type, by kind: fixed ones, and for each element. Linux's
# Documentation/bpf/btf.rst; the others have none.
_FIXED = {1: 1, 3: 3, 14: 1, 17: 1}
_EACH = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}
_HEADER = struct.Struct("<HBBIIIII")


def function_id(data: bytes, name: str, base: bytes, base_types: int) -> int | None:
    """Return the type id of a function of a module, or None if it is not there.

    Args:
        data: a module's BTF as in /sys/kernel/btf, little endian.
        name: of the function.
        base: the kernel's BTF: a name that is there is not in the module's again.
        base_types: how many types that has, ``void`` included.

    Raises:
        OSError: (EINVAL) if the data are damaged.
    """
    try:
        known, own = _strings(base), _strings(data)
        # A name of the module's own follows all of the kernel's.
        offsets = {
            at + start
            for text, start in ((known, 0), (own, len(known)))
            if (at := (b"\0" + text).find(b"\0" + name.encode() + b"\0")) >= 0
        }
        _, _, _, header, start, size, _, _ = _HEADER.unpack_from(data)
        words = struct.unpack_from(f"<{size // 4}I", data, header + start)
        number, at = base_types, 0
        while offsets and at < len(words):
            kind = words[at + 1] >> 24 & 31
            if kind == FUNC and words[at] in offsets:
                return number
            at += 3 + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * (words[at + 1] & 0xFFFF)
            number += 1
    except (struct.error, IndexError) as error:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
    return None


def _strings(data: bytes) -> bytes:
    _, _, _, header, _, _, start, length = _HEADER.unpack_from(data)
    return data[header + start : header + start + length]


def target(way: int, module: str, function: str, base_types: int) -> libbpf.Target:
    """Return what a program for a module's function is loaded for; the caller closes its object.

    Raises:
        OSError: if the module is not loaded, has no BTF, or not this function in it.
    """
    data, base = ((FOLDER / name).read_bytes() for name in (module, "vmlinux"))
    number = function_id(data, function, base, base_types)
    if number is None:
        raise OSError(errno.ENOENT, f"not in the BTF of {module}")
    return libbpf.Target(way, number, libbpf.btf_object(module))
