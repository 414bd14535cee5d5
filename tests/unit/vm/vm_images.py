"""Kernel images made by the tests: real headers and real compression around a tiny ELF image."""

import struct

BTF = b"\x9f\xeb\x01\x00" + b"types and strings"


def elf_image(sections):
    """Return an ELF64 file with the sections, elf(5)."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    body, headers, at = b"", [struct.pack("<IIQQQQIIQQ", *[0] * 10)], 1
    for name, data in [*sections.items(), (".shstrtab", names)]:
        headers.append(
            struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, 64 + len(body), len(data), 0, 0, 1, 0)
        )
        body += data
        at += len(name) + 1
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    count = len(headers)
    head = struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, count, count - 1
    )
    return ident + head + body + b"".join(headers)


def bzimage_of(payload, release=b"9.9.9-test"):
    """Return a bzImage, boot protocol 2.15, around a payload that ends with the unpacked size."""
    setup = bytearray(5 * 512)
    setup[0x1F1] = 4
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x20F)
    struct.pack_into("<H", setup, 0x20E, 0x400)
    setup[0x600 : 0x600 + len(release) + 9] = release + b" (a@b) #1"
    code = bytes(0x800)
    struct.pack_into("<II", setup, 0x248, len(code), len(payload))
    return bytes(setup) + code + payload + b"after it"
