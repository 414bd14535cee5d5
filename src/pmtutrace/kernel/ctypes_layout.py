"""How a C compiler must be made to lay out a struct that BTF describes only by offsets.

BTF keeps neither `packed` nor `aligned` nor unnamed bitfields. They are found again by laying the
members out as the System V ABI does and comparing: what is further away than the ABI would put it
gets padding in front; what is nearer, or ends unaligned, makes the whole struct packed. Padding is
always written out, so `aligned` is never needed: an emitted type is at most as strictly aligned as
the kernel's, and its size and offsets are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.kernel.btf import POINTER_SIZE, Btf
from pmtutrace.kernel.btf_kinds import COMPOSITE, ENUMERATION, Kind
from pmtutrace.kernel.btf_records import LONGEST_CHAIN, Member, Type

if TYPE_CHECKING:
    from collections.abc import Mapping

FLOATS = {4: "float", 8: "double"}  # any other is emitted as bytes: long double differs by target
_ALIGNED_SIZES = (1, 2, 4, 8, 16)


class Padding(NamedTuple):
    """Bits of no member: up to a whole byte, then whole bytes, then up to the next member."""

    before: int
    size: int
    after: int


class Layout(NamedTuple):
    """What to write in a struct or union, in order; `align` is in bytes."""

    items: tuple[Member | Padding, ...]
    align: int
    packed: bool


class Layouts:
    """Layouts of the structs and unions of one kernel, each found once.

    Raises:
        UsageError: no C compiler could have made such a struct: members overlap, stick out or nest
            in themselves.
    """

    def __init__(self, btf: Btf, kept: Mapping[int, frozenset[str]] | None = None) -> None:
        self._btf = btf
        self._kept = kept or {}
        self._known: dict[int, Layout | None] = {}  # None while it is being found
        self._depth = 0

    def of(self, type_id: int) -> Layout:
        """Return the layout of a struct or union."""
        if type_id in self._known:
            layout = self._known[type_id]
            if layout is None:
                raise self._btf.damaged(f"type {type_id} holds itself")
            return layout
        if self._depth == LONGEST_CHAIN:
            raise self._btf.damaged(f"type {type_id} is nested too deeply")
        self._known[type_id] = None
        self._depth += 1
        type_ = self._btf[type_id]
        members = self._btf.members(type_id)
        if type_id in self._kept:
            names = self._kept[type_id]
            members = tuple(m for m in members if not m.name or m.name in names)
        place = self._union if type_.kind is Kind.UNION else self._struct
        layout = place(type_, members, packed=False) or place(type_, members, packed=True)
        if layout is None:
            raise self._btf.damaged(f"members of type {type_id} do not start at whole bytes")
        self._depth -= 1
        self._known[type_id] = layout
        return layout

    def align(self, type_id: int) -> int:
        """Return the alignment in bytes that the compiler will give a type."""
        for _ in range(LONGEST_CHAIN):
            type_ = self._btf.resolve(type_id)
            if type_.kind is Kind.ARRAY:
                type_id, _count = self._btf.array(type_.id)
            elif type_.kind is Kind.PTR:
                return POINTER_SIZE
            elif type_.kind in COMPOSITE:
                return self.of(type_.id).align
            elif type_.kind is Kind.FLOAT:
                return type_.word if type_.word in FLOATS else 1
            elif type_.kind in (Kind.INT, *ENUMERATION):
                if type_.word not in _ALIGNED_SIZES:
                    raise self._btf.damaged(f"type {type_.id} has {type_.word} bytes")
                return type_.word
            else:
                raise self._btf.damaged(f"type {type_.id} has no size")
        raise self._btf.damaged(f"array type {type_id} refers to itself")

    def _struct(self, type_: Type, members: tuple[Member, ...], packed: bool) -> Layout | None:
        """Lay out a struct; None if it can only be had packed."""
        items: list[Member | Padding] = []
        end, strictest = 0, 1
        for member in members:
            align = 1 if packed else self.align(member.type_id)
            strictest = max(strictest, align)
            natural, next_end = self._put(member, end, align, packed)
            if natural is None:
                return None
            if member.bit_offset < end:
                raise self._btf.damaged(f"members of type {type_.id} overlap")
            if member.bit_offset != natural:
                items.append(_padding(end, member.bit_offset))
            items.append(member)
            end = next_end
        size = 8 * type_.word
        if end > size:
            raise self._btf.damaged(f"a member of type {type_.id} sticks out")
        if type_.word % strictest:
            return None
        if _round_up(end, 8 * strictest) != size:
            items.append(_padding(end, size))
        return Layout(tuple(items), strictest, packed)

    def _put(self, member: Member, end: int, align: int, packed: bool) -> tuple[int | None, int]:
        """Return where the compiler would put a member after bit `end`, and where it really ends.

        The first is None if, unless packed, it cannot be put where it really is.
        """
        bits = 8 * self._btf.size(member.type_id)
        if not member.bit_size:
            if member.bit_offset % (8 * align):
                return None, 0
            return _round_up(end, 8 * align), member.bit_offset + bits
        kind = self._btf.resolve(member.type_id).kind
        if member.bit_size > bits or kind not in (Kind.INT, *ENUMERATION):
            raise self._btf.damaged(f"bitfield {member.name} does not fit its type")
        after = member.bit_offset + member.bit_size
        if packed:
            return end, after
        # A bitfield does not cross a boundary of its declared type: it moves to the next one.
        if member.bit_offset % bits + member.bit_size > bits:
            return None, 0
        return end if end % bits + member.bit_size <= bits else _round_up(end, bits), after

    def _union(self, type_: Type, members: tuple[Member, ...], packed: bool) -> Layout | None:
        """Lay out a union; None if it can only be had packed."""
        longest, strictest = 0, 1
        for member in members:
            size = self._btf.size(member.type_id)
            if member.bit_offset or member.bit_size > 8 * size:
                raise self._btf.damaged(f"a member of union {type_.id} is out of place")
            longest = max(longest, (member.bit_size + 7) // 8 if member.bit_size else size)
            strictest = max(strictest, 1 if packed else self.align(member.type_id))
        if longest > type_.word:
            raise self._btf.damaged(f"a member of type {type_.id} sticks out")
        if type_.word % strictest:
            return None
        items: tuple[Member | Padding, ...] = members
        if _round_up(longest, strictest) != type_.word:
            items = (*members, Padding(0, type_.word, 0))
        return Layout(items, strictest, packed)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _padding(start: int, end: int) -> Padding:
    """Return what fills the bits from `start` to `end`."""
    before = min(-start % 8, end - start)
    size, after = divmod(end - start - before, 8)
    return Padding(before, size, after)
