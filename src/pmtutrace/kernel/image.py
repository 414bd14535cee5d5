"""Tracer images: what BCC made of bpf/ for one kernel, with all that loading it takes.

An image holds maps, bytecode with relocatable map references, the event layout, the drop reasons
and the BTF ids of attach points, so that starting needs neither a compiler nor a look into BTF. It
is cached under the hash of what it was built from; one that is stale or damaged is rebuilt, never
trusted. The file: a line of magic, the SHA-256 of the rest, the rest as JSON.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pmtutrace.errors import ImageError
from pmtutrace.kernel import sources
from pmtutrace.kernel.bytecode import KFUNC, Program, linked
from pmtutrace.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

MAKERS = (
    *("bcc_child", "btf", "btf_kinds", "btf_records", "build", "bytecode", "compiler"),
    *("ctypes_declare", "ctypes_layout", "headers", "hooks", "image", "sources", "words"),
)
MAGIC = b"pmtutrace image 1\n"


class Options(NamedTuple):
    """What an image can be built with.

    Args:
        plain: read kernel memory by helper calls only. Otherwise tracepoint arguments are loaded
            directly (kernel 5.5), and any pointer where the kernel has bpf_rdonly_cast (6.2).
        flows: entries of the counter table; beyond them the overflow entry counts.
        ring_pages: size of the event ring in pages of 4 KiB, a power of two.
        kprobes: with the programs that are attached by kprobes.
        fentry: with those that are attached by fentry and fexit.
    """

    plain: bool = False
    flows: int = 65536
    ring_pages: int = 512
    kprobes: bool = True
    fentry: bool = True


class Map(NamedTuple):
    """One map; sizes are in octets."""

    name: str
    type: int
    key_size: int
    leaf_size: int
    max_entries: int
    flags: int


class Image(NamedTuple):
    """A compiled tracer."""

    key: dict[str, Any]
    maps: tuple[Map, ...]
    programs: dict[str, Program]
    tracepoints: dict[str, int]
    functions: dict[str, int]
    btf_types: int  # how many the kernel's BTF has: where ids of modules begin
    reasons: dict[int, str]
    layout: Layout

    def bytecode(self, program: Program, map_fds: Sequence[int]) -> bytes:
        """Return a program's bytecode, ready to load with these descriptors of the maps."""
        return linked(program, self.programs, map_fds, self.functions.get(KFUNC))

    def entries(self, name: str) -> int:
        """Return how many entries a map has room for; of a ring, how many octets."""
        return next(entry.max_entries for entry in self.maps if entry.name == name)

    @property
    def tp_btf(self) -> bool:
        """Whether tracepoint programs are of type tp_btf."""
        return not self.key["options"]["plain"]


def key_of(btf_sha256: str, options: Options) -> dict[str, Any]:
    """Return what an image depends on."""
    return {
        "btf": btf_sha256,
        "sources": sources.digest(),
        "made_by": _makers(),
        "options": options._asdict(),
    }


@functools.cache
def _makers() -> str:
    """Return the SHA-256 of the modules that decide what is in an image."""
    total = hashlib.sha256()
    for name in MAKERS:
        total.update(Path(__file__).with_name(f"{name}.py").read_bytes() + b"\0")
    return total.hexdigest()


def _key(value: dict[str, Any]) -> dict[str, Any]:
    """Return a key that was read, once it has what is asked of it."""
    Options(**value["options"])
    bytes.fromhex(value["btf"])
    return value


def seal(content: dict[str, Any]) -> bytes:
    """Return the octets of an image file."""
    body = json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def unseal(data: bytes) -> Image:
    """Read the octets of an image file.

    Raises:
        ImageError: if they are damaged or of another format.
    """
    hint = "remove it, or build it again with `pmtutrace compile`"
    digest, _, body = data[len(MAGIC) :].partition(b"\n")
    if not data.startswith(MAGIC):
        raise ImageError("not a tracer image of this version", hint)
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ImageError("the tracer image is damaged", hint)
    try:
        content = json.loads(body)
        programs = (
            Program(p["name"], bytes.fromhex(p["code"]), tuple((a, m) for a, m in p["references"]))
            for p in content["programs"]
        )
        return Image(
            _key(content["key"]),
            tuple(Map(**entry) for entry in content["maps"]),
            {program.name: program for program in programs},
            dict(content["tracepoints"]),
            dict(content["functions"]),
            int(content["btf"]["types"]),
            {number: name for name, number in content["reasons"].items()},
            Layout(content["layout"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(f"the tracer image is damaged: {error}", hint) from error
