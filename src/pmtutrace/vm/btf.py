"""A kernel's BTF, taken from its files: the host can compile for a guest that is not running."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace import paths
from pmtutrace.errors import VmError
from pmtutrace.vm import bzimage, initramfs

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmtutrace.vm.kernels import Kernel

_BTF_MAGIC = b"\x9f\xeb"


def btf(kernel: Kernel) -> Path:
    """Return a file that is the kernel's ``/sys/kernel/btf/vmlinux``, byte for byte.

    It is kept in the cache, named by a hash of the kernel's image.

    Raises:
        VmError: the image cannot be read or holds no BTF.
    """
    return _kept(kernel, "vmlinux", kernel.vmlinuz, bzimage.elf)


def module_btf(kernel: Kernel, module: str) -> Path:
    """Return a file that is the kernel's ``/sys/kernel/btf/MODULE``: split BTF, above vmlinux's.

    Args:
        kernel: one with modules.
        module: its name, with underscores.

    Raises:
        VmError: there is no such module, or it holds no BTF (before 5.11 none does).
    """
    files = initramfs.load_order(kernel.modules, (module,)) if kernel.modules else []
    if not files:
        raise VmError(f"{kernel.name} has no module {module}")
    return _kept(kernel, module, files[-1], initramfs.unpacked)


def _kept(kernel: Kernel, name: str, source: Path, image: Callable[[Path], bytes]) -> Path:
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise VmError(f"cannot read {source}: {error.strerror}") from error
    folder = paths.cache("btf")
    path = folder / f"{kernel.release}-{name}-{digest}"
    if path.is_file():
        return path
    data = section(image(source), ".BTF")
    if not data.startswith(_BTF_MAGIC):
        raise VmError(f"{source} holds no BTF", "build it with CONFIG_DEBUG_INFO_BTF=y")
    descriptor, partial = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "wb") as output:
        output.write(data)
    return Path(partial).replace(path)


def section(image: bytes, name: str) -> bytes:
    """Return a section of a little-endian ELF64 image by its name; empty if there is none.

    Layout: elf(5), Elf64_Ehdr and Elf64_Shdr.
    """
    try:
        table, size, count, names = (
            *struct.unpack_from("<Q", image, 0x28),
            *struct.unpack_from("<HHH", image, 0x3A),
        )
        headers = [struct.unpack_from("<IIQQQQ", image, table + size * i) for i in range(count)]
        _, _, _, _, strings, strings_size = headers[names]
    except (struct.error, IndexError, OverflowError):
        return b""
    wanted = name.encode() + b"\0"
    text = image[strings : strings + strings_size]
    for at, _, _, _, offset, length in headers:
        if text[at : at + len(wanted)] == wanted:
            return image[offset : offset + length]
    return b""
