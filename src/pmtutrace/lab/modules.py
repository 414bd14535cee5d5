"""Kernel modules that nothing loads by itself."""

from __future__ import annotations

import shutil
import subprocess


def load(name: str) -> None:
    """Load a module if it is there; a kernel that has it built in, or lacks it, does nothing."""
    if modprobe := shutil.which("modprobe"):
        subprocess.run([modprobe, "--quiet", name], check=False, capture_output=True)
