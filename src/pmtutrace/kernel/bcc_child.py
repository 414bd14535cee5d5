"""Compile sources with BCC, all at once, and print each as JSON. Run as a script, alone.

Reads ``{"flags", "parts", "tree", "values"}`` from stdin: each part is a source, values are names
of maps whose addresses programs have, by number. The parts are compiled by forks of this process,
because importing LLVM takes a third as long as compiling. Prints a list with the maps and the
bytecode of each part. Exit 3 means that bcc cannot be imported or is not the BPF compiler; any
other failure leaves clang's diagnostics on stderr.
"""

from __future__ import annotations

import ctypes as ct
import gc
import json
import os
import signal
import struct
import sys
from typing import Any

LD_IMM64 = 0x18
PSEUDO_MAP_FD, PSEUDO_MAP_VALUE = 1, 2
CANNOT_IMPORT = 3
BESIDE = "read-the-first-time"
PR_SET_PDEATHSIG = 1
CLONE_NEWNS, MS_BIND, MS_REC_PRIVATE = 0x20000, 0x1000, 0x44000


def _declared(lib: Any, name: str, result: Any, *arguments: Any) -> Any:  # noqa: ANN401 -- ctypes
    function = getattr(lib, name)
    function.restype, function.argtypes = result, [ct.c_void_p, *arguments]
    return function


def _maps(
    lib: Any,  # noqa: ANN401
    module: Any,  # noqa: ANN401
    values: list[str],
) -> tuple[list[dict[str, Any]], dict[tuple[int, int], int]]:
    """Return the maps in order, and which of them each kind and number in the bytecode means."""
    getters = {
        key: _declared(lib, f"bpf_table_{key}_id", ct.c_ulonglong, ct.c_size_t)
        for key in ("type", "key_size", "leaf_size", "max_entries", "flags", "fd")
    }
    name_of = _declared(lib, "bpf_table_name", ct.c_char_p, ct.c_size_t)
    maps, index = [], {}
    for i in range(_declared(lib, "bpf_num_tables", ct.c_size_t)(module)):
        entry = {key: int(getter(module, i)) & 0xFFFFFFFF for key, getter in getters.items()}
        index[PSEUDO_MAP_FD, entry.pop("fd")] = i
        name = name_of(module, i).decode()
        if name in values:
            index[PSEUDO_MAP_VALUE, values.index(name)] = i
        maps.append({"name": name, **entry})
    return maps, index


def _programs(
    lib: Any,  # noqa: ANN401
    module: Any,  # noqa: ANN401
    index: dict[tuple[int, int], int],
) -> list[dict[str, Any]]:
    start = _declared(lib, "bpf_function_start", ct.c_void_p, ct.c_char_p)
    size = _declared(lib, "bpf_function_size", ct.c_size_t, ct.c_char_p)
    name_of = _declared(lib, "bpf_function_name", ct.c_char_p, ct.c_size_t)
    programs = []
    for i in range(_declared(lib, "bpf_num_functions", ct.c_size_t)(module)):
        name = name_of(module, i)
        code = bytearray(ct.string_at(start(module, name), size(module, name)))
        references = []
        at = 0
        while at < len(code):
            wide = code[at] == LD_IMM64
            if wide and code[at + 1] >> 4:
                (number,) = struct.unpack_from("<i", code, at + 4)
                references.append((at, index[code[at + 1] >> 4, number]))
                struct.pack_into("<i", code, at + 4, 0)
            at += 16 if wide else 8
        programs.append({"name": name.decode(), "code": code.hex(), "references": references})
    return programs


def _end_with_parent() -> None:
    """Die with whoever asked: then nobody wants the answer."""
    ct.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _spare_kallsyms(folder: str) -> None:
    """Put a short /proc/kallsyms before BCC, for this process alone.

    BCC reads all of the real one to see whether the kernel has bpf_probe_read_kernel (5.5), a third
    of its time. Where that is not allowed, it may read.
    """
    short = os.path.join(folder, "kallsyms")  # noqa: PTH118 -- pathlib takes 10 ms to import
    with open(short, "w", encoding="ascii") as file:  # noqa: PTH123
        file.write("ffffffff81000000 T bpf_probe_read_kernel\n")
    libc = ct.CDLL(None)
    if not libc.unshare(CLONE_NEWNS) and not libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None):
        libc.mount(short.encode(), b"/proc/kallsyms", None, MS_BIND, None)


def main() -> int:
    """Compile what stdin describes, or print the version of bcc."""
    _end_with_parent()
    gc.disable()  # all of it stays until the end
    try:
        import bcc
    except (ImportError, OSError, SyntaxError) as error:  # no libbcc, or something else's bcc
        print(f"bcc cannot be imported: {error}", file=sys.stderr)  # noqa: T201
        return CANNOT_IMPORT
    if not hasattr(bcc, "BPF") or not hasattr(bcc, "lib"):
        where = getattr(bcc, "__file__", "?")
        print(f"the bcc at {where} is not the BPF compiler", file=sys.stderr)  # noqa: T201
        return CANNOT_IMPORT
    if sys.argv[1:] == ["--version"]:
        print(bcc.__version__)  # noqa: T201
        return 0
    job = json.load(sys.stdin)
    _spare_kallsyms(job["tree"])
    # Read by bcc when it compiles, not when it is imported.
    os.environ["BCC_KERNEL_SOURCE"] = job["tree"]
    forks = [_fork(bcc, job, number) for number in range(len(job["parts"]))]
    texts = []
    for pid, source in forks:
        with os.fdopen(source) as pipe:
            texts.append(pipe.read())
        if os.waitpid(pid, 0)[1]:
            return 1
    sys.stdout.write(f"[{','.join(texts)}]")
    return 0


def _compiled(bcc: Any, job: dict[str, Any], number: int) -> Any:  # noqa: ANN401
    """Compile one part; return BCC's module, or None where it was refused.

    BCC reads a text three times: in search of TRACEPOINT_PROBE, which we do not use, then to
    rewrite it, then to compile it. Only the first time it reads a file, if it is given one, where
    that lies; so what lies beside tells that this time all can be skipped.
    """
    folder = os.path.join(job["tree"], f"part{number}")  # noqa: PTH118 -- takes 10 ms to import
    os.mkdir(folder)  # noqa: PTH102
    name = os.path.join(folder, "part.c")  # noqa: PTH118
    with open(name, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(f'#if !__has_include("{BESIDE}")\n{job["parts"][number]}\n#endif\n')
    with open(os.path.join(folder, BESIDE), "w", encoding="ascii"):  # noqa: PTH118, PTH123
        pass
    flags = [flag.encode() for flag in job["flags"]]
    array = (ct.c_char_p * len(flags))(*flags)
    return bcc.lib.bpf_module_create_c(name.encode(), 0, array, len(flags), True, None)


def _fork(bcc: Any, job: dict[str, Any], number: int) -> tuple[int, int]:  # noqa: ANN401
    """Compile one part in a fork; return its process and what its result is read from."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid:
        os.close(sink)
        return pid, source
    _end_with_parent()
    try:
        module = _compiled(bcc, job, number)
        if not module:
            os._exit(1)  # clang's words are on stderr
        maps, index = _maps(bcc.lib, module, job["values"])
        programs = _programs(bcc.lib, module, index)
        with os.fdopen(sink, "w") as pipe:
            json.dump({"maps": maps, "programs": programs}, pipe)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is the parent that goes on
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        os._exit(1)
    # bcc's own clean-up at exit takes longer than everything we did since it compiled.
    os._exit(0)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # as above
