"""Run commands in guests: the part of ``vm`` for users, on one kernel or on several at once."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace import paths
from pmtutrace.errors import UsageError, VmError
from pmtutrace.vm import guest, qemu
from pmtutrace.vm.guest import Guest, Listener, NotReadyError, Outcome
from pmtutrace.vm.initramfs import Job
from pmtutrace.vm.qemu import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pmtutrace.vm.kernels import Kernel

_PASSED_ON = (
    "COLUMNS",
    "HOME",
    "LANG",
    "LOGNAME",
    "NO_COLOR",
    "PATH",
    "SHELL",
    "TERM",
    "TZ",
    "USER",
)
_PREFIXES = ("LC_", "PMTUTRACE_")
_TRIAL_LIMIT = 15.0
# Folders that a guest has of its own: a command cannot start, nor a result be put, in the host's.
_GUEST_OWN = tuple(map(Path, ("/dev", "/proc", "/run", "/sys")))
_OUT = Path("/run/pmtutrace/out")  # made by guest-init.sh
_PER_GUEST_OVERHEAD = 256  # MB: QEMU's own and virtiofsd's


@dataclass(frozen=True, slots=True)
class Command:
    """A command and what it is given in a guest.

    Attributes:
        words: program and arguments.
        directory: where it starts.
        timeout: seconds that it may take once the guest is ready; None for no limit.
        out: folder of the host that takes what it puts into ``$PMTUTRACE_OUT``; None to drop it.
        environment: what is passed on, on top of the guest's own variables.
    """

    words: Sequence[str]
    directory: Path
    timeout: float | None = None
    out: Path | None = None
    environment: Mapping[str, str] | None = None


def environment(source: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that are passed on to a guest."""
    return {
        name: value
        for name, value in source.items()
        if name in _PASSED_ON or name.startswith(_PREFIXES)
    }


def run(
    kernel: Kernel,
    command: Command,
    machine: Machine | None = None,
    listener: Listener | None = None,
    started: Callable[[Guest], None] = lambda _: None,
    ready_limit: float = guest.READY_LIMIT,
) -> Outcome:
    """Boot a kernel, run a command in it as root, and return its exit code and times.

    A guest that never gets ready is tried once more; one that dies later is a failure.

    Args:
        kernel: what to boot.
        command: what to run.
        machine: its size; KVM is used where it works.
        listener: is told output, console and progress.
        started: is given each guest before it runs, so that another thread can stop it.
        ready_limit: seconds until a guest must be ready.

    Raises:
        UsageError: a folder that a guest cannot share.
        PrivilegeError: not root.
        VmError: something is not installed, or the guest was not ready twice, or died, or the
            command took too long. What the console said last is the error's note.
    """
    listener = listener or Listener()
    machine = qemu.with_kvm(machine or Machine(), lambda trial: _boots(kernel, trial))
    job = _job(kernel, command)
    for attempt in (1, 2):
        one = Guest(kernel, machine, job, listener)
        started(one)
        listener.progress(f"booting {kernel.release}")
        try:
            return one.run(ready_limit, command.timeout)
        except NotReadyError as error:
            if attempt == 2:
                raise
            listener.notice(f"{error.message}; trying once more")
    raise AssertionError  # the second attempt returns or raises


def run_several(
    kernels: Sequence[Kernel],
    command: Command,
    machine: Machine,
    listeners: Mapping[str, Listener],
    slots: int = 1,
    ended: Callable[[str, Outcome | VmError], None] = lambda _name, _result: None,
) -> dict[str, Outcome | VmError]:
    """Run a command on several kernels, ``slots`` at once, and return what became of each by name.

    With ``command.out`` each kernel has a folder of its own in it. An interruption stops all.
    ``ended`` is told each result as it is there.
    """
    running: set[Guest] = set()
    lock = threading.Lock()
    stopped = threading.Event()

    def remember(one: Guest) -> None:
        with lock:
            if stopped.is_set():
                raise VmError("stopped")
            running.add(one)

    def one_kernel(kernel: Kernel) -> Outcome | VmError:
        out = command.out / kernel.name if command.out else None
        own = Command(command.words, command.directory, command.timeout, out, command.environment)
        result: Outcome | VmError
        try:
            result = run(kernel, own, machine, listeners[kernel.name], remember)
        except VmError as error:
            result = error
        ended(kernel.name, result)
        return result

    with ThreadPoolExecutor(slots) as pool:
        try:
            return dict(zip((k.name for k in kernels), pool.map(one_kernel, kernels), strict=True))
        finally:
            with lock:
                stopped.set()
                for one in running:
                    one.stop()


def slots(machine: Machine, available: int, cores: int) -> int:
    """Return how many guests fit at once: at least 1, at most one for each core.

    Args:
        machine: the size of each.
        available: MB of memory that can be had.
        cores: processors of the host.
    """
    return max(1, min(cores, available // (machine.memory + _PER_GUEST_OVERHEAD)))


def available_memory() -> int:
    """Return MemAvailable of /proc/meminfo in MB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def _job(kernel: Kernel, command: Command) -> Job:
    directory = _sharable(command.directory)
    cache = _sharable(paths.cache())
    out = None
    if command.out is not None:
        command.out.mkdir(parents=True, exist_ok=True)
        out = _sharable(command.out)
    variables = environment() if command.environment is None else dict(command.environment)
    variables |= {
        "PMTUTRACE_CACHE": str(cache),
        "PMTUTRACE_KERNEL": kernel.name,
        "PMTUTRACE_OUT": str(out or _OUT),
    }
    return Job(command.words, directory, variables, guest.job_mark(), cache, out)


def _sharable(folder: Path) -> Path:
    path = folder.resolve()
    for own in _GUEST_OWN:
        if path.is_relative_to(own):
            raise UsageError(f"{path} cannot be shared with a guest, which has {own} of its own")
    return path


def _boots(kernel: Kernel, machine: Machine) -> bool:
    trial = Job((), Path("/"), {}, guest.job_mark())
    try:
        Guest(kernel, machine, trial, Listener()).run(ready_limit=_TRIAL_LIMIT)
    except VmError:
        return False
    return True
