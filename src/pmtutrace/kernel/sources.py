"""Where the C programs are, and how they become one text for the compiler.

BCC rewrites map calls in the main text only, so the .bpf.c files are put one behind the other with
``#line`` between them, and its errors name the file that a person can open.
"""

from __future__ import annotations

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


def text(programs: Collection[str] | None = None) -> str:
    """Return all .bpf.c files as one text with ``#line`` markers.

    Args:
        programs: those to keep, by name, with the functions that they call; of the others, which
            the compiler would only read, nothing stays but empty lines. None: all.
    """
    base = folder()
    whole = "".join(f'#line 1 "{name}"\n{(base / name).read_text()}\n' for name in TEXTS)
    if programs is None:
        return whole
    kept = _called(whole, programs)

    def pruned(found: re.Match[str]) -> str:
        return found[0] if found[2] in kept else "\n" * found[0].count("\n")

    return _FUNCTION.sub(pruned, whole)


def _called(whole: str, programs: Collection[str]) -> set[str]:
    """Return the names of programs and of all that they call, and of what macros may call."""
    code = _COMMENT.sub("", whole)
    words: dict[str, set[str]] = {}
    for found in _FUNCTION.finditer(code):
        words.setdefault(found[2], set()).update(_WORD.findall(found[0]))
    statics = {found[2] for found in _FUNCTION.finditer(code) if found[1]}
    new = set(programs) | statics.intersection(_WORD.findall(_FUNCTION.sub("", code)))
    kept: set[str] = set()
    while new:
        kept |= new
        new = {word for name in new for word in words.get(name, ())} & statics - kept
    return kept


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
