"""Staying on one CPU."""

import contextlib
import os


@contextlib.contextmanager
def on(cpu):
    """Stay on one CPU, as does what a veth is given meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
