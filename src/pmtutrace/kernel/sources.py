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
# What is compiled by itself: all else in bpf/ is static, and becomes part of who calls it.
_PROGRAM = re.compile(r"^int (\w+)\(struct [^;{]*\)\n\{.*?^\}$", re.M | re.S)


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
        programs: those to keep, by name; of the others only empty lines stay. None: all.
    """

    def kept(found: re.Match[str]) -> str:
        whole = found[0]
        return whole if programs is None or found[1] in programs else "\n" * whole.count("\n")

    base = folder()
    parts = [f'#line 1 "{name}"\n{(base / name).read_text()}\n' for name in TEXTS]
    return _PROGRAM.sub(kept, "".join(parts))


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
