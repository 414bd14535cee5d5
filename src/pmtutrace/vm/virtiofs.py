"""The host's tree for a guest: virtiofsd where all is read-only but for the folders named."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace.errors import PrivilegeError, VmError
from pmtutrace.vm import confine

if TYPE_CHECKING:
    from collections.abc import Sequence

# Not on PATH by design of its packagers: Debian up to 12, then Debian 13, Fedora and Arch.
_PLACES = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd")
# The tree does not change under a guest in a way that it must see, so the guest may cache what it
# has read. Mounts inside it must not be announced: overlayfs refuses a lower tree with automounts.
_C_OPTIONS = ("-o", "source=/,cache=always,sandbox=chroot,log_level=warn")
_RUST_OPTIONS = (
    *("--shared-dir", "/", "--cache", "always", "--sandbox", "chroot"),
    *("--no-announce-submounts", "--log-level", "warn"),
)


def daemon() -> str:
    """Return the path of virtiofsd.

    Raises:
        VmError: it is not installed.
    """
    for place in (shutil.which("virtiofsd"), *_PLACES):
        if place and os.access(place, os.X_OK):
            return place
    raise VmError(
        "virtiofsd is not installed",
        "apt install qemu-system-common (Debian 12), or virtiofsd (Debian 13 and later)",
    )


def serve(writable: Sequence[Path], stderr: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start virtiofsd for ``/`` and return it with the connected vhost-user socket.

    Args:
        writable: folders that a guest may write to; all else is read-only.
        stderr: descriptor for what it has to say.

    Raises:
        PrivilegeError: not root, so neither the tree can be read nor a mount namespace be made.
        VmError: virtiofsd is not installed.
    """
    program = daemon()
    if os.geteuid() != 0:
        raise PrivilegeError(
            "a guest shares the whole tree of its host, so root is needed", "use sudo"
        )
    with tempfile.TemporaryDirectory(prefix="pmtutrace-vm.") as folder:
        address = f"{folder}/virtiofs"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(address)
        listening.listen(1)
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.connect(address)
    with listening:
        process = start(
            [program, f"--fd={listening.fileno()}", *_options(program)],
            (listening.fileno(),),
            stderr,
            ("--read-only", *map(str, writable)),
        )
    return process, connected


def _options(program: str) -> tuple[str, ...]:
    """Return the options in the words of this virtiofsd: QEMU's own in C (to 7.2), or in Rust."""
    said = subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout
    return _RUST_OPTIONS if "--shared-dir" in said else _C_OPTIONS


def start(
    program: Sequence[str], descriptors: Sequence[int], stderr: int, options: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start a program by way of confine.py, in a session of its own: it ends with this process."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", confine.__file__, str(os.getpid()), *options, "--", *program],
        pass_fds=tuple(descriptors),
        stdin=subprocess.DEVNULL,
        stdout=stderr,
        stderr=stderr,
        start_new_session=True,
    )
