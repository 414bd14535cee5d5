"""One guest: boot a kernel on the host's tree, run a command in it, and end it whatever happens."""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pmtutrace.errors import VmError
from pmtutrace.vm import initramfs, qemu, virtiofs
from pmtutrace.vm.console import Console

if TYPE_CHECKING:
    import subprocess

    from pmtutrace.vm.kernels import Kernel
    from pmtutrace.vm.qemu import Machine

READY_LIMIT = 120.0  # seconds; 3 to 11 are usual under TCG, more beside other work
LOG_LINES = 40  # of virtiofsd and QEMU themselves, in the note of a guest that was never ready


@dataclass(frozen=True, slots=True)
class Listener:
    """What is told while a guest runs, from the thread that runs it.

    Attributes:
        output: stream (1 stdout, 2 stderr) and bytes, as they come.
        console: one line of the guest's serial console, without its line break.
        progress: one line for each step, of use only while it is waited for.
        notice: one line that has to be told: a second try.
    """

    output: Callable[[int, bytes], None] = lambda _stream, _data: None
    console: Callable[[str], None] = lambda _line: None
    progress: Callable[[str], None] = lambda _line: None
    notice: Callable[[str], None] = lambda _line: None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command in a guest ended.

    Attributes:
        code: its exit code, 128 + N if signal N ended it.
        ready: seconds from start until the guest was ready.
        seconds: seconds from ready until the command had ended.
    """

    code: int
    ready: float
    seconds: float


class NotReadyError(VmError):
    """Report a guest that never said that it was ready: worth another try."""


class MarkedStream:
    """Pass on a stream up to its mark: NUL, the mark, a space, the exit code, line feed."""

    def __init__(self, mark: str, sink: Callable[[bytes], None]) -> None:
        self.code: int | None = None
        self._mark = b"\0" + mark.encode() + b" "
        self._sink = sink
        self._held = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes; what may be the beginning of the mark is held back."""
        if self.code is not None:
            return
        self._held += data
        at = self._held.find(self._mark)
        if at < 0:
            # The mark has one NUL, its first byte.
            at = self._held.rfind(b"\0")
            if at < 0 or not self._mark.startswith(self._held[at:]):
                at = len(self._held)
        elif (end := self._held.find(b"\n", at)) > 0:
            self.code = int(self._held[at + len(self._mark) : end])
        if at:
            self._sink(self._held[:at])
            self._held = self._held[at:]


