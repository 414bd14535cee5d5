"""Read bpf/include/events.h: the one description of what passes from the kernel side to us.

The header holds enums with explicit values and flat structs of fixed-width members, other structs
and ``_Static_assert(sizeof(...))`` lines. From it come the ``struct`` formats that decode events
and counters, and the names of verdicts, causes and losses. All integers are in the host's byte
order except members called ``be_*``, which are as on the wire.
"""

from __future__ import annotations

import re
import struct
from typing import Any, NamedTuple

from pmtutrace.errors import ImageError

_INTEGERS = {
    "__u8": "B",
    "__u16": "H",
    "__u32": "I",
    "__u64": "Q",
    "__s8": "b",
    "__s16": "h",
    "__s32": "i",
    "__s64": "q",
}
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
_BLOCK = re.compile(r"\b(struct|enum)\s+(\w+)\s*\{([^}]*)\}\s*;")
_MEMBER = re.compile(r"^(?:struct\s+(\w+)|(__[us](?:8|16|32|64)))\s+(\w+)(?:\[(\d+)\])?$")
_ENUMERATOR = re.compile(r"^(\w+)\s*=\s*(0[xX][0-9a-fA-F]+|0|[1-9]\d*)$", re.ASCII)
_ASSERT = re.compile(r"_Static_assert\s*\(\s*sizeof\s*\(\s*struct\s+(\w+)\s*\)\s*==\s*(\d+)")


class Member(NamedTuple):
    """One member: its name, octets from the start of the struct, element type and their number.

    ``type`` is a ``struct`` format character, or the name of another struct; ``number`` is None for
    a single value.
    """

    name: str
    offset: int
    type: str
    number: int | None


class Struct(NamedTuple):
    """A struct of events.h: its size in octets and its members in order."""

    name: str
    size: int
    members: tuple[Member, ...]


class Layout:
    """Every struct and enum of events.h, able to decode and encode them.

    Args:
        source: the text of events.h.

    Raises:
        ImageError: if the text does not keep to the rules, or a size differs from its assert.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.structs: dict[str, Struct] = {}
        self.enums: dict[str, dict[str, int]] = {}
        self._codecs: dict[str, struct.Struct] = {}
        text = _COMMENT.sub(" ", source)
        for kind, name, body in _BLOCK.findall(text):
            if kind == "enum":
                self.enums[name] = _enumerators(name, body)
            else:
                self.structs[name] = self._struct(name, body)
        for name, size in _ASSERT.findall(text):
            if name not in self.structs or self.structs[name].size != int(size):
                raise ImageError(f"events.h: struct {name} is not {size} octets long")

    def _struct(self, name: str, body: str) -> Struct:
        members: list[Member] = []
        at = 0
        for line in (part.strip() for part in body.split(";")):
            if not line:
                continue
            found = _MEMBER.match(" ".join(line.split()))
            if found is None:
                raise ImageError(f"events.h: struct {name}: cannot read {line!r}")
            inner, integer, member, length = found.groups()
            if inner is not None and inner not in self.structs:
                raise ImageError(f"events.h: struct {name}: struct {inner} is not defined above")
            size = self.structs[inner].size if inner else struct.calcsize("=" + _INTEGERS[integer])
            if at % self.alignment(inner or integer):
                raise ImageError(f"events.h: struct {name}: {member} needs padding before it")
            number = int(length) if length is not None else None
            members.append(Member(member, at, inner or _INTEGERS[integer], number))
            at += size * (1 if number is None else number)
        if not members:
            raise ImageError(f"events.h: struct {name} is empty")
        if at % max(self.alignment(member.type) for member in members):
            raise ImageError(f"events.h: struct {name} needs padding at its end")
        return Struct(name, at, tuple(members))

    def alignment(self, type_: str) -> int:
        """Return the natural alignment in octets of an integer type or struct."""
        if type_ in _INTEGERS:
            return struct.calcsize("=" + _INTEGERS[type_])
        if type_ in self.structs:
            return max(self.alignment(member.type) for member in self.structs[type_].members)
        return struct.calcsize("=" + type_)

    def flat(self, name: str, prefix: str = "", base: int = 0) -> list[Member]:
        """Return the members with nested structs dissolved, as ``key.saddr``; octets as bytes."""
        out: list[Member] = []
        for member in self.structs[name].members:
            path, offset = prefix + member.name, base + member.offset
            if member.type not in self.structs:
                out.append(Member(path, offset, member.type, member.number))
                continue
            size = self.structs[member.type].size
            for i in range(member.number or 1):
                index = "" if member.number is None else f"[{i}]"
                out.extend(self.flat(member.type, f"{path}{index}.", offset + i * size))
        return out

    def codec(self, name: str) -> struct.Struct:
        """Return the compiled ``struct`` format of a struct, one value for each flat member."""
        if name not in self._codecs:
            self._codecs[name] = struct.Struct(
                "=" + "".join(_format(member) for member in self.flat(name))
            )
        return self._codecs[name]

    def names(self, name: str) -> list[str]:
        """Return the flat member names in the order in which :meth:`codec` unpacks them."""
        return [member.name for member in self.flat(name)]

    def pack(self, name: str, values: dict[str, Any]) -> bytes:
        """Encode a struct from a dict of flat members; what is not named is zero."""
        out = []
        for member in self.flat(name):
            empty: Any = b"" if member.number is not None else 0
            out.append(values.get(member.name, empty))
        return self.codec(name).pack(*out)

    def words(self, enum: str, prefix: str) -> dict[int, str]:
        """Return value to lower-case word for one enum: ``VERDICT_TOLD`` is ``told``."""
        return {
            value: name.removeprefix(prefix).lower()
            for name, value in self.enums[enum].items()
            if name.startswith(prefix)
        }


def _format(member: Member) -> str:
    if member.number is None:
        return member.type
    if member.type != "B":
        raise ImageError(f"events.h: {member.name}: only octets may come in arrays")
    return f"{member.number}s"


def _enumerators(name: str, body: str) -> dict[str, int]:
    values = {}
    for line in filter(None, (part.strip() for part in body.split(","))):
        found = _ENUMERATOR.match(line)
        if found is None:
            raise ImageError(f"events.h: enum {name}: cannot read {line!r}")
        values[found.group(1)] = int(found.group(2), 0)
    return values
