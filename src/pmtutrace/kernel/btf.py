"""Types, functions and tracepoints of a kernel, from its BPF Type Format (BTF)."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

from pmtutrace.errors import NotSupported, UsageError
from pmtutrace.kernel.btf_kinds import COMPOSITE, ENUMERATION, QUALIFIERS, Kind
from pmtutrace.kernel.btf_records import LONGEST_CHAIN, Member, Records, Type

VMLINUX = Path("/sys/kernel/btf/vmlinux")
POINTER_SIZE = 8  # only 64-bit kernels are traced
# More anonymous members than any struct of the kernel has; a damaged file may nest for ever.
MOST_ANONYMOUS = 256

# Of a tracepoint: the function that calls its probes, that of its class, the type of a probe.
TRACEPOINT = CALLER, CLASS, PROBE = "__traceiter_", "__bpf_trace_", "btf_trace_"
# What a tracepoint's arguments are called where BTF tells only their types.
_ARGUMENT_OF_TYPE = {
    "struct sk_buff *": "skb",
    "void *": "location",
    "enum skb_drop_reason": "reason",
    "struct sock *": "rx_sk",
    "struct neighbour *": "neigh",
}


class Field(NamedTuple):
    """Where a dotted path leads: offset and size in bits, little endian numbering.

    `path` is the path as C wants it, with `[0]` where it goes through an array.
    """

    bit_offset: int
    bit_size: int
    type_id: int
    bitfield: bool
    path: str


class Parameter(NamedTuple):
    """A parameter of a function: `type` as C spells it, `...` for variable ones."""

    name: str
    type: str


class Function(NamedTuple):
    """A function of the kernel: `returns` is a type as C spells it."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: str


