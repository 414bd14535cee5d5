"""Ask the running kernel what it can do, by doing it: a program of each type is really loaded."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace.errors import LoadError, PrivilegeError
from pmtutrace.kernel import libbpf
from pmtutrace.kernel.plan import Features, Support

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmtutrace.kernel.ladder import How

# r0 = 0; exit
NOTHING = bytes.fromhex("b7000000000000009500000000000000")
# These say nothing about what the kernel can do.
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
NO_FUNCTION = libbpf.Target(libbpf.TRACE_FENTRY, 1)
KPROBE_PMU = Path("/sys/bus/event_source/devices/kprobe/type")


def _loads(kind: int, target: libbpf.Target | None = None) -> Support:
    try:
        os.close(libbpf.prog_load(kind, "probe", NOTHING, target, explain=False))
    except OSError as error:
        works = None if error.errno in SHORTAGES else False
        return Support(works, f"refused by the kernel ({error.strerror})")
    return Support(True)


def _kprobe() -> Support:
    if not KPROBE_PMU.exists():
        return Support(False, "this kernel has no kprobes")
    return _loads(libbpf.PROG_KPROBE)


def refused() -> tuple[bool, bool]:
    """Say whether this kernel certainly refuses kprobes, and fentry, before anything is built.

    Type 1 of any BTF is no function: a kernel that has fentry refuses that type, not the program.
    """
    try:
        kind = libbpf.PROG_TRACING
        os.close(libbpf.prog_load(kind, "probe", NOTHING, NO_FUNCTION, explain=False))
    except OSError as error:
        fentry = error.errno == errno.EPERM
    else:
        fentry = False
    return _kprobe().works is False, fentry


def _tracing(attach_type: int, names: Mapping[str, int]) -> Support:
    if not names:
        return Support(False, "there is nothing in BTF to attach to")
    return _loads(libbpf.PROG_TRACING, libbpf.Target(attach_type, min(names.values())))


def probe(
    tracepoints: Mapping[str, int], functions: Mapping[str, int], symbols: frozenset[str]
) -> Features:
    """Probe each way to attach.

    Raises:
        PrivilegeError: if not even the simplest program may be loaded.
        LoadError: if there is no room for one.
    """
    plain = _loads(libbpf.PROG_RAW_TRACEPOINT)
    if plain.works is None:
        raise LoadError(f"no program can be loaded: {plain.reason}")
    if plain.works is False:
        raise PrivilegeError(
            f"the kernel does not let us load programs: {plain.reason}",
            "run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYSLOG",
        )
    kprobe = _kprobe()
    fentry = _tracing(libbpf.TRACE_FENTRY, functions)
    ways: dict[How, Support] = {
        "tracepoint": plain,
        "kprobe": kprobe,
        "kretprobe": kprobe,
        "fentry": fentry,
        "fexit": fentry,
    }
    return Features(ways, tracepoints, functions, symbols)
