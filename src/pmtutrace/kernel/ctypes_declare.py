"""C declarations of kernel types, with what they embed, in an order that a compiler accepts.

Only layouts count: qualifiers go; what functions take that are pointed to goes; typedefs and enums
that nobody asked for become what they stand for. A struct that is only pointed to stays incomplete.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pmtutrace.kernel.btf_kinds import COMPOSITE, ENUMERATION, QUALIFIERS, Kind
from pmtutrace.kernel.btf_records import LONGEST_CHAIN, Member, Type
from pmtutrace.kernel.ctypes_layout import FLOATS, Layouts, Padding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pmtutrace.kernel.btf import Btf

# Ten times what the largest header holds: a damaged file may embed the same struct 2^30 times.
MOST_MEMBERS = 100_000

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Words that a compiler of GNU C takes for its own, but that may be names in BTF (which Rust and
# assembly feed, too), and macros that compilers predefine on the platforms.
_RESERVED = re.compile(
    "asm|auto|break|case|char|const|continue|default|do|double|else|enum|extern|float|for|goto|if|"
    "inline|int|long|register|restrict|return|short|signed|sizeof|static|struct|switch|typedef|"
    "typeof|union|unsigned|void|volatile|while|linux|unix|i386|_[A-Z][a-z]+(_[a-z]+)*"
)
# The integer types by size in bytes, unsigned and signed.
_INTEGERS = {
    1: ("unsigned char", "signed char"),
    2: ("unsigned short", "short"),
    4: ("unsigned int", "int"),
    8: ("unsigned long long", "long long"),
    16: ("unsigned __int128", "__int128"),
}
PACKED = " __attribute__((packed))"
INT_SIGNED, INT_BOOL = 1, 4  # BTF_INT_*
# Types that the compiler knows under their own names, which must not be defined again.
_BUILTIN = re.compile(r"__builtin_\w+|__int128|_Bool")


def c_path(path: str) -> str:
    """Return a dotted path as it reads in the emitted types, where reserved words are renamed."""
    return re.sub(r"\w+", lambda word: _renamed(word[0]), path)


def checked(btf: Btf, name: str) -> str:
    """Return a name that may go into C text; raise `UsageError` if it is none."""
    if not _IDENTIFIER.fullmatch(name):
        raise btf.damaged(f"{name!r} is not a C name")
    return name


def c_name(btf: Btf, name: str) -> str:
    """Return a name as it reads in the emitted types; raise `UsageError` if it is none."""
    return _renamed(checked(btf, name))


def _renamed(name: str) -> str:
    return f"{name}_" if _RESERVED.fullmatch(name) else name


class Declarations:
    """The declarations of some types and of all that they embed.

    Wanted types keep their names; another type of such a name gets a suffix.

    Args:
        btf: the kernel's types.
        wanted: ids of structs, unions, enums, typedefs or integers, in the order wished for.
        kept: for some structs, the only members to declare; padding takes the others' place.

    Raises:
        UsageError: the BTF is damaged.
    """

    def __init__(
        self, btf: Btf, wanted: Iterable[int], kept: Mapping[int, frozenset[str]] | None = None
    ) -> None:
        self.lines: list[str] = []
        self._btf = btf
        self._layouts = Layouts(btf, kept)
        self._begun: set[int] = set()
        self._names: dict[int, str] = {}
        self._tags: dict[str, str] = {}  # name -> its keyword, wherever it was mentioned
        self._owned: set[str] = set()  # tags that are some type's for good
        self._ordinary: set[str] = set()  # typedefs and enumerators share this name space
        self._members = 0
        self._paddings = 0
        roots = [i for i in dict.fromkeys(wanted) if not _is_builtin(btf[i])]
        self._roots = frozenset(roots)
        for type_id in roots:
            self._name(btf[type_id])
        for type_id in roots:
            self._complete(btf[type_id])

    def name(self, type_id: int) -> str:
        """Return what to write for a wanted type, such as `struct sk_buff` or `u32`."""
        type_ = self._btf[type_id]
        return type_.name if _is_builtin(type_) else self._refer(type_)

    def _refer(self, type_: Type) -> str:
        if type_.kind is Kind.TYPEDEF:
            return self._name(type_)
        return f"{_keyword(type_)} {self._name(type_)}"

    def _name(self, type_: Type) -> str:
        """Return the name of a tag or typedef, given to this type alone."""
        known = self._names.get(type_.id)
        if known is None:
            name = c_name(self._btf, type_.name)
            if type_.kind is Kind.TYPEDEF:
                known = self._unique(name)
            else:
                keyword, known, copies = _keyword(type_), name, 1
                while known in self._owned or self._tags.get(known, keyword) != keyword:
                    copies += 1
                    known = f"{name}___{copies}"
                self._owned.add(known)
                self._tags[known] = keyword
            self._names[type_.id] = known
        return known

    def _unique(self, name: str) -> str:
        """Return a name for a typedef or enumerator that none has yet."""
        known, copies = name, 1
        while known in self._ordinary:
            copies += 1
            known = f"{name}___{copies}"
        self._ordinary.add(known)
        return known

    def _complete(self, type_: Type) -> None:
        """Emit the definition of a type with a name, unless that was begun before."""
        if type_.kind is Kind.TYPEDEF:
            self._typedef(type_)
            target = self._btf.resolve(type_.id)
            if target.kind in COMPOSITE and target.name:
                self._complete(target)
        elif type_.id not in self._begun:
            self._begun.add(type_.id)
            if type_.kind in ENUMERATION:
                self._enum(type_)
            else:
                self._emit(f"{self._refer(type_)} {self._body(type_)};", type_)

    def _emit(self, text: str, type_: Type) -> None:
        self.lines.append(text)
        refer = self._refer(type_)
        size = self._btf.size(type_.id)
        self.lines.append(f'_Static_assert(sizeof({refer}) == {size}, "{type_.name}");')

    def _typedef(self, type_: Type) -> None:
        """Emit a typedef; of a struct with a tag it need not know more than the tag."""
        if type_.id in self._begun:
            return
        self._begun.add(type_.id)
        name = self._name(type_)
        target = self._btf.resolve(type_.id)
        if target.kind not in COMPOSITE:
            self.lines.append(f"typedef {self._declare(type_.word, name)};")
        elif target.name:
            self.lines.append(f"typedef {self._refer(target)} {name};")
        elif target.id in self._names:
            self.lines.append(f"typedef {self._names[target.id]} {name};")
        else:
            self._names[target.id] = name
            self._emit(f"typedef {_keyword(target)} {self._body(target)} {name};", type_)

    def _enum(self, type_: Type) -> None:
        form = _enum_form(self._btf, type_)
        values = self._btf.enumerators(type_.id).items()
        if values:
            names = [self._unique(c_name(self._btf, name)) for name, _ in values]
            text = ", ".join(
                f"{n} = {_constant(v)}" for n, (_, v) in zip(names, values, strict=True)
            )
            self.lines.append(f"{self._refer(type_)} {{ {text} }}{form or ''};")

    def _body(self, type_: Type) -> str:
        """Return the members of a struct or union in braces, and the attribute it needs."""
        layout = self._layouts.of(type_.id)
        self._members += len(layout.items)
        if self._members > MOST_MEMBERS:
            raise self._btf.damaged(f"type {type_.id} embeds too much")
        lines = [
            self._pad(item) if isinstance(item, Padding) else self._member(item)
            for item in layout.items
        ]
        text = "\n".join(lines).replace("\n", "\n\t")
        return f"{{\n\t{text}\n}}{PACKED if layout.packed else ''}"

    def _pad(self, padding: Padding) -> str:
        parts = []
        if padding.before:
            parts.append(f"unsigned char : {padding.before};")
        if padding.size:
            self._paddings += 1
            parts.append(f"unsigned char __pad{self._paddings}[{padding.size}];")
        if padding.after:
            parts.append(f"unsigned char : {padding.after};")
        return " ".join(parts)

    def _member(self, member: Member) -> str:
        if member.name:
            width = f" : {member.bit_size}" if member.bit_size else ""
            return f"{self._declare(member.type_id, c_name(self._btf, member.name))}{width};"
        # Without a name it may still have a tag (-fms-extensions, which the kernel is built with
        # since 6.19): C proper wants the members themselves here.
        type_ = self._btf.resolve(member.type_id)
        if type_.kind not in COMPOSITE:
            raise self._btf.damaged(f"a member of type {type_.id} has no name")
        return f"{_keyword(type_)} {self._body(type_)};"

    def _declare(self, type_id: int, name: str) -> str:
        """Return the C declaration of a name; what it embeds is emitted before.

        The declarator grows inside out: `x`, an array `x[3]` of pointers `*x[3]` to something.
        """
        for _ in range(LONGEST_CHAIN):
            type_ = self._btf[type_id]
            pointed = name.startswith("*")
            if type_.kind is Kind.PTR:
                name = f"*{name}"
            elif type_.kind is Kind.ARRAY and not pointed:
                type_id, count = self._btf.array(type_id)
                name = f"{name}[{count}]"
                continue
            elif type_.kind is Kind.TYPEDEF:
                alias = self._alias(type_, pointed)
                if alias:
                    return f"{alias} {name}"
            elif type_.kind not in QUALIFIERS:
                return self._declare_plain(type_, name, pointed)
            type_id = type_.word
        raise self._btf.damaged(f"type {type_id} refers to itself")

    def _alias(self, type_: Type, pointed: bool) -> str | None:
        """Return the typedef to write, or None to write what it stands for."""
        if type_.id in self._roots:
            self._typedef(type_) if pointed else self._complete(type_)
            return self._name(type_)
        target = self._btf.resolve(type_.id)
        if pointed or target.name or target.kind not in COMPOSITE:
            return None
        if target.id not in self._names:
            self._typedef(type_)
        return self._names[target.id]

    def _declare_plain(self, type_: Type, name: str, pointed: bool) -> str:
        if type_.kind is Kind.FUNC_PROTO:
            return f"void ({name})(void)"
        if type_.kind is Kind.INT:
            return f"{_integer(self._btf, type_)} {name}"
        if type_.kind is Kind.FLOAT and not pointed:
            if type_.word in FLOATS:
                return f"{FLOATS[type_.word]} {name}"
            return f"unsigned char {name}[{type_.word}]"
        if type_.kind in ENUMERATION:
            return f"{self._declare_enum(type_)} {name}"
        if type_.kind in COMPOSITE and not pointed:
            if not type_.name:
                return f"{_keyword(type_)} {self._body(type_)} {name}"
            self._complete(type_)
            return f"{self._refer(type_)} {name}"
        if type_.kind in (Kind.FWD, *COMPOSITE) and type_.name:
            return f"{self._mention(type_)} {name}"
        return f"void {name}"

    def _mention(self, type_: Type) -> str:
        """Return what to write for a struct or union behind a pointer.

        It need not be declared before, as no prototype confines it; and as it is not looked into,
        any of this keyword and name will do.
        """
        if type_.id in self._names:
            return self._refer(type_)
        name, keyword = c_name(self._btf, type_.name), _keyword(type_)
        return f"{keyword} {name}" if self._tags.setdefault(name, keyword) == keyword else "void"

    def _declare_enum(self, type_: Type) -> str:
        if type_.id in self._roots and _enum_form(self._btf, type_) is not None:
            self._complete(type_)
            return self._refer(type_)
        return _of_size(self._btf, type_, self._btf.signed(type_.id))


def _keyword(type_: Type) -> str:
    if type_.kind is Kind.FWD:
        return "union" if type_.flag else "struct"
    return "enum" if type_.kind in ENUMERATION else type_.kind.name.lower()


def _is_builtin(type_: Type) -> bool:
    return type_.kind is Kind.INT or bool(_BUILTIN.fullmatch(type_.name))


def _of_size(btf: Btf, type_: Type, signed: bool) -> str:
    if type_.word not in _INTEGERS:
        raise btf.damaged(f"type {type_.id} has {type_.word} bytes")
    return _INTEGERS[type_.word][signed]


def _integer(btf: Btf, type_: Type) -> str:
    """Return a C integer type by size, sign and, where that matters to C, by name."""
    encoding, _, _ = btf.integer(type_.id)
    if type_.word == 1 and encoding & INT_BOOL:
        return "_Bool"
    if type_.name == "char" and type_.word == 1:
        return "char"
    spelled = _of_size(btf, type_, bool(encoding & INT_SIGNED))
    if type_.word == 8 and type_.name.count("long") == 1:  # printf tells it from long long
        return spelled.replace("long long", "long")
    return spelled


def _constant(value: int) -> str:
    """Return a 64-bit number as C takes it without warning: beyond long long, and the smallest."""
    if value == -(1 << 63):
        return "-9223372036854775807 - 1"
    return f"{value}ULL" if value >= 1 << 63 else str(value)


def _enum_form(btf: Btf, type_: Type) -> str | None:
    """Return the attribute that gives an enum its size, or None if none would."""
    values = btf.enumerators(type_.id).values()
    if not values:
        return None
    low, high = min(values), max(values)
    fits = [
        size
        for size in (1, 2, 4, 8)
        if (-(1 << 8 * size - 1) <= low and high < 1 << 8 * size - 1)
        or (low >= 0 and high < 1 << 8 * size)
    ]
    smallest = fits[0] if fits else 8
    if type_.word == max(4, smallest):
        return ""
    return PACKED if type_.word == smallest else None
