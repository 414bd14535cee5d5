"""Compile bpf/ with BCC in a short-lived child process.

The child is the only place where bcc is imported: LLVM stays out of the tracer. It runs under the
interpreter that can see the distribution's bcc, which need not be ours, so :mod:`bcc_child` stands
alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pmtutrace.errors import CompilerError
from pmtutrace.kernel import sources
from pmtutrace.kernel.bytecode import CALLED, VALUES
from pmtutrace.kernel.forked import held_up

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from types import TracebackType

CHILD = Path(__file__).with_name("bcc_child.py")
# BCC includes this whether it is needed or not.
_KCONFIG = "#define CONFIG_X86_64 1\n#define CONFIG_64BIT 1\n"
_TYPES = "#include <kernel_types.h>\ntypedef __u64 __attribute__((aligned(8))) __aligned_u64;\n"
_DIAGNOSTIC = re.compile(r"^(\S+?):(\d+):\d+: (?:fatal )?error: (.*)$", re.M)
# BCC asks for debug information, a quarter of its time, which nobody here reads. After clang's own
# passes over the code it has LLVM make them all once more: these alone take a quarter off the rest,
# for programs that are longer by one instruction in twenty and no slower.
FLAGS = ("-w", "-g0", "-O1", "-fno-strict-aliasing", "-Xclang", "-disable-llvm-passes")
# BCC's own headers, by what tells the compiler that they have been read: see bpf/include/helpers.h.
READ = ("-D_UAPI__LINUX_BPF_H__", "-D__BPF_HELPERS_H")
# LLVM fills 100 MB within half a second: by huge pages, two at once take a seventh less.
HUGE_PAGES = "glibc.malloc.hugetlb=1"  # glibc 2.35; others take no notice
SYSTEM = Path("/usr/bin/python3")
CANNOT_IMPORT = 3  # the child's exit code
PATIENCE_S = 300
INSTALL = "install the distribution's bcc: apt install python3-bpfcc, or dnf install python3-bcc"


def _tree(root: Path, header: str) -> None:
    """Lay out the few files of a kernel source tree that BCC asks for, with our types in them."""
    include = root / "include"
    (include / "linux").mkdir(parents=True)
    (include / "linux" / "kconfig.h").write_text(_KCONFIG)
    (include / "linux" / "types.h").write_text(_TYPES)
    (include / "kernel_types.h").write_text(header)


class Compiler:
    """BCC in a child process, started early: it imports LLVM while the caller prepares the job.

    Raises:
        CompilerError: if BCC is missing, is not BCC, or refuses the source.
    """

    def __init__(self) -> None:
        self._waiting = _interpreters()
        self._missing = ""
        self._folders = contextlib.ExitStack()
        child = None
        try:
            # Who has started it must know of it. It is killed, and needs no other signals.
            with held_up():
                child = self._child = self._start()
        except BaseException:
            if child is not None:
                self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        # Folders go once nobody is left who could put something into them: the child's own forks
        # die with it, and until then hold its stderr open.
        with self._folders:
            if self._child.returncode is None:
                self._child.kill()
                self._child.communicate()

    def _start(self) -> subprocess.Popen[str]:
        command = [self._waiting.pop(0), "-s", str(CHILD)]
        return subprocess.Popen(
            command,
            env=os.environ | {"GLIBC_TUNABLES": _tunables(os.environ.get("GLIBC_TUNABLES", ""))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def compile(
        self,
        header: str,
        defines: dict[str, str | int],
        parts: Sequence[Collection[str] | None] = (None,),
    ) -> dict[str, Any]:
        """Compile bpf/ against a header of kernel types.

        Args:
            header: the C header made from the target kernel's BTF.
            defines: macros for the compiler (-D).
            parts: names of programs, each part compiled by a process of its own; None: all.

        Returns:
            ``{"maps": [{name, type, key_size, leaf_size, max_entries, flags}], "programs": [{name,
            code, references}]}``; code is hexadecimal bytecode, a reference is [offset in octets,
            index of the map] of an ``ld_imm64`` instruction that has a map or the one value of it.
        """
        import tempfile  # takes as long as all else here, and BCC is to be started first

        with held_up():
            folder = self._folders.enter_context(tempfile.TemporaryDirectory(prefix="pmtutrace-"))
        _tree(Path(folder), header)
        flags = [*FLAGS, *READ, f"-I{sources.folder() / 'include'}"]
        marks = {f"CALL_{name}": number for name, number in CALLED.items()}
        marks |= {f"VALUE_{name}": number for number, name in enumerate(VALUES)}
        flags += [f"-D{name}={value}" for name, value in sorted((defines | marks).items())]
        texts = [sources.text(part) for part in parts]
        job = {"flags": flags, "parts": texts, "tree": folder, "values": VALUES}
        return _joined(self._run(job))

    def _run(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        while True:
            try:
                printed, said = self._child.communicate(json.dumps(job), timeout=PATIENCE_S)
            except subprocess.TimeoutExpired as error:
                raise CompilerError(f"BCC did not end in {PATIENCE_S} s", "try again") from error
            if self._child.returncode == 0:
                return _result(printed)
            if self._child.returncode != CANNOT_IMPORT:
                raise _refused(said)
            self._missing = self._missing or said.strip()
            if not self._waiting:
                raise CompilerError(self._missing, INSTALL)
            with held_up():
                self._child = self._start()


def _tunables(others: str) -> str:
    """Return glibc's tunables for the compiler, behind those that are set."""
    return f"{others}:{HUGE_PAGES}" if others else HUGE_PAGES


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the programs of all parts, over the maps that each of them has."""
    first, *others = parts
    if any(other["maps"] != first["maps"] for other in others):
        raise CompilerError("the parts of bpf/ do not agree on the maps")
    return {"maps": first["maps"], "programs": [p for part in parts for p in part["programs"]]}


def _result(printed: str) -> list[dict[str, Any]]:
    try:
        result: list[dict[str, Any]] = json.loads(printed)
    except ValueError as error:
        raise CompilerError("what BCC printed is no image", "see `pmtutrace doctor`") from error
    return result


def version() -> str:
    """Return the version of BCC and the interpreter that sees it.

    Raises:
        CompilerError: if none does.
    """
    missing = ""
    for interpreter in _interpreters():
        done = subprocess.run(
            [interpreter, "-s", str(CHILD), "--version"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode == 0:
            return f"{done.stdout.strip()} for {interpreter}"
        missing = missing or done.stderr.strip()
    raise CompilerError(missing or "no Python interpreter can import bcc", INSTALL)


def _interpreters() -> list[str]:
    other = SYSTEM.exists() and SYSTEM.resolve() != Path(sys.executable).resolve()
    return [sys.executable, *([str(SYSTEM)] if other else [])]


def _refused(output: str) -> CompilerError:
    """Make an error of the first diagnostic of clang, with our file and line."""
    found = _DIAGNOSTIC.search(output)
    if found:
        file, line, what = found.groups()
        return CompilerError(
            f"BCC refused bpf/{file.removeprefix(str(sources.folder()) + '/')}:{line}: {what}",
            "report this with the output of `pmtutrace doctor -j`",
        )
    last = output.strip().splitlines()[-1:] or ["no message"]
    return CompilerError(f"BCC failed: {last[0]}", "run as root; see `pmtutrace doctor`")
