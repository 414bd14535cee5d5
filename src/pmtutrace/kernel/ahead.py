"""Programs that are loaded in the background, while others are and while we do something else.

Loading is a system call, in which the kernel verifies the program: it takes a core of its own, and
none of our time. Whoever asks for a program that nobody has begun to load loads it himself.

A signal may end us between any two steps. So nothing here holds a lock that would stay closed then.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

# More than there need be cores: a thread that is done with a program has to wait for a moment in
# which Python lets it begin the next one, so the longest of them are all begun at once.
WORKERS = 3


class _Job:
    """One program: how to load it, and what came of that."""

    def __init__(self, load: Callable[[], int]) -> None:
        self._load = load
        self.done = False
        self.fd = -1
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.fd = self._load()
        except BaseException as error:  # noqa: BLE001 -- raised where the program is asked for
            self.failure = error
        self.done = True

    def result(self) -> int:
        if self.failure is not None:
            raise self.failure
        return self.fd


class Ahead:
    """Loads programs in the background from now on. Close it to let go of those not taken.

    Args:
        loads: by key, what loads a program and returns its descriptor. Begun in this order.
        workers: how many to load at once.
    """

    def __init__(self, loads: Mapping[Hashable, Callable[[], int]], workers: int = WORKERS) -> None:
        self._loads = loads
        self._jobs = {key: _Job(load) for key, load in loads.items()}
        self._waiting = deque(self._jobs.values())
        self._moved: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"load {number}", daemon=True)
            for number in range(min(workers, len(self._jobs)))
        ]

    def start(self) -> None:
        """Begin. Where there is no room for a thread, programs are loaded when asked for."""
        with contextlib.suppress(RuntimeError):
            for thread in self._threads:
                thread.start()

    def _work(self) -> None:
        with contextlib.suppress(IndexError):  # nothing is waiting any more
            while True:
                self._waiting.popleft().run()
                self._moved.put(None)

    def _settle(self, job: _Job) -> None:
        """Wait for a job that a thread has begun."""
        # Words that are lost, or meant for another job, do no harm: what counts is looked at first.
        while not job.done:
            self._moved.get()

    def _withdraw(self, job: _Job) -> bool:
        """Say if nobody has begun a job; then nobody will."""
        try:
            self._waiting.remove(job)
        except ValueError:
            return False
        return True

    def take(self, key: Hashable) -> int | None:
        """Return the descriptor of a program, which is the caller's now; None if it is not ours.

        Raises:
            OSError: what the kernel said.
        """
        job = self._jobs.get(key)
        if job is None:
            return None
        if self._withdraw(job):
            del self._jobs[key]
            return self._loads[key]()
        self._settle(job)
        del self._jobs[key]
        return job.result()

    def close(self) -> None:
        """Close what was loaded and not taken, once the kernel is done. Can be called again."""
        self._waiting.clear()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        while self._jobs:
            _, job = self._jobs.popitem()
            if job.fd >= 0:
                os.close(job.fd)
