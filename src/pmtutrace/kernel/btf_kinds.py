"""Kinds of records in the BPF Type Format (BTF), and how long a record is."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """What a type is: BTF_KIND_* of include/uapi/linux/btf.h."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


COMPOSITE = (Kind.STRUCT, Kind.UNION)
ENUMERATION = (Kind.ENUM, Kind.ENUM64)
QUALIFIERS = frozenset((Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG))
TRANSPARENT = QUALIFIERS | {Kind.TYPEDEF}

# Words (32 bit) of a record after its three common ones: fixed, and per element.
_FIXED = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
_EACH = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.FUNC_PROTO: 2,
    Kind.DATASEC: 3,
    Kind.ENUM64: 3,
}


KIND = 31 << 24  # of the second word of a record


class Sizes(dict[int, int]):
    """The size of a record in words, by its second word, which tells its kind and elements.

    Asking for one of an unknown kind raises ValueError.
    """

    def __missing__(self, info: int) -> int:
        kind = Kind((info & KIND) >> 24)
        if kind is Kind.VOID:
            raise ValueError("no record is of kind void")
        self[info] = size = 3 + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * (info & 0xFFFF)
        return size