class Btf(Records):
    """The BTF of a kernel, or of one of its modules on top of the kernel's.

    Every method raises `UsageError` where the data turn out to be damaged.
    """

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read a raw BTF file, by default the running kernel's.

        Raises:
            NotSupported: the running kernel has none.
            UsageError: the file cannot be read, or holds no BTF.
        """
        path = path or VMLINUX
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            if path != VMLINUX:
                raise UsageError(f"no BTF: {path} does not exist") from error
            hint = "use a kernel with CONFIG_DEBUG_INFO_BTF=y, or give its BTF with --btf FILE"
            raise NotSupported(f"this kernel has no BTF: {path} does not exist", hint) from error
        except OSError as error:
            raise UsageError(f"cannot read BTF {path}: {error.strerror}") from error
        return cls.parse(data, source=str(path))

    @classmethod
    def parse(cls, data: bytes, base: Self | None = None, source: str = "BTF") -> Self:
        """Parse raw BTF; the ids of its types go on after those of `base`, if there is one."""
        return cls(data, base, source)

    @cached_property
    def sha256(self) -> str:
        """Return the hexadecimal digest of the data: the kernel's identity in cache keys."""
        digest = hashlib.sha256(self.data)
        if self.base:
            digest.update(self.base.sha256.encode())
        return digest.hexdigest()

    def size(self, type_id: int) -> int:
        """Return the size of a type in bytes."""
        elements = 1
        for _ in range(LONGEST_CHAIN):
            type_ = self.resolve(type_id)
            if type_.kind is Kind.ARRAY:
                type_id, count = self.array(type_.id)
                elements *= count
            elif type_.kind is Kind.PTR:
                return elements * POINTER_SIZE
            elif type_.kind in (Kind.INT, Kind.FLOAT, *COMPOSITE, *ENUMERATION):
                return elements * type_.word
            else:
                raise self.damaged(f"type {type_.id} has no size")
        raise self.damaged(f"array type {type_id} refers to itself")

    def enum(self, name: str) -> dict[str, int] | None:
        """Return the values of an enumeration by name, or None if this kernel has no such one."""
        ids = self.named(ENUMERATION, name)
        return next((self.enumerators(i) for i in ids if self[i].vlen), None)

    def field(self, name: str, path: str) -> Field | None:
        """Return where `path`, dotted, lies in a struct, union or typedef; None if it is not there.

        The path skips anonymous structs and unions, as C does, and goes through typedefs,
        qualifiers and arrays (their first element).
        """
        type_id = self.find((*COMPOSITE, Kind.TYPEDEF), name)
        if type_id is None:
            return None
        field = Field(0, 0, type_id, bitfield=False, path="")
        for part in path.split("."):
            holder, dimensions = self._element(field.type_id)
            found = self._search(holder, part, set()) if part and holder.kind in COMPOSITE else None
            if found is None:
                return None
            offset, member = found
            spelled = f"{field.path}{'[0]' * dimensions}.{part}" if field.path else part
            bits = member.bit_size or 8 * self.size(member.type_id)
            at = field.bit_offset + offset
            field = Field(at, bits, member.type_id, bool(member.bit_size), spelled)
        return field

    def function(self, name: str) -> Function | None:
        """Return a function's parameters and result, or None if it is not in BTF.

        That it is there does not mean that it can be attached to: its only symbol may be
        `name.constprop.0` or `name.isra.0`, with other parameters.
        """
        type_id = self.find((Kind.FUNC,), name)
        if type_id is None:
            return None
        proto = self._prototype(self[type_id].word)
        parameters = tuple(
            Parameter(n, self.spell(i) if i else "...") for n, i in self.parameters(proto.id)
        )
        return Function(name, parameters, self.spell(proto.word))

    def tracepoint(self, name: str) -> tuple[str, ...] | None:
        """Return the names of a raw tracepoint's arguments, or None if this kernel has no such one.

        The typedef btf_trace_NAME is there on every kernel, without names. They come from the
        functions that call the probes: __traceiter_NAME since 5.10 (d25e37d89dd2), __bpf_trace_NAME
        where the event has a class of its own.
        """
        caller = self.function(CALLER + name)
        typedef = self.find((Kind.TYPEDEF,), PROBE + name)
        if caller is None and typedef is None:
            return None
        for function in (caller, self.function(CLASS + name)):
            names = [parameter.name for parameter in function.parameters] if function else []
            if names and all(names):
                return tuple(names[1:])  # the first is the probe's own void *__data
        if typedef is None:
            return None
        pointer = self.resolve(typedef)
        types = [self.spell(i) for _, i in self.parameters(self._prototype(pointer.word).id)]
        return tuple(
            _ARGUMENT_OF_TYPE.get(type_.removeprefix("const "), f"arg{i}")
            for i, type_ in enumerate(types[1:])
        )

    def spell(self, type_id: int) -> str:
        """Return a type as C spells it, but for callbacks: these are `function *`."""
        stars, qualifier = "", ""
        for _ in range(LONGEST_CHAIN):
            type_ = self[type_id]
            if type_.kind is Kind.PTR:
                stars = "*" + (f" {qualifier.strip()}" if qualifier else "") + stars
                qualifier = ""
            elif type_.kind in QUALIFIERS:
                if type_.kind is not Kind.TYPE_TAG:
                    qualifier = f"{type_.kind.name.lower()} "
            elif type_.kind is Kind.ARRAY:
                stars += f"[{self.array(type_id)[1]}]"
                type_id = self.array(type_id)[0]
                continue
            else:
                return f"{qualifier}{self._spell_plain(type_)}{' ' if stars else ''}{stars}"
            type_id = type_.word
        raise self.damaged(f"type {type_id} refers to itself")

    def _spell_plain(self, type_: Type) -> str:
        if type_.kind in (Kind.VOID, Kind.FUNC_PROTO):
            return "void" if type_.kind is Kind.VOID else "function"
        if type_.kind is Kind.FWD:
            keyword = "union " if type_.flag else "struct "
        elif type_.kind in COMPOSITE:
            keyword = f"{type_.kind.name.lower()} "
        else:
            keyword = "enum " if type_.kind in ENUMERATION else ""
        return keyword + (type_.name or "{}")

    def _element(self, type_id: int) -> tuple[Type, int]:
        """Return what an array of any dimensions holds, and the number of dimensions."""
        for dimensions in range(LONGEST_CHAIN):
            type_ = self.resolve(type_id)
            if type_.kind is not Kind.ARRAY:
                return type_, dimensions
            type_id = self.array(type_.id)[0]
        raise self.damaged(f"array type {type_id} refers to itself")

    def _search(self, holder: Type, name: str, seen: set[int]) -> tuple[int, Member] | None:
        """Find a member by name, in anonymous members too: its offset in bits, and itself."""
        seen.add(holder.id)
        if len(seen) > MOST_ANONYMOUS:
            raise self.damaged(f"type {holder.id} nests too deeply")
        for member in self.members(holder.id):
            if member.name == name:
                return member.bit_offset, member
            if member.name:
                continue
            inner = self.resolve(member.type_id)
            if inner.kind in COMPOSITE and inner.id not in seen:
                found = self._search(inner, name, seen)
                if found:
                    return member.bit_offset + found[0], found[1]
        return None

    def _prototype(self, type_id: int) -> Type:
        type_ = self[type_id]
        if type_.kind is not Kind.FUNC_PROTO:
            raise self.damaged(f"type {type_id} is not a function's prototype")
        return type_
