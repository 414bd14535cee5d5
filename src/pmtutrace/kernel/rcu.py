"""Waiting for the kernel's grace periods."""

from __future__ import annotations

import ctypes as ct
import os

MEMBARRIER_CMD_GLOBAL = 1  # linux/membarrier.h


def wait_for_packets() -> None:
    """Wait until the kernel is done with every packet that it has in hand: an RCU grace period.

    Where membarrier(2) cannot be had, nothing is waited for.
    """
    number = {"x86_64": 324, "aarch64": 283}.get(os.uname().machine)
    if number is not None:
        ct.CDLL(None).syscall(number, MEMBARRIER_CMD_GLOBAL, 0, 0)
