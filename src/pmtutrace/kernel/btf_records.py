"""Records of the BPF Type Format (BTF): sections, type ids and names, decoded when asked for.

The format is the kernel's Documentation/bpf/btf.rst. A vmlinux holds 5 MB of it, 130 000 types, of
which a tracer needs a few hundred: so one pass finds where the records start, and no more is
decoded than is asked for. What the types mean is asked of `pmtutrace.kernel.btf`.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple, Self

from pmtutrace.errors import UsageError
from pmtutrace.kernel.btf_kinds import KIND, TRANSPARENT, Kind, Sizes
from pmtutrace.kernel.words import any_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAGIC = 0xEB9F
# Longest chain of typedefs, qualifiers and array dimensions that is followed. The kernel's longest
# is below ten; a damaged file may hold a ring.
LONGEST_CHAIN = 64


class Type(NamedTuple):
    """One record: `word` is a size in bytes, or the id of the type that it refers to."""

    id: int
    kind: Kind
    name: str
    flag: bool
    vlen: int
    word: int


class Member(NamedTuple):
    """A member of a struct or union; `bit_size` is 0 unless it is a bitfield."""

    name: str
    type_id: int
    bit_offset: int
    bit_size: int


class Records:
    """The records of one BTF file, or of one on top of another.

    Type ids and string offsets of a module's file go on after those of `base`, the kernel's. Every
    method raises `UsageError` where the data turn out to be damaged.

    Args:
        data: the raw file, little endian.
        base: the file that this one goes on after.
        source: what the file is called in errors.
    """

    def __init__(self, data: bytes, base: Self | None = None, source: str = "BTF") -> None:
        self.data = data
        self.base = base
        self.source = source
        self._types: dict[int, Type] = {}
        self._members: dict[int, tuple[Member, ...]] = {}
        self._named: dict[Kind, dict[bytes, list[int]]] = {}
        self._expected: dict[bytes, list[tuple[Kind, int]]] = {}
        types, self._strings = self._sections()
        self._string_start = base.string_end if base else 0
        self.string_end: int = self._string_start + len(self._strings)
        self._words = array("I", types)
        if sys.byteorder == "big":
            self._words.byteswap()

    def damaged(self, what: str) -> UsageError:
        """Return the error that says that this file cannot be what a kernel exports."""
        hint = "read it anew: /sys/kernel/btf/vmlinux, or pahole --btf_encode_detached from vmlinux"
        return UsageError(f"{self.source} is damaged: {what}", hint)

    def __len__(self) -> int:
        """Return the number of type ids, void and the base's included."""
        return self._first + len(self._starts)

    def __getitem__(self, type_id: int) -> Type:
        """Return the type with this id; id 0 is void."""
        known = self._types.get(type_id)
        return known if known is not None else self._decode(type_id)

    def ids(self, kind: Kind) -> list[int]:
        """Return the ids of this file's own types of one kind, ascending."""
        words, bits = self._words, kind << 24
        return [i for i, s in enumerate(self._starts, self._first) if words[s + 1] & KIND == bits]

    def expect(self, names: Iterable[str]) -> None:
        """Find all types of these names at once: to look through a kind for one takes as long.

        Nobody who writes kernels' BTF lets a name be the end of another: where one is missed for
        that, :meth:`find` says that there is none.
        """
        wanted = sorted({name.encode() for name in names})
        self._expected = {name: [] for name in wanted}
        pattern = re.compile(rb"\0(" + any_of(wanted) + rb")(?=\0)")
        begin = self._string_start - 1  # a module's first name has nothing before it
        found = {begin + m.start(1): m[1] for m in pattern.finditer(b"\0" + self._strings)}
        words, starts, first = self._words, self._starts, self._first
        # Without a step of Python for each of 130 000 types: a third of the time.
        hits = map(found.__contains__, map(words.__getitem__, starts))
        for type_id, start in compress(enumerate(starts, first), hits):
            kind = Kind(words[start + 1] >> 24 & 31)
            self._expected[found[words[start]]].append((kind, type_id))

    def named(self, kinds: Iterable[Kind], name: str) -> Iterator[int]:
        """Yield the ids of all types of this name: own ones before the base's, then by kind."""
        wanted, key = tuple(kinds), name.encode()
        expected = self._expected.get(key)
        for kind in wanted:
            if expected is None:
                yield from self._names(kind).get(key, ())
            else:
                yield from (type_id for its, type_id in expected if its is kind)
        if self.base:
            yield from self.base.named(wanted, name)

    def find(self, kinds: Iterable[Kind], name: str) -> int | None:
        """Return the id of the first type of this name, tried in the order of `kinds`."""
        return next(self.named(kinds, name), None)

    def members(self, type_id: int) -> tuple[Member, ...]:
        """Return the members of a struct or union, in the file's order."""
        if type_id in self._members:
            return self._members[type_id]
        type_ = self[type_id]
        if type_id < self._first:
            return self.base.members(type_id) if self.base else ()
        at = self._starts[type_id - self._first] + 3
        words, flag = self._words, type_.flag
        rows = range(at, at + 3 * type_.vlen, 3)
        members = tuple(self._member(words[i], words[i + 1], words[i + 2], flag) for i in rows)
        self._members[type_id] = members
        return members

    def array(self, type_id: int) -> tuple[int, int]:
        """Return the element type's id and the number of elements of an array."""
        if type_id < self._first:
            return self.base.array(type_id) if self.base else (0, 0)
        at = self._starts[type_id - self._first] + 3
        return self._words[at], self._words[at + 2]

    def integer(self, type_id: int) -> tuple[int, int, int]:
        """Return an integer's encoding (1 signed, 2 char, 4 bool), bit offset and width in bits."""
        if type_id < self._first:
            return self.base.integer(type_id) if self.base else (0, 0, 0)
        word = self._words[self._starts[type_id - self._first] + 3]
        return word >> 24 & 15, word >> 16 & 255, word & 255

    def parameters(self, type_id: int) -> tuple[tuple[str, int], ...]:
        """Return names and type ids of a function prototype; (`""`, 0) last means variable ones."""
        type_ = self[type_id]
        if type_id < self._first:
            return self.base.parameters(type_id) if self.base else ()
        at = self._starts[type_id - self._first] + 3
        rows = range(at, at + 2 * type_.vlen, 2)
        return tuple((self._string(self._words[i]), self._words[i + 1]) for i in rows)

    def enumerators(self, type_id: int) -> dict[str, int]:
        """Return the names and values of an enumeration, in the file's order."""
        type_ = self[type_id]
        if type_id < self._first:
            return self.base.enumerators(type_id) if self.base else {}
        at = self._starts[type_id - self._first] + 3
        words = self._words
        if type_.kind is Kind.ENUM64:
            bits, rows = 64, range(at, at + 3 * type_.vlen, 3)
            pairs = [(words[i], words[i + 1] | words[i + 2] << 32) for i in rows]
        else:
            bits, rows = 32, range(at, at + 2 * type_.vlen, 2)
            pairs = [(words[i], words[i + 1]) for i in rows]
        if self.signed(type_id):
            pairs = [(name, value - (value >> bits - 1 << bits)) for name, value in pairs]
        return {self._string(name): value for name, value in pairs}

    def signed(self, type_id: int) -> bool:
        """Tell whether the values of an enumeration are to be read as signed.

        pahole marks signed enumerations since 1.24. A file without any mark is older: there all are
        read as signed, as -1 is common in the kernel and values above 2^31 are not.
        """
        type_ = self[type_id]
        return type_.flag or (type_.kind is Kind.ENUM and not self._signed_are_marked)

    def resolve(self, type_id: int) -> Type:
        """Follow typedefs and qualifiers to the type beneath."""
        for _ in range(LONGEST_CHAIN):
            type_ = self[type_id]
            if type_.kind not in TRANSPARENT:
                return type_
            type_id = type_.word
        raise self.damaged(f"type {type_id} refers to itself")

    def _sections(self) -> tuple[bytes, bytes]:
        """Check the header; return the type section and the string section."""
        if len(self.data) < 24:
            raise self.damaged(f"{len(self.data)} bytes are too few for a header")
        magic, version, _, header, types, types_size, strings, strings_size = struct.unpack_from(
            "<HBBIIIII", self.data
        )
        if magic == int.from_bytes(MAGIC.to_bytes(2, "big"), "little"):
            raise UsageError(
                f"{self.source} is of a big-endian kernel: only little-endian ones are traced"
            )
        if magic != MAGIC:
            raise UsageError(f"{self.source} is not BTF", "give the raw .BTF section of a vmlinux")
        if version != 1 or header < 24:
            raise self.damaged(f"version {version} with a header of {header} bytes is unknown")
        if max(header + types + types_size, header + strings + strings_size) > len(self.data):
            raise self.damaged("it is cut short")
        if types_size % 4:
            raise self.damaged(f"{types_size} bytes of types are not whole words")
        section = self.data[header + strings : header + strings + strings_size]
        # A module's strings go on after the kernel's: only the kernel's start with the empty one.
        if not self.base and section[:1] != b"\0":
            raise self.damaged("its first string is not the empty one")
        if section and section[-1]:
            raise self.damaged("its last string does not end")
        return self.data[header + types : header + types + types_size], section

    @cached_property
    def _index(self) -> tuple[list[int], Sizes]:
        """Return where each type's record starts, in words, and the sizes that were met."""
        words, end, sizes = self._words, len(self._words), Sizes()
        starts: list[int] = []
        start, add = 0, starts.append
        try:
            while start < end:
                add(start)
                start += sizes[words[start + 1]]
        except (IndexError, ValueError):
            start = end + 1
        if start != end:
            last = self._first + len(starts) - 1
            raise self.damaged(f"the record of type {last} is cut short or of an unknown kind")
        return starts, sizes

    @cached_property
    def _first(self) -> int:
        """Return the first id that is this file's own."""
        return len(self.base) if self.base else 1

    @property
    def _starts(self) -> list[int]:
        return self._index[0]

    @cached_property
    def _signed_are_marked(self) -> bool:
        if self.base and self.base._signed_are_marked:
            return True
        kinds = {(Kind((info & KIND) >> 24), info >> 31) for info in self._index[1]}
        return not kinds.isdisjoint({(Kind.ENUM, 1), (Kind.ENUM64, 0), (Kind.ENUM64, 1)})

    def _names(self, kind: Kind) -> dict[bytes, list[int]]:
        """Return the ids of this file's own types of one kind by name."""
        index = self._named.get(kind)
        if index is None:
            index = self._named[kind] = {}
            words, starts, first = self._words, self._starts, self._first
            strings, base, end = self._strings, self._string_start, self.string_end
            for type_id in self.ids(kind):
                offset = words[starts[type_id - first]]
                if base <= offset < end:
                    offset -= base
                    name = strings[offset : strings.index(0, offset)]
                else:
                    name = self._string(offset).encode()
                if name:
                    index.setdefault(name, []).append(type_id)
        return index

    def _decode(self, type_id: int) -> Type:
        if type_id == 0:
            type_ = Type(0, Kind.VOID, "", flag=False, vlen=0, word=0)
        elif type_id < self._first and self.base:
            return self.base[type_id]
        elif not 0 < type_id < len(self):
            raise self.damaged(f"there is no type {type_id}")
        else:
            at = self._starts[type_id - self._first]
            name, info, word = self._words[at : at + 3]
            kind = Kind(info >> 24 & 31)
            type_ = Type(type_id, kind, self._string(name), bool(info >> 31), info & 0xFFFF, word)
        self._types[type_id] = type_
        return type_

    def _string(self, offset: int) -> str:
        if offset < self._string_start and self.base:
            return self.base._string(offset)
        if offset >= self.string_end:
            raise self.damaged(f"there is no string at {offset}")
        start = offset - self._string_start
        try:
            return self._strings[start : self._strings.index(b"\0", start)].decode("ascii")
        except UnicodeDecodeError as error:
            raise self.damaged(f"the name at {offset} is not ASCII") from error

    def _member(self, name: int, type_id: int, place: int, flagged: bool) -> Member:
        # With the flag, widths are in the upper byte; without, a bitfield has an integer type of an
        # odd width (pahole before 1.13, and structs without bitfields ever since).
        offset, bits = (place & 0xFFFFFF, place >> 24) if flagged else (place, 0)
        type_ = self.resolve(type_id)
        if type_.kind is Kind.INT and not bits:
            _, shift, width = self.integer(type_.id)
            if shift or width != 8 * type_.word:
                offset, bits = offset + shift, width
        return Member(self._string(name), type_id, offset, bits)