class Guest:
    """A booted kernel. Use :func:`pmtutrace.vm.run.run`, which knows when to try again."""

    def __init__(
        self, kernel: Kernel, machine: Machine, job: initramfs.Job, listener: Listener
    ) -> None:
        self._kernel = kernel
        self._machine = machine
        self._job = job
        self._listener = listener
        self._console = Console()
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._partial: dict[str, bytes] = {}
        self._ready = 0.0
        self._qemu: subprocess.Popen[bytes] | None = None
        self._streams = {
            name: MarkedStream(job.mark, lambda data, number=number: listener.output(number, data))  # type: ignore[misc]
            for number, name in ((1, "stdout"), (2, "stderr"))
        }
        self._bell, self._ring = socket.socketpair()

    def stop(self) -> None:
        """End the guest from another thread; its :meth:`run` raises VmError."""
        self._ring.close()

    def run(self, ready_limit: float = READY_LIMIT, timeout: float | None = None) -> Outcome:
        """Boot, wait for the command, and return how it ended. Nothing is left running.

        Args:
            ready_limit: seconds until the guest must be ready.
            timeout: seconds that the command may take from then on; None for no limit.

        Raises:
            NotReadyError: it died, or took too long, before it was ready.
            VmError: it died later, or the command took too long. What its console said last is
                the error's note.
        """
        started = time.monotonic()
        with ExitStack() as stack:
            stack.callback(self._bell.close)
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(self._bell, selectors.EVENT_READ, "bell")
            self._start(stack, selector)
            deadline: float | None = started + ready_limit
            while True:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise self._late(ready_limit if not self._ready else timeout or 0)
                for key, _ in selector.select(left):
                    if not self._take(selector, key):
                        raise self._dead()
                if self._ready and deadline == started + ready_limit:
                    self._listener.progress(f"ready after {self._ready - started:.1f} s")
                    deadline = None if timeout is None else self._ready + timeout
                if self._ended():
                    return self._outcome(started)

    def _start(self, stack: ExitStack, selector: selectors.BaseSelector) -> None:
        """Start virtiofsd and QEMU; all that they say comes to the selector."""
        kernel, job = self._kernel, self._job
        archive = os.memfd_create("initramfs")
        stack.callback(os.close, archive)
        with os.fdopen(os.dup(archive), "wb") as file:
            file.write(initramfs.build(kernel, job))
        log, theirs = os.pipe()
        stack.callback(os.close, log)
        selector.register(log, selectors.EVENT_READ, "log")
        try:
            tree = None
            if job.command:
                shared = [path for path in (job.cache, job.out) if path]
                process, tree = virtiofs.serve(shared, theirs)
                stack.callback(_end, process)
                stack.callback(tree.close)
            ends: dict[str, socket.socket] = {}
            for name in ("console", "control", *self._streams):
                ours, ends[name] = socket.socketpair()
                stack.callback(ours.close)
                stack.callback(ends[name].close)
                selector.register(ours, selectors.EVENT_READ, name)
            descriptors = {name: end.fileno() for name, end in ends.items()}
            console = descriptors.pop("console")
            link = None if tree is None else tree.fileno()
            words = qemu.arguments(
                self._machine, kernel.vmlinuz, archive, console, descriptors, link
            )
            passed = [archive, console, *descriptors.values(), *([] if link is None else [link])]
            process = virtiofs.start(words, passed, theirs)
        finally:
            os.close(theirs)
        # The handle, not the console's end, tells that QEMU is gone.
        stack.callback(_end, process)
        self._qemu = process
        handle = os.pidfd_open(process.pid)
        stack.callback(os.close, handle)
        selector.register(handle, selectors.EVENT_READ, "qemu")

    def _take(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> bool:
        """Take what is there to be read; say whether the guest goes on."""
        name: str = key.data
        if name == "bell":
            raise VmError(f"{self._kernel.name}: the guest was stopped")
        if name == "qemu":
            self._drain(selector)
            return self._ended()
        data = os.read(key.fd, 1 << 16)
        if not data:
            selector.unregister(key.fileobj)
        elif name in self._streams:
            self._streams[name].feed(data)
        elif name == "control":
            self._ready = self._ready or time.monotonic()
        else:
            self._keep(name, data)
        return True

    def _drain(self, selector: selectors.BaseSelector) -> None:
        """Take what a dead guest has left in its sockets."""
        while keys := [k for k, _ in selector.select(0) if k.data not in {"qemu", "bell"}]:
            for key in keys:
                self._take(selector, key)

    def _keep(self, name: str, data: bytes) -> None:
        lines = (self._partial.pop(name, b"") + data).split(b"\n")
        self._partial[name] = lines.pop()
        for line in lines:
            text = line.decode(errors="replace").rstrip("\r")
            if name == "log":
                self._log.append(text)
            else:
                self._console.add(text)
                self._listener.console(text)

    def _ended(self) -> bool:
        if not self._job.command:
            return bool(self._ready)
        return all(stream.code is not None for stream in self._streams.values())

    def _outcome(self, started: float) -> Outcome:
        code = self._streams["stdout"].code or 0
        return Outcome(code, self._ready - started, time.monotonic() - self._ready)

    def _dead(self) -> VmError:
        """Return the error of a guest whose QEMU has ended."""
        cause = self._console.cause
        if not cause and self._qemu is not None and (code := self._qemu.wait()):
            cause = f"{qemu.PROGRAM} ended with code {code}"
        kind = VmError if self._ready else NotReadyError
        when = "the guest died" if self._ready else "the guest died before it was ready"
        return self._noted(kind(f"{self._kernel.name}: {when}" + (f": {cause}" if cause else "")))

    def _late(self, limit: float) -> VmError:
        if self._ready:
            what = f"{self._kernel.name}: the command was stopped after {limit:g} s"
            return self._noted(VmError(what, "give it longer with --timeout"))
        what = f"{self._kernel.name}: the guest was not ready after {limit:g} s"
        return self._noted(NotReadyError(what))

    def _noted(self, error: VmError) -> VmError:
        lines = [*([] if self._ready else self._log), *self._console.lines()]
        lines += [part.decode(errors="replace") for part in self._partial.values()]
        if text := "\n".join(line for line in lines if line.strip()):
            error.add_note(text)
        return error


def job_mark() -> str:
    """Return a mark that no command can guess."""
    return secrets.token_hex(16)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program with all that it started, and wait for it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.poll()
    process.wait()
