"""Where the C programs are, and how they become one text for the compiler.

BCC rewrites map calls in the main text only, so the .bpf.c files are put one behind the other with
``#line`` between them, and its errors name the file that a person can open.
"""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace.errors import CompilerError

if TYPE_CHECKING:
    from collections.abc import Collection

# The order matters: maps before those who use them, and so on.
TEXTS = (
    "maps.bpf.c",
    "emit.bpf.c",
    "hooks/icmp_send.bpf.c",
    "hooks/icmp_leave.bpf.c",
    "hooks/route.bpf.c",
    "hooks/icmp_lost.bpf.c",
    "hooks/pmtu.bpf.c",
    "hooks/icmp_receive.bpf.c",
    "hooks/modules.bpf.c",
    "hooks/tunnel_xmit.bpf.c",
    "hooks/openvswitch.bpf.c",
    "hooks/waiting.bpf.c",
    "hooks/why.bpf.c",
    "hooks/called.bpf.c",
    "hooks/fragment.bpf.c",
    "hooks/drop.bpf.c",
    "hooks/local.bpf.c",
    "hooks/tunnel_check.bpf.c",
)
# Programs, which are compiled by themselves, and static ones, which become part of who calls them.
_FUNCTION = re.compile(
    r"^(?:int|(static)(?: \w+)*\s+\**)\s*(\w+)\([^;{}]*\)\n\{.*?^\}$", re.M | re.S
)
_COMMENT = re.compile(r"/\*.*?\*/", re.S)
_WORD = re.compile(r"\w+")


def folder() -> Path:
    """Return the folder bpf/: inside the installed package, else beside src/ in a source tree."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "bpf", package.parent.parent / "bpf"):
        if (place / "maps.bpf.c").is_file():
            return place
    raise CompilerError(
        "the C sources of pmtutrace are not installed",
        "install the wheel, or run from a complete source tree",
    )


class _Code:
    """A text of C with the functions in it, and what they call; includes come before ``start``."""

    def __init__(self, includes: str, texts: str) -> None:
        self.start = len(includes)
        self.whole = whole = includes + texts
        self.functions = list(_FUNCTION.finditer(whole))
        self.lengths: dict[str, int] = {}
        words: dict[str, set[str]] = {}
        between, end = [], 0
        for found in self.functions:
            between.append(whole[end : found.start()])
            end = found.end()
            own = _WORD.findall(_COMMENT.sub("", found[0]))
            words.setdefault(found[2], set()).update(own)
            self.lengths[found[2]] = self.lengths.get(found[2], 0) + len(found[0])
        statics = {found[2] for found in self.functions if found[1]}
        outside = _COMMENT.sub("", "".join([*between, whole[end:]]))
        self._calls = {name: statics & own for name, own in words.items()}
        self.always = self._closure(statics.intersection(_WORD.findall(outside)))

    def called(self, programs: Collection[str]) -> set[str]:
        """Return the names of programs and of all that they call, and of what macros may call."""
        return self._closure(set(programs)) | self.always

    def _closure(self, new: set[str]) -> set[str]:
        kept: set[str] = set()
        while new:
            kept |= new
            new = {called for name in new for called in self._calls.get(name, ())} - kept
        return kept


_code = functools.lru_cache(maxsize=1)(_Code)  # to read it takes 10 ms, while BCC is waiting


def _texts() -> str:
    base = folder()
    return "".join(f'#line 1 "{name}"\n{(base / name).read_text()}\n' for name in TEXTS)


def _read() -> _Code:
    files = sorted((folder() / "include").glob("*.h"))
    return _code("".join(f"{file.read_text()}\n" for file in files), _texts())


def text(programs: Collection[str] | None = None) -> str:
    """Return all .bpf.c files as one text with ``#line`` markers.

    Args:
        programs: those to keep, by name, with the functions that they call; of the others, which
            the compiler would only read, nothing stays but empty lines. None: all.
    """
    if programs is None:
        return _texts()
    code = _read()
    kept = code.called(programs)
    left, end = [], code.start
    for found in code.functions:
        if found.start() >= code.start and found[2] not in kept:
            left += [code.whole[end : found.start()], "\n" * found[0].count("\n")]
            end = found.end()
    return "".join([*left, code.whole[end:]])


def halves(programs: Collection[str]) -> tuple[set[str], set[str]]:
    """Share programs out, so that the compiler takes about as long for either part.

    How long it takes for one goes by the length of all that becomes part of it.
    """
    code = _read()
    weights = {
        program: sum(code.lengths.get(name, 0) for name in code.called((program,)) - code.always)
        for program in sorted(programs)
    }
    parts: tuple[set[str], set[str]] = set(), set()
    for program in sorted(weights, key=lambda program: weights[program], reverse=True):
        min(parts, key=lambda part: sum(weights[name] for name in part)).add(program)
    return parts


def layout_source() -> str:
    """Return the text of events.h."""
    return (folder() / "include" / "events.h").read_text()


def digest() -> str:
    """Return the SHA-256 over everything in bpf/ that the compiler sees."""
    base = folder()
    total = hashlib.sha256()
    names = [*TEXTS, *sorted(f"include/{p.name}" for p in (base / "include").glob("*.h"))]
    for name in [*names, "kernel.toml"]:
        total.update(name.encode() + b"\0" + (base / name).read_bytes() + b"\0")
    return total.hexdigest()
