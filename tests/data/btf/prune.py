"""Make a small BTF file out of a kernel's: what keep.toml lists, and what that embeds.

    prune.py BTF OUT.btf.xz [KEEP.toml]

BTF is a raw file such as /sys/kernel/btf/vmlinux. What is kept, is kept whole and in the same
order; a struct that is only pointed to, and not listed, becomes a forward declaration. Ids and
strings are numbered anew. Reads and writes the format with code of its own, so that the tests which
compare a pruned file with the whole one check the project's parser as well.
"""

from __future__ import annotations

import fnmatch
import lzma
import re
import struct
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)
# After the three common words of a record: how many fixed ones, and per element how many, of which
# (s)tring offset, (t)ype id, (-) plain.
SHAPE = {
    INT: ("-", ""), ARRAY: ("tt-", ""), STRUCT: ("", "st-"), UNION: ("", "st-"), ENUM: ("", "s-"),
    FUNC_PROTO: ("", "st"), VAR: ("-", ""), DATASEC: ("", "t--"), DECL_TAG: ("-", ""),
    ENUM64: ("", "s--"),
}  # fmt: skip
REFERS = {PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DECL_TAG, TYPE_TAG}


class Record(NamedTuple):
    """A type as it is in the file: three common words, then the rest with its shape."""

    name: str
    info: int
    word: int
    rest: tuple[int, ...]

    @property
    def kind(self) -> int:
        return self.info >> 24 & 31

    @property
    def shape(self) -> str:
        fixed, each = SHAPE.get(self.kind, ("", ""))
        return fixed + each * (self.info & 0xFFFF)


def read(data: bytes) -> tuple[list[Record], bytes]:
    """Return all types, void first, and the strings of a BTF file."""
    _, _, _, header, types, size, strings, length = struct.unpack_from("<HBBIIIII", data)
    text = data[header + strings : header + strings + length]
    words = struct.unpack(f"<{size // 4}I", data[header + types : header + types + size])
    records, at = [Record("", 0, 0, ())], 0
    while at < len(words):
        name, info, word = words[at : at + 3]
        record = Record(text[name : text.index(0, name)].decode(), info, word, ())
        end = at + 3 + len(record.shape)
        records.append(record._replace(rest=words[at + 3 : end]))
        at = end
    return records, text


def write(records: list[Record], names: bytes) -> bytes:
    """Return a BTF file of these types (void first), whose string offsets are in `names`."""
    strings, places = bytearray(b"\0"), {b"": 0}

    def place(name: bytes) -> int:
        if name not in places:
            places[name] = len(strings)
            strings.extend(name + b"\0")
        return places[name]

    words: list[int] = []
    for record in records[1:]:
        words += [place(record.name.encode()), record.info, record.word]
        for mark, value in zip(record.shape, record.rest, strict=True):
            if mark == "s":
                value = place(names[value : names.index(0, value)])
            words.append(value)
    types = struct.pack(f"<{len(words)}I", *words)
    return (
        struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
        + types
        + bytes(strings)
    )


def embedded(records: list[Record], roots: list[int]) -> tuple[set[int], set[int]]:
    """Return the ids to keep whole, and those of structs to keep as forward declarations."""
    whole, forward = {0}, set()
    seen: set[tuple[int, bool]] = set()
    ahead = [(root, False) for root in roots]
    while ahead:
        type_id, pointed = ahead.pop()
        if (type_id, pointed) in seen:
            continue
        seen.add((type_id, pointed))
        record = records[type_id]
        if pointed and record.kind in (STRUCT, UNION) and record.name:
            forward.add(type_id)
            continue
        whole.add(type_id)
        passing = record.kind in (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG) and pointed
        if record.kind in REFERS:
            ahead.append((record.word, passing or record.kind == PTR))
        if record.kind != FUNC_PROTO:
            pointed = record.kind == ARRAY and pointed
        marks = zip(record.shape, record.rest, strict=True)
        ahead += [(value, pointed) for mark, value in marks if mark == "t"]
    return whole, forward - whole


def prune(data: bytes, keep: dict[str, list[str]]) -> bytes:
    """Return a smaller BTF file: `keep` lists shell patterns for types and for functions."""
    records, text = read(data)
    patterns = {
        group: re.compile("|".join(map(fnmatch.translate, keep[group])))
        for group in ("types", "functions")
    }
    roots = []
    for type_id, record in enumerate(records):
        if record.kind in (STRUCT, UNION, ENUM, ENUM64, TYPEDEF, INT):
            group = "types"
        elif record.kind == FUNC:
            group = "functions"
        else:
            continue
        if record.name and patterns[group].match(record.name):
            roots.append(type_id)
    whole, forward = embedded(records, roots)
    order = sorted(whole | forward)
    number = {old: new for new, old in enumerate(order)}
    kept = []
    for old in order:
        record = records[old]
        if old in forward:
            kept.append(Record(record.name, FWD << 24 | (record.kind == UNION) << 31, 0, ()))
            continue
        marks = zip(record.shape, record.rest, strict=True)
        rest = tuple(number[value] if mark == "t" else value for mark, value in marks)
        word = number[record.word] if record.kind in REFERS else record.word
        kept.append(record._replace(word=word, rest=rest))
    return write(kept, text)


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    keep = Path(sys.argv[3]) if sys.argv[3:] else Path(__file__).with_name("keep.toml")
    small = prune(source.read_bytes(), tomllib.loads(keep.read_text()))
    target.write_bytes(lzma.compress(small, preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
