"""Kernel symbols: the address ranges of the sites, and names for addresses.

/proc/kallsyms takes 0.1 s to read, so what a boot needs is kept in the cache under its boot id,
together with the hash of its BTF. Compilers move parts of functions about: ``ip_fragment`` may
exist only as ``ip_fragment.constprop.0``, and its error path as ``ip_fragment.cold``. All parts of
a name count.
"""

from __future__ import annotations

import bisect
import copy
import ctypes
import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from pmtutrace import paths
from pmtutrace.errors import NotSupported, PrivilegeError, UsageError
from pmtutrace.kernel.words import any_of

KALLSYMS = Path("/proc/kallsyms")
MODULES = Path("/proc/modules")
SYS_MODULE = Path("/sys/module")
KERNEL_BTF = Path("/sys/kernel/btf")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SUFFIX = rb"(?:\.(?:constprop|isra|part|cold|llvm)(?:\.\d+)*)*"
_LINE = re.compile(rb"([0-9a-f]+) [a-zA-Z] \S+(?:[ \t]+\[([^\]\n]+)\])?\n?")
_ADDRESS = 16  # hexadecimal digits
_FAR = 1 << 20  # no function is longer: what lies further from a symbol is not in it


class Range(NamedTuple):
    """One contiguous piece of a function: [start, end) and the symbol as kallsyms spells it."""

    name: str
    symbol: str
    start: int
    end: int


def read(path: Path = KALLSYMS) -> bytes:
    """Return the text of kallsyms: address, type, symbol and, in brackets, module on each line.

    Raises:
        NotSupported: if the kernel has none.
        PrivilegeError: if the addresses are hidden (kptr_restrict, or not root).
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise NotSupported(f"{path} is not there", "the kernel needs CONFIG_KALLSYMS") from error
    if text.rstrip().rpartition(b"\n")[2].startswith(b"0" * _ADDRESS):
        raise PrivilegeError("kernel addresses are hidden", "run as root")
    return text


def find(text: bytes, names: frozenset[str], start: int = 0) -> list[Range]:
    """Return every piece of the functions named, from an offset on, sorted by address."""
    wanted = any_of(name.encode() for name in names)
    # Searched from the first space on: to look for the beginning of a line takes twice as long.
    line = re.compile(
        rb" [tTwW] ((" + wanted + rb")" + _SUFFIX + rb")(?:[ \t]+\[([^\]\n]+)\])?$", re.M
    )
    modules: dict[bytes, list[int]] = {}
    found = []
    for match in line.finditer(text, start):
        address, module = int(text[match.start() - _ADDRESS : match.start()], 16), match[3]
        if module:
            if module not in modules:
                modules[module] = _addresses(text, module)
            place = bisect.bisect(modules[module], address)
            end = [*modules[module][place : place + 1], address + _FAR][0]
        else:
            end = _next(text, match.end(), address)
        found.append(Range(match[2].decode(), match[1].decode(), address, end))
    return sorted(found, key=lambda piece: piece.start)


def modules_in(text: bytes) -> int:
    """Return the offset from which on the symbols are those of modules."""
    mark = text.find(b"\t[")
    return text.rfind(b"\n", 0, mark) + 1 if mark >= 0 else len(text)


def _addresses(text: bytes, module: bytes) -> list[int]:
    """Return the addresses of a module's symbols, which lie together, but in no order."""
    mark = b"\t[" + module + b"]"
    start = text.rfind(b"\n", 0, text.find(mark)) + 1
    lines = text[start : text.rfind(mark) + len(mark)].splitlines()
    return sorted(int(line[:_ADDRESS], 16) for line in lines if line.endswith(mark))


def _next(text: bytes, at: int, start: int) -> int:
    """Return the first address after ``start``; the kernel's own symbols are in order."""
    for match in _LINE.finditer(text, at + 1):
        if int(match[1], 16) > start:
            return int(match[1], 16)
    return start + _FAR


def resolve(address: int, path: Path = KALLSYMS) -> str:
    """Return ``symbol+0xoffset`` for a kernel address, or the bare address.

    Takes some 50 ms and no memory to speak of: for addresses that are seldom met.
    """
    goal = b"%016x" % address
    best = b""
    with path.open("rb") as lines:
        for line in lines:
            if best[:_ADDRESS] <= line[:_ADDRESS] <= goal:
                best = line
    fields = best.split()
    if len(fields) < 3 or address - int(fields[0], 16) > _FAR:
        return f"{address:#x}"
    return f"{fields[2].decode(errors='replace')}+{address - int(fields[0], 16):#x}"


