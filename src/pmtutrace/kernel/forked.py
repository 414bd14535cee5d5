"""Run a function in a fork of this process, which has imported all that it takes already.

To start Python once more and import the same again takes a tenth of a second of two cores.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PR_SET_PDEATHSIG = 1  # linux/prctl.h
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Forked:
    """A fork that runs one function: what it returns, and what is said on stderr meanwhile.

    To be had where there are no other threads: what they hold locked would stay so in the fork.
    Signals that end it raise SystemExit in it, so that it tidies up.
    """

    def __init__(self, job: Callable[[], bytes]) -> None:
        self.returncode: int | None = None
        self._said = os.fdopen(os.memfd_create("said"), "rb")
        source, sink = os.pipe()
        self._result = os.fdopen(source, "rb")
        self._data = self._text = b""
        parent = os.getpid()
        self._pid = 0
        try:
            try:
                # Until the fork has handlers of its own, a signal would have it do what we do.
                with held_up() as before:
                    self._pid = os.fork()
                    if not self._pid:
                        _run(job, sink, self._said.fileno(), parent, before)
            finally:
                os.close(sink)
        except BaseException:  # a signal that had to wait: nobody else knows of the fork
            if self._pid:
                self.terminate()
                self.communicate()
            raise

    def terminate(self) -> None:
        """Ask it to end."""
        if self.returncode is None:
            os.kill(self._pid, signal.SIGTERM)

    def communicate(self) -> tuple[bytes, bytes]:
        """Wait until it has ended; return what the function did and what was said.

        Can be called again if it was interrupted.
        """
        if self.returncode is None:
            self._data = self._result.read()
            with held_up():  # once it was waited for, its number may be somebody else's
                _, status = os.waitpid(self._pid, 0)
                self.returncode = os.waitstatus_to_exitcode(status)
        if not self._said.closed:
            self._said.seek(0)
            with self._result, self._said:
                self._text = self._said.read()
        return self._data, self._text


@contextlib.contextmanager
def held_up() -> Iterator[set[int | signal.Signals]]:
    """Have signals that end us wait, where there are no other threads; give the mask of before.

    Children inherit that they wait.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)  # which also runs the handlers of before
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(
    job: Callable[[], bytes],
    sink: int,
    said: int,
    parent: int,
    unblocked: set[int | signal.Signals],
) -> NoReturn:
    code = 1
    try:
        for number in ENDS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: sys.exit())
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit  # it ended before we could ask to be told
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor, of in ((0, null), (1, null), (2, said)):
            os.dup2(of, descriptor)
        data = job()
        with os.fdopen(sink, "wb") as pipe:
            pipe.write(data)
        code = 0
    except SystemExit:
        pass
    except BaseException:  # noqa: BLE001 -- whatever it is, the fork must not go on as its parent
        import traceback

        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(code)
