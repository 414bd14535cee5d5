"""The initramfs of a guest: busybox, the modules that reach the host's tree, and the job.

Format: cpio "newc", Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

from __future__ import annotations

import gzip
import lzma
import shlex
import shutil
import stat
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace.errors import VmError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pmtutrace.vm.kernels import Kernel

# What a guest needs before it has the host's tree. Where one is not a module, it is built in.
_MODULES = ("virtio_pci", "virtio_console", "virtiofs", "overlay")
_FOLDERS = ("bin", "dev", "host", "job", "modules", "proc", "root", "sys", "upper")


@dataclass(frozen=True, slots=True)
class Job:
    """What a guest is booted for.

    Attributes:
        command: program and arguments; empty for a trial boot, which says "ready" and ends.
        directory: where the command starts, a folder of the host.
        environment: all that the command finds in its environment.
        mark: hexadecimal digits that the command cannot guess; they end its output.
        cache: folder of the host that the guest reads and writes at the same path.
        out: another such folder.
    """

    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    mark: str
    cache: Path | None = None
    out: Path | None = None


def build(kernel: Kernel, job: Job) -> bytes:
    """Return the archive for a guest that does a job on its host's tree.

    Raises:
        VmError: there is no static busybox, or a module cannot be read.
    """
    files = {
        "init": (0o755, _script("guest-init.sh")),
        "job/settings": (0o644, settings(kernel, job).encode()),
        "job/main": (0o644, f"MARK={job.mark}\n".encode() + _script("guest-main.sh")),
        "job/command": (0o600, command(job).encode()),
    }
    return archive(kernel.modules, _MODULES, files)


def archive(
    modules: Path | None, names: Sequence[str], files: Mapping[str, tuple[int, bytes]]
) -> bytes:
    """Return a gzip-compressed cpio archive of busybox, modules in their order, and files.

    Args:
        modules: a ``lib/modules/RELEASE`` folder; None where all is built in.
        names: modules to be loaded, by the order that ``modules/order`` gives.
        files: path -> permissions and content; ``init`` is one of them.

    Raises:
        VmError: there is no static busybox, or a module cannot be read.
    """
    packed = dict(files)
    order = []
    for path in load_order(modules, names) if modules else []:
        name = path.name.partition(".ko")[0] + ".ko"
        packed[f"modules/{name}"] = (0o644, unpacked(path))
        order.append(f"{name}\n")
    packed["modules/order"] = (0o644, "".join(order).encode())
    packed["bin/busybox"] = (0o755, busybox().read_bytes())
    return gzip.compress(b"".join(_cpio(packed)), compresslevel=1)


def settings(kernel: Kernel, job: Job) -> str:
    """Return the shell variables that stage one reads."""
    values = {
        "TRIAL": "" if job.command else "yes",
        "CACHE": str(job.cache or ""),
        "OUT": str(job.out or ""),
        "MODULES": str(kernel.modules or ""),
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def command(job: Job) -> str:
    """Return the shell script that becomes the command."""
    words = [*(f"{name}={value}" for name, value in job.environment.items()), *job.command]
    # The host's env, not busybox's, which would prefer its own ip, ping and modprobe.
    return (
        f"cd {shlex.quote(str(job.directory))} || exit 126\n"
        f"exec /usr/bin/env -i {shlex.join(words)}\n"
    )


def load_order(modules: Path, names: Sequence[str]) -> list[Path]:
    """Return the module files to load for these names, dependencies first (modules.dep(5)).

    Args:
        modules: a ``lib/modules/RELEASE`` folder.
        names: module names; those that are not there are taken to be built in.
    """
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        name = path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
        # The line names what is needed with the nearest first, so it is loaded from its end.
        needs[name] = [*reversed(rest.split()), path]
    ordered = dict.fromkeys(path for name in names for path in needs.get(name, ()))
    return [modules / path for path in ordered]


def unpacked(path: Path) -> bytes:
    """Return a module's ELF image, whatever it is compressed with: an old insmod takes no other.

    Raises:
        VmError: it cannot be read or decompressed.
    """
    try:
        if path.suffix == ".zst":
            done = subprocess.run(["zstd", "-qdc", str(path)], capture_output=True, check=True)
            return done.stdout
        data = path.read_bytes()
        if path.suffix == ".xz":
            return lzma.decompress(data)
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, lzma.LZMAError, subprocess.CalledProcessError) as error:
        raise VmError(f"cannot unpack {path}: {error}", "apt install zstd") from error


def busybox() -> Path:
    """Return the path of a statically linked busybox.

    Raises:
        VmError: there is none on PATH.
    """
    found = shutil.which("busybox")
    if found is None or b"/ld-linux" in Path(found).read_bytes():
        raise VmError("no statically linked busybox", "apt install busybox-static")
    return Path(found)


def _script(name: str) -> bytes:
    return resources.files("pmtutrace.vm").joinpath(name).read_bytes()


def _cpio(files: Mapping[str, tuple[int, bytes]]) -> Iterator[bytes]:
    """Yield the records of an archive that holds the fixed folders, /dev/console and the files."""
    number = 0

    def record(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
        nonlocal number
        number += 1
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        head = b"070701" + b"".join(b"%08x" % value for value in fields) + encoded
        return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)

    for folder in _FOLDERS:
        yield record(folder, stat.S_IFDIR | 0o755)
    yield record("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    for name, (mode, data) in files.items():
        yield record(name, stat.S_IFREG | mode, data)
    yield record("TRAILER!!!", 0)