class Boot:
    """What does not change while this kernel runs: its BTF's hash and the pieces of its sites.

    Kept in the cache for one boot. Modules bring sites of their own, so the facts hold for one set
    of loaded modules and where they were put. ``ranges`` are looked up when first asked for.
    """

    def __init__(self, names: frozenset[str], btf: Path) -> None:
        self._names, self._file = names, btf
        self.key = boot_key(names, btf)
        self._kept: Path | None = paths.cache("boot") / f"{self.key}.json"
        self._ranges: tuple[Range, ...] | None = None
        self._own: tuple[Range, ...] = ()  # those of the kernel proper, which stay where they are
        try:
            seal, _, text = paths.read_private(self._kept).partition(b"\n")
            if hashlib.sha256(text).hexdigest().encode() != seal:
                raise ValueError(f"{self._kept} is damaged")
            facts = json.loads(text)
            self.btf: str = facts["btf"]
            self._ranges = tuple(Range(*entry) for entry in facts["ranges"])
        except (OSError, ValueError, KeyError, TypeError):
            self.btf = _digest(btf)  # not there, or damaged: made anew

    def again(self) -> Boot:
        """Return the same with the modules that are loaded now.

        Nothing is read from the cache or written to it: what runs must not end because that went.
        """
        now = copy.copy(self)
        now.key = boot_key(self._names, self._file)
        now._kept = now._ranges = None
        return now

    @property
    def ranges(self) -> tuple[Range, ...]:
        """Every piece of the functions named, sorted by address."""
        if self._ranges is None:
            text = read()
            modules = modules_in(text)
            if not self._own:
                self._own = tuple(find(text[:modules], self._names))
            self._ranges = (*self._own, *find(text, self._names, modules))
            del text
            _give_back()
            if self._kept is not None:
                self._keep(self._kept, self._ranges)
        return self._ranges

    def _keep(self, path: Path, ranges: tuple[Range, ...]) -> None:
        entries = [(r.name, r.symbol, r.start, r.end) for r in ranges]
        text = json.dumps({"btf": self.btf, "ranges": entries}).encode()
        paths.write_private(path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
        paths.prune(path.parent)


def _give_back() -> None:
    """Return memory to the kernel, where the allocator can (glibc): that text was half of ours."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def boot_key(names: frozenset[str], btf: Path) -> str:
    """Return what tells this boot, with the modules that are loaded now, from any other."""
    modules = b" ".join(sorted(map(_loaded, _lines(MODULES))))
    key = hashlib.sha256()
    for part in (BOOT_ID.read_bytes(), modules, " ".join(sorted(names)).encode(), _which(btf)):
        key.update(part + b"\0")
    return key.hexdigest()[:32]


def _loaded(line: bytes) -> bytes:
    """Return what tells a module, by its line in MODULES, from itself after a reload."""
    name, address = line.split()[:6:5]
    return b"%s@%s %d" % (name, address, module(name.decode()) or 0)


def module(name: str) -> int | None:
    """Return a number that a module has until it is unloaded; None where there is none.

    Loaded again, it may well get the same address, but never the same inode.
    """
    try:
        return (SYS_MODULE / name).stat().st_ino
    except OSError:
        return None


def _which(path: Path) -> bytes:
    """Return what tells a BTF file from another that is put in its place."""
    if path.is_relative_to(KERNEL_BTF):
        return bytes(path)  # the boot id says it; inodes in sysfs come and go
    try:
        status = path.stat()
    except OSError:
        return bytes(path)
    return bytes(path) + f" {status.st_ino} {status.st_size} {status.st_mtime_ns}".encode()


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError:
        return []  # a kernel without modules


def _digest(btf: Path) -> str:
    try:
        return hashlib.sha256(btf.read_bytes()).hexdigest()
    except OSError as error:
        if btf.is_relative_to(KERNEL_BTF):
            raise NotSupported(
                f"there is no BTF at {btf}",
                "use a kernel with CONFIG_DEBUG_INFO_BTF=y, or name a file with --btf",
            ) from error
        hint = "give the raw .BTF section of this kernel's vmlinux"
        raise UsageError(f"cannot read BTF {btf}: {error.strerror}", hint) from error
