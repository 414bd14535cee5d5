"""^C, SIGTERM and SIGHUP: ways to end, not errors.

While tracing, a handler must not raise: Python code runs inside the ring buffer's C callback, where
an exception would vanish and the signal with it.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONCE_MORE_S = 0.001
_ended: list[bool] = []  # whether Ended was raised


def _heeded() -> list[signal.Signals]:
    """Return those that end us. SIGHUP stays ignored under nohup(1).

    SIGINT does not: a shell has a script's background jobs ignore it, and scripts end those by it.
    """
    hung_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [number for number in ENDS if number != signal.SIGHUP or hung_up]


def raise_at_end() -> None:
    """Have the first of them raise Ended, so that whatever is open is closed."""
    _ended.clear()
    sys.unraisablehook = _unraised
    for number in _heeded():
        signal.signal(number, _raise)


class Ended(KeyboardInterrupt):
    """Says that a signal has ended us.

    A class of its own, because Python kills itself by SIGINT in the end if a KeyboardInterrupt,
    and nothing derived from it, ever passed through exec(), even if it was caught after that.
    Dataclasses are made by exec().
    """


def end() -> None:
    """Raise Ended, unless that was done: what is closed because of it must not be disturbed."""
    if not _ended:
        _ended.append(True)
        raise Ended


def _raise(_number: int, _frame: FrameType | None) -> None:
    end()


def _unraised(what: sys.UnraisableHookArgs) -> None:
    """Raise Ended a moment later where it cannot leave what it was raised in.

    That is what C calls, like callbacks of weak references, of which each import has one.
    """
    if not isinstance(what.exc_value, Ended):
        sys.__unraisablehook__(what)
        return
    signal.signal(signal.SIGALRM, _once_more)
    signal.setitimer(signal.ITIMER_REAL, ONCE_MORE_S)


def _once_more(_number: int, _frame: FrameType | None) -> None:
    raise Ended


def ignore() -> None:
    """Let none of them disturb the last steps of a process that is ending anyway."""
    for number in (*ENDS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first of them; the second ends at once."""

    def take(_number: int) -> None:
        raise_at_end()
        stop()

    with on_signal(take):
        yield


@contextlib.contextmanager
def on_signal(take: Callable[[int], None]) -> Iterator[None]:
    """Call ``take`` with the number of each of them."""

    def handle(number: int, _frame: FrameType | None) -> None:
        take(number)

    before = {number: signal.signal(number, handle) for number in _heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
