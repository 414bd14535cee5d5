"""``pmtutrace vm``: stock kernels, and kernels of one's own, under QEMU."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pmtutrace.cli.seconds import Seconds
from pmtutrace.errors import UsageError, VmError
from pmtutrace.vm import kernels
from pmtutrace.vm.guest import Listener, Outcome
from pmtutrace.vm.qemu import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pmtutrace.vm.run import Command

_INTERRUPTED = 130  # 128 + SIGINT, as a shell says it: a suite that was stopped has not passed
_writing = threading.Lock()


@click.group()
def vm() -> None:
    """Fetch and run stock kernels under QEMU.

    A guest has this host's tree as its root and writes to none of it, but for pmtutrace's cache
    and the folder given by --out. Its kernel is one of Debian's, or a bzImage of your own.
    """


@vm.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--update", is_flag=True, help="Ask the mirror for newer ones.")
def fetch(names: tuple[str, ...], update: bool) -> None:
    """Get stock kernels with their modules into the cache; all of them without a NAME.

    They come from the Debian mirror that this machine's own apt sources name.
    """
    for name in names or kernels.NAMES:
        with _progress() as progress:
            kernel = kernels.fetch(name, progress, update)
        click.echo(f"{kernel.name}\t{kernel.release}\t{kernel.vmlinuz}")


@vm.command("list")
@click.option("-j", "--json", "as_json", is_flag=True, help="One JSON object for each kernel.")
def list_(as_json: bool) -> None:
    """List the stock kernels, and which of them are in the cache."""
    there = {kernel.name: kernel for kernel in kernels.listed()}
    for name in kernels.NAMES:
        kernel = there.get(name)
        if as_json:
            row = {"name": name, "release": None, "version": None, "vmlinuz": None, "modules": None}
            if kernel is not None:
                row |= {field: str(getattr(kernel, field)) for field in row}
            click.echo(json.dumps(row))
        elif kernel is None:
            click.echo(f"{name:<6}not fetched (Debian {kernels.SUITES[name][0]})")
        else:
            click.echo(f"{name:<6}{kernel.release:<32}{kernel.version}")


@vm.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "-k",
    "--kernel",
    "names",
    multiple=True,
    required=True,
    metavar="NAME|PATH",
    help=f"{', '.join(kernels.NAMES)}, all, or the path of a bzImage. Can be repeated.",
)
@click.option(
    "--modules",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="INSTALL_MOD_PATH of your bzImage, or its lib/modules/RELEASE.",
)
@click.option(
    "--timeout",
    type=Seconds(),
    metavar="S",
    help="Seconds that CMD may take once the guest is ready.",
)
@click.option(
    "--memory", type=click.IntRange(min=256), default=2048, show_default=True, metavar="MB"
)
@click.option("--cpus", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Takes what CMD puts into $PMTUTRACE_OUT; DIR/KERNEL with several kernels.",
)
@click.option(
    "--parallel", is_flag=True, help="Several kernels at once, as memory and cores allow."
)
@click.option("--console", is_flag=True, help="Show the guest's serial console on stderr.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def run(
    names: tuple[str, ...],
    modules: Path | None,
    timeout: float | None,
    memory: int,
    cpus: int,
    out: Path | None,
    parallel: bool,
    console: bool,
    command: tuple[str, ...],
) -> int:
    """Boot a kernel on this host's tree and run CMD in it as root, in the current folder.

    Ends with CMD's exit code; with several kernels, with the first that is not 0.
    """
    from pmtutrace.vm.run import Command

    machine = Machine(memory, min(cpus, os.cpu_count() or 1))
    wanted = [n for name in names for n in (kernels.NAMES if name == "all" else (name,))]
    with _progress() as progress:
        chosen = [kernels.find(name, modules, progress) for name in dict.fromkeys(wanted)]
        for kernel in chosen:
            _compile_for(kernel, progress)
    if len({kernel.name for kernel in chosen}) < len(chosen):
        raise UsageError("two kernels have the same file name", "run them one after the other")
    job = Command(command, Path.cwd(), timeout, out)
    try:
        if len(chosen) == 1:
            return _run_one(chosen[0], job, machine, console)
        return _run_several(chosen, job, machine, console, parallel)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _compile_for(kernel: kernels.Kernel, progress: Callable[[str], None]) -> None:
    """Put the tracer images for a guest into the cache that it shares: 20 times faster than there.

    Both of them: the second is for a kernel that refuses the first. Where this host cannot, the
    guest compiles for itself.
    """
    import hashlib

    from pmtutrace.errors import PmtutraceError
    from pmtutrace.kernel.build import Wanted
    from pmtutrace.kernel.image import Options
    from pmtutrace.vm.btf import btf

    try:
        path = btf(kernel)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        for options in (Options(), Options(plain=True)):
            with Wanted(digest, path, options) as image:
                if image.building:
                    progress(f"compiling the tracer for {kernel.name}")
                image.get()
    except PmtutraceError as error:
        progress(f"{kernel.name} has to compile the tracer itself: {error.message}")


def _run_one(kernel: kernels.Kernel, job: Command, machine: Machine, console: bool) -> int:
    from pmtutrace.vm import run as runner

    with _progress(transient=True) as progress:
        listener = Listener(_as_it_is, _console if console else _nothing, progress, _say)
        try:
            return runner.run(kernel, job, machine, listener).code
        except VmError as error:
            _show_note(error)
            raise


def _run_several(
    chosen: list[kernels.Kernel], job: Command, machine: Machine, console: bool, parallel: bool
) -> int:
    """Run on one kernel after the other, or on as many at once as fit; report each as it ends."""
    from pmtutrace.vm import run as runner

    at_once = 1
    if parallel:
        at_once = runner.slots(machine, runner.available_memory(), os.cpu_count() or 1)
    outputs = {kernel.name: _ByLine(f"{kernel.name}: ") for kernel in chosen}

    def listener(name: str) -> Listener:
        output = outputs[name] if parallel else _as_it_is
        show = (lambda line: _say(f"{name}: [console] {line}")) if console else _nothing
        return Listener(
            output, show, lambda line: _say(f"{name}: {line}"), lambda line: _say(f"{name}: {line}")
        )

    def ended(name: str, result: Outcome | VmError) -> None:
        outputs[name].flush()
        if isinstance(result, VmError):
            _show_note(result)
            _say(f"pmtutrace: {result.message}")
        else:
            _say(f"{name}: exit code {result.code} after {result.seconds:.1f} s")

    listeners = {kernel.name: listener(kernel.name) for kernel in chosen}
    results = runner.run_several(chosen, job, machine, listeners, at_once, ended)
    codes = [r.exit_code if isinstance(r, VmError) else r.code for r in results.values()]
    return next((code for code in codes if code), 0)


@contextmanager
def _progress(transient: bool = False) -> Iterator[Callable[[str], None]]:
    """Give a function that tells a step: in place on a terminal, else by a line of its own.

    Args:
        transient: of use only to somebody who waits for it, so nothing where there is no terminal.
    """
    if not sys.stderr.isatty():
        yield _nothing if transient else _say
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:

        def show(line: str) -> None:
            # What follows is the command's own output, which a spinner would garble.
            if line.startswith("ready"):
                status.stop()
            else:
                status.update(line)

        yield show


class _ByLine:
    """Pass output on by whole lines with a name in front: several guests can be told apart."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self._held = {1: b"", 2: b""}

    def __call__(self, stream: int, data: bytes) -> None:
        *lines, self._held[stream] = (self._held[stream] + data).split(b"\n")
        _as_it_is(stream, b"".join(self._prefix + line + b"\n" for line in lines))

    def flush(self) -> None:
        """Pass on what did not end with a line break."""
        for stream, held in self._held.items():
            if held:
                self(stream, b"\n")


def _as_it_is(stream: int, data: bytes) -> None:
    file = sys.stdout.buffer if stream == 1 else sys.stderr.buffer
    with _writing:
        file.write(data)
        file.flush()


def _nothing(_line: str) -> None:
    """Drop what nobody is there to read."""


def _say(line: str) -> None:
    with _writing:
        click.echo(line, err=True)


def _console(line: str) -> None:
    _say(f"[console] {line}")


def _show_note(error: VmError) -> None:
    """Print what a dead guest's console said."""
    for note in getattr(error, "__notes__", ()):
        for line in note.splitlines():
            _say(f"    {line}")
