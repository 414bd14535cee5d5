"""What an x86 kernel image says about itself, and the ELF image inside it.

Layout: Documentation/arch/x86/boot.rst of the kernel, "The Real-Mode Kernel Header"; little
endian.
"""

from __future__ import annotations

import bz2
import lzma
import re
import shutil
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

from pmtutrace.errors import VmError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MAGIC_AT = 0x202
_PROTOCOL_AT = 0x206
_RELEASE_AT = 0x20E
_PAYLOAD_AT = 0x248
_PAYLOAD_SINCE = 0x208  # boot protocol 2.08
_SIZE_TRAILER = 4  # the unpacked size, little endian, after all formats but gzip
_BANNER = re.compile(rb"Linux version (\S{1,64})")
_HINT = "give a bzImage (arch/x86/boot/bzImage) or, where only BTF is wanted, a vmlinux"


def release(path: Path) -> str:
    """Return what ``uname -r`` will say in a guest booted from this bzImage.

    Raises:
        VmError: it cannot be read, or is no bzImage.
    """
    head = _read(path, 1 << 16)
    _check(head, path)
    at = struct.unpack_from("<H", head, _RELEASE_AT)[0] + 0x200
    text = head[at : at + 256].split(b"\0")[0].split(b" ")[0]
    if not text or b"/" in text:
        raise VmError(f"{path} does not say its release", _HINT)
    return text.decode("ascii", "replace")


def elf(path: Path) -> bytes:
    """Return the ELF image inside a bzImage, or the file itself where it is one.

    Raises:
        VmError: it is neither, or its compression needs a tool that is not installed.
    """
    image = _read(path)
    if image.startswith(b"\x7fELF"):
        return image
    _check(image, path)
    if struct.unpack_from("<H", image, _PROTOCOL_AT)[0] < _PAYLOAD_SINCE:
        raise VmError(f"{path} is older than boot protocol 2.08", _HINT)
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_AT)
    start = ((image[0x1F1] or 4) + 1) * 512 + offset
    payload = image[start : start + length]
    for magic, unpack in _FORMATS:
        if payload.startswith(magic):
            try:
                inside = unpack(payload)
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
                raise VmError(f"{path} is damaged: {error}", _HINT) from error
            if not inside.startswith(b"\x7fELF"):
                raise VmError(f"{path} holds no ELF image", _HINT)
            return inside
    raise VmError(f"{path} is compressed in an unknown way ({payload[:6].hex()})", _HINT)


def elf_release(image: bytes) -> str:
    """Return the release from the banner in an ELF kernel image, or an empty string."""
    match = _BANNER.search(image)
    return match[1].decode("ascii", "replace") if match else ""


def _read(path: Path, limit: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise VmError(f"cannot read {path}: {error.strerror}", _HINT) from error


def _check(image: bytes, path: Path) -> None:
    if len(image) < 0x1000 or image[_MAGIC_AT : _MAGIC_AT + 4] != b"HdrS":
        raise VmError(f"{path} is no bzImage", _HINT)


def _tool(*command: str) -> Callable[[bytes], bytes]:
    def unpack(payload: bytes) -> bytes:
        if shutil.which(command[0]) is None:
            raise VmError(f"{command[0]} is not installed", f"apt install {command[0]}")
        done = subprocess.run(
            command, input=payload[:-_SIZE_TRAILER], capture_output=True, check=False
        )
        if done.returncode:
            raise VmError(f"{command[0]}: {done.stderr.decode(errors='replace').strip()}", _HINT)
        return done.stdout

    return unpack


def _stream(
    make: Callable[[], zlib._Decompress | lzma.LZMADecompressor | bz2.BZ2Decompressor],
) -> Callable[[bytes], bytes]:
    """Return a function that stops where the stream ends: what follows is the unpacked size."""

    def unpack(payload: bytes) -> bytes:
        stream = make()
        data = stream.decompress(payload)
        if not stream.eof:
            raise EOFError("the stream is cut short")
        return data

    return unpack


_FORMATS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", _stream(lambda: zlib.decompressobj(wbits=31))),
    (b"\xfd7zXZ\0", _stream(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ))),
    (b"]\0\0", _stream(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE))),
    (b"BZh", _stream(bz2.BZ2Decompressor)),
    (b"\x28\xb5\x2f\xfd", _tool("zstd", "-dc")),
    (b"\x02\x21\x4c\x18", _tool("lz4", "-dc")),
    (b"\x89LZO", _tool("lzop", "-dc")),
)
