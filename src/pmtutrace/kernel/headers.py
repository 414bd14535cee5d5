"""A C header with just the kernel types that a tracer uses, with every offset as in the kernel.

BCC's compiler needs no kernel headers then: 60 KB from BTF instead of the 3 MB of a full vmlinux.h
or of an installed linux-headers package, which for kernels from 6.19 on its clang cannot parse.
What is emitted is checked when it is compiled: each size, and each offset that is asked for.
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace import paths
from pmtutrace.errors import NotSupported, UsageError
from pmtutrace.kernel.btf import TRACEPOINT
from pmtutrace.kernel.btf_kinds import COMPOSITE, ENUMERATION, Kind
from pmtutrace.kernel.ctypes_declare import Declarations, c_path, checked

if TYPE_CHECKING:
    from pmtutrace.kernel.btf import Btf, Field

GUARD = "PMTUTRACE_KERNEL_TYPES_H"
MAKERS = ("btf", "btf_kinds", "btf_records", "ctypes_declare", "ctypes_layout", "headers", "words")


class Wanted(NamedTuple):
    """What a header shall hold, as read from a TOML file of lists of strings.

    Attributes:
        types: structs, unions, enums and typedefs that must exist.
        optional_types: ones that may be missing; `HAVE_TYPE_name` tells.
        required: dotted fields of `types` that must exist, and of `optional_types` that do.
        optional: dotted fields that may be missing; `HAVE_type__path` tells, dots being `__`.
        enums: whole enums that may be missing; `HAVE_ENUM_name` tells.
        lean: types of which only the fields that are listed are declared, to be read faster.
        tracepoints: raw tracepoints that may be missing; `HAVE_TP_name` tells, and
            `TP_name__argument` is the index of an argument.
        functions: ones that may be missing; `RETURN_name` is the number of arguments, behind which
            what the function returns is found.
    """

    types: tuple[str, ...] = ()
    optional_types: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    enums: tuple[str, ...] = ()
    lean: tuple[str, ...] = ()
    tracepoints: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Wanted:
        """Read a TOML file; raise `UsageError` where it is not of the form described above."""
        try:
            content = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"cannot read {path}: {error}") from error
        for key, names in content.items():
            if key not in cls._fields:
                raise UsageError(
                    f"{path}: unknown list {key}", f"known are {', '.join(sorted(cls._fields))}"
                )
            if not isinstance(names, list):
                raise UsageError(f"{path}: {key} is not a list")
            dotted = key in ("required", "optional")
            for name in names:
                _check_name(path, name, dotted)
        wanted = cls(**{key: tuple(names) for key, names in content.items()})
        types = {*wanted.types, *wanted.optional_types}
        for name in (*wanted.required, *wanted.optional):
            if name.partition(".")[0] not in types:
                raise UsageError(f"{path}: {name} is a field of none of the types that are listed")
        return wanted


def names(wanted: Wanted) -> set[str]:
    """Return all names that will be looked for in BTF, for :meth:`Btf.expect`."""
    return {
        *(*wanted.types, *wanted.optional_types, *wanted.enums, *wanted.functions),
        *(before + name for before in TRACEPOINT for name in wanted.tracepoints),
    }


def generate(btf: Btf, wanted: Wanted) -> str:
    """Return the text of the header: the same for the same kernel and wishes.

    Raises:
        NotSupported: this kernel lacks a type or field that must be there.
        UsageError: the BTF is damaged.
    """
    roots = _find_types(btf, wanted)
    enums = {name: i for name in wanted.enums if (i := _find_enum(btf, name)) is not None}
    ids = [*enums.values(), *(i for found in roots.values() for i in found)]
    declarations = Declarations(btf, ids, _kept(btf, wanted, roots))
    lines = [f"#define HAVE_TYPE_{name} 1" for name in wanted.optional_types if name in roots]
    lines += [f"#define HAVE_ENUM_{name} 1" for name in enums]
    lines += _tracepoints(btf, wanted.tracepoints)
    found_functions = ((name, btf.function(name)) for name in wanted.functions)
    lines += [f"#define RETURN_{n} {len(f.parameters)}" for n, f in found_functions if f]
    checks = []
    for name in (*wanted.required, *wanted.optional):
        type_name, _, path = name.partition(".")
        found = btf.field(type_name, path) if type_name in roots else None
        if found is None:
            if name in wanted.required and type_name in roots:
                raise _missing(f"field {name}")
            continue
        flat = name.replace(".", "__")
        if name in wanted.optional:
            lines.append(f"#define HAVE_{flat} 1")
        if found.bitfield:
            lines += _bitfield(flat, found)
        else:
            spelled = declarations.name(roots[type_name][0])
            offset = f"__builtin_offsetof({spelled}, {c_path(found.path)})"
            checks.append(f'_Static_assert({offset} == {found.bit_offset // 8}, "{name}");')
    head = f"/* Made by pmtutrace from BTF {btf.sha256[:16]}. */\n#ifndef {GUARD}\n#define {GUARD}"
    return "\n".join([head, *lines, *declarations.lines, *checks, "#endif", ""])


def cached(btf: Btf, wanted: Wanted) -> Path:
    """Return the header as a file, made anew only if it is missing, outdated or damaged.

    Raises:
        As `generate`, and UsageError where the cache cannot be written.
    """
    path = paths.cache("headers") / f"{_key(btf, wanted)}.h"
    try:
        seal, _, text = path.read_text().partition("\n")
        if seal == _seal(text):
            return path
    except (FileNotFoundError, UnicodeDecodeError):
        pass  # made below
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    text = generate(btf, wanted)
    try:
        paths.write_private(path, f"{_seal(text)}\n{text}".encode())
    except OSError as error:
        hint = "name another folder in $PMTUTRACE_CACHE"
        raise UsageError(f"cannot write {path}: {error.strerror}", hint) from error
    return path


def _check_name(path: Path, name: object, dotted: bool) -> None:
    if not isinstance(name, str):
        raise UsageError(f"{path}: {name!r} is not a name")
    parts = name.split(".")
    if len(parts) > 1 if not dotted else len(parts) == 1:
        raise UsageError(
            f"{path}: {name!r} is not of the form {'type.field' if dotted else 'type'}"
        )
    if not all(part.isidentifier() and part.isascii() for part in parts):
        raise UsageError(f"{path}: {name!r} is not a C name")


def _missing(what: str) -> NotSupported:
    return NotSupported(f"this kernel has no {what}", "it is older or newer than any that is known")


def _find_types(btf: Btf, wanted: Wanted) -> dict[str, list[int]]:
    """Return the ids by name: of the struct, union or enum, and of the typedef, if both exist."""
    found: dict[str, list[int]] = {}
    for name in dict.fromkeys((*wanted.types, *wanted.optional_types)):
        tag = btf.find(COMPOSITE, name) or _find_enum(btf, name)
        ordinary = btf.find((Kind.TYPEDEF, Kind.INT), name)
        ids = [type_id for type_id in (tag, ordinary) if type_id is not None]
        if ids:
            found[name] = ids
        elif name in wanted.types:
            raise _missing(f"type {name}")
    return found


def _kept(btf: Btf, wanted: Wanted, roots: dict[str, list[int]]) -> dict[int, frozenset[str]]:
    """Return the members to declare of each lean type, and of what it holds without a name."""
    kept: dict[int, frozenset[str]] = {}

    def keep(type_id: int, name: str) -> None:
        kept[type_id] = kept.get(type_id, frozenset()) | {name}
        for member in btf.members(type_id):
            if not member.name and btf.resolve(member.type_id).kind in COMPOSITE:
                keep(btf.resolve(member.type_id).id, name)

    for path in (*wanted.required, *wanted.optional):
        root, *parts = path.split(".")
        holder = btf[roots[root][0]] if root in roots else None
        for depth, part in enumerate(parts, 1):
            if holder is None or holder.kind not in COMPOSITE:
                break
            if holder.name in wanted.lean:
                keep(holder.id, part)
            found = btf.field(root, ".".join(parts[:depth]))
            holder = btf.resolve(found.type_id) if found else None
    return kept


def _find_enum(btf: Btf, name: str) -> int | None:
    return next((i for i in btf.named(ENUMERATION, name) if btf[i].vlen), None)


def _tracepoints(btf: Btf, names: tuple[str, ...]) -> list[str]:
    lines = []
    for name in names:
        arguments = btf.tracepoint(name)
        if arguments is not None:
            lines.append(f"#define HAVE_TP_{name} 1")
            lines += [f"#define TP_{name}__{checked(btf, a)} {i}" for i, a in enumerate(arguments)]
    return lines


def _bitfield(flat: str, found: Field) -> list[str]:
    """Say how to read a bitfield, which has no address: load BYTES at OFFSET, then shift."""
    offset, shift = divmod(found.bit_offset, 8)
    values = {
        "OFFSET": offset,
        "SHIFT": shift,
        "WIDTH": found.bit_size,
        "BYTES": (shift + found.bit_size + 7) // 8,
    }
    return [f"#define BITFIELD_{flat}_{key} {value}" for key, value in values.items()]


def _key(btf: Btf, wanted: Wanted) -> str:
    """Return the name of a header: of the kernel, of what is wanted and of what makes it."""
    digest = hashlib.sha256(f"{btf.sha256}\n{wanted}\n".encode())
    for name in MAKERS:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


def _seal(text: str) -> str:
    return f"/* sha256 {hashlib.sha256(text.encode()).hexdigest()} */"
