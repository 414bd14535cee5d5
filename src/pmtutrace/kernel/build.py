"""Build images, and keep them: in the cache under the hash of what they were built from.

Reading BTF takes 20 MB and compiling 100 MB, which a tracer must not carry along. So it is done by
a child that ends with it; BCC, in a child of that one, is started first and imports LLVM while the
types are read. It compiles two halves of the programs at once: two cores are done sooner.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from pmtutrace import errors, paths
from pmtutrace.errors import CompilerError, ImageError, PmtutraceError
from pmtutrace.kernel import image, sources
from pmtutrace.kernel.bytecode import CALLED, KFUNC, RDONLY_CAST
from pmtutrace.kernel.forked import Forked
from pmtutrace.kernel.hooks import ATTACHMENTS, FUNCTIONS, TRACEPOINTS
from pmtutrace.kernel.image import Image, Options

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Collection
    from types import TracebackType

    from pmtutrace.kernel.btf import Btf
    from pmtutrace.kernel.ladder import How

BPF_F_NO_PREALLOC = 1  # linux/bpf.h
ALLOCATOR = "bpf_mem_alloc_init"  # which kernels have that make entries in any context
WORDS = "pt_regs"  # a struct that begins with long words, on every machine
REASONS = "skb_drop_reason"


def build(btf_path: Path | None, options: Options, btf_sha256: str | None = None) -> bytes:
    """Compile an image for the kernel whose BTF is given (by default the running one's).

    Args:
        btf_path: a raw BTF file, or None.
        options: what to build it with.
        btf_sha256: the hash of that BTF, if it is known already.
    """
    from pmtutrace.kernel import compiler

    with compiler.Compiler() as bcc:
        from pmtutrace.kernel import headers
        from pmtutrace.kernel.btf import PROBE, Btf
        from pmtutrace.kernel.btf_kinds import Kind

        btf = Btf.load(btf_path)
        if btf_sha256:
            btf.sha256 = btf_sha256
        wanted = headers.Wanted.read(sources.folder() / "kernel.toml")
        own = (ALLOCATOR, WORDS, REASONS, KFUNC, *FUNCTIONS, *(PROBE + n for n in TRACEPOINTS))
        btf.expect({*headers.names(wanted), *own})
        header = headers.cached(btf, wanted).read_text()
        found = ((name, btf.find((Kind.TYPEDEF,), PROBE + name)) for name in TRACEPOINTS)
        tracepoints = {name: id_ for name, id_ in found if id_}
        halves = sources.halves(_programs(tracepoints, options))
        compiled = bcc.compile(header, _defines(btf, options), halves)
    functions = {name: btf.find((Kind.FUNC,), name) for name in (*FUNCTIONS, KFUNC)}
    reasons = btf.enum(REASONS) or {}
    return image.seal(
        {
            "key": image.key_of(btf.sha256, options),
            "maps": compiled["maps"],
            "programs": compiled["programs"],
            "tracepoints": tracepoints,
            "functions": {name: id_ for name, id_ in functions.items() if id_},
            "btf": {"types": len(btf)},
            "reasons": {
                name.removeprefix("SKB_DROP_REASON_"): number for name, number in reasons.items()
            },
            "layout": sources.layout_source(),
        }
    )


def _programs(tracepoints: Collection[str], options: Options) -> Collection[str]:
    """Return the programs that can be attached, and those that they call.

    Args:
        tracepoints: those that the kernel has.
        options: what else it allows.
    """
    ways: set[How] = set()
    if options.kprobes:
        ways |= {"kprobe", "kretprobe"}
    if options.fentry:
        ways |= {"fentry", "fexit"}
    return CALLED.keys() | {
        a.program
        for a in ATTACHMENTS
        if a.how in ways or (a.how == "tracepoint" and a.target in tracepoints)
    }


def _defines(btf: Btf, options: Options) -> dict[str, str | int]:
    """Return the macros for the compiler: sizes, and what this kernel lets programs do."""
    from pmtutrace.kernel.btf_kinds import Kind

    out: dict[str, str | int] = {"MAX_FLOWS": options.flows, "RING_PAGES": options.ring_pages}
    if btf.find((Kind.FUNC,), ALLOCATOR):
        out["COUNTS_FLAGS"] = BPF_F_NO_PREALLOC
    if options.plain:
        return out
    out["TP_BTF"] = 1
    words = btf.find((Kind.STRUCT,), WORDS)
    if words and btf.find((Kind.FUNC,), KFUNC):
        out["RDONLY_CAST"] = RDONLY_CAST
        out["TYPEID_pt_regs"] = words
    return out


class Wanted:
    """An image that is wanted: in the cache, or being built while the caller does other things.

    One that is stale or damaged is built anew. Leave the context to let go of a build that is
    under way.
    """

    def __init__(self, btf_sha256: str, btf_path: Path | None, options: Options) -> None:
        self._key = image.key_of(btf_sha256, options)
        name = hashlib.sha256(json.dumps(self._key, sort_keys=True).encode()).hexdigest()[:32]
        self._kept = paths.cache("images") / f"{name}.image"
        self._child: Forked | subprocess.Popen[bytes] | None = None
        self._found: Image | None = None
        try:
            found = image.unseal(paths.read_private(self._kept))
            self._found = found if found.key == self._key else None
        except (OSError, ImageError):
            pass  # not there, or not to be trusted
        if self._found is None:
            self._child = _begin(btf_path, options, btf_sha256)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of a build that is under way."""
        if self._child is not None:
            self._child.terminate()
            self._child.communicate()

    @property
    def building(self) -> bool:
        """Whether it was not in the cache, so that :meth:`get` will take a moment."""
        return self._found is None

    def get(self) -> Image:
        """Return the image, waiting for it if need be.

        Raises:
            PmtutraceError: what the build failed with.
        """
        if self._found is None and self._child is not None:
            data, said = self._child.communicate()
            code, self._child = self._child.returncode, None
            if code:
                raise _failure(said)
            self._found = image.unseal(data)
            paths.write_private(self._kept, data)
            paths.prune(self._kept.parent)
        if self._found is None:
            raise CompilerError("the image was not built", "try again")
        return self._found


def _begin(
    btf_path: Path | None, options: Options, btf_sha256: str
) -> Forked | subprocess.Popen[bytes]:
    if threading.active_count() == 1:
        # Of a file, it is that of what is read now which counts.
        known = None if btf_path else btf_sha256
        return Forked(functools.partial(_told, btf_path, options, known))
    import subprocess

    job = {"btf": str(btf_path) if btf_path else None, "options": options._asdict()}
    command, environment = paths.module("pmtutrace.kernel.build", json.dumps(job))
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _told(btf_path: Path | None, options: Options, btf_sha256: str | None = None) -> bytes:
    """Build; where that fails, say why as JSON on stderr and exit."""
    # Types are read into a hundred thousand small objects, all of which stay until the end.
    gc.disable()
    try:
        return build(btf_path, options, btf_sha256)
    except PmtutraceError as error:
        told = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        os.write(2, json.dumps(told).encode() + b"\n")
        raise SystemExit(1) from error


def _failure(said: bytes) -> PmtutraceError:
    """Make the error again that the child has printed."""
    last = said.strip().rpartition(b"\n")[2]
    try:
        told = json.loads(last)
        kind = getattr(errors, told["kind"])
        error: PmtutraceError = kind(told["message"], told["hint"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return CompilerError(
            f"building the tracer failed: {last.decode(errors='replace') or 'no message'}",
            "see `pmtutrace doctor`",
        )
    return error


def main(arguments: list[str]) -> NoReturn:
    """Build what the one argument describes; print the image, or the error as JSON on stderr."""
    job = json.loads(arguments[0])
    # Asked to end, it ends the compiler and removes its files first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    data = _told(Path(job["btf"]) if job["btf"] else None, Options(**job["options"]))
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
    # Giving back what BTF took, piece by piece, would take longer than the exit.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
