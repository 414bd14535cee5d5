"""Kernel images: release, payload, BTF."""

import bz2
import gzip
import lzma
import struct
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from vm_images import BTF, bzimage_of, elf_image

from pmtutrace.errors import VmError
from pmtutrace.vm import btf, bzimage
from pmtutrace.vm.kernels import Kernel

ELF = elf_image({".text": b"Linux version 9.9.9-test (a@b)", ".BTF_ids": b"no", ".BTF": BTF})


def zstd(data):
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


PACKERS = {
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32),
    "xz with x86 filter": lambda data: lzma.compress(
        data, filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2}]
    ),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": zstd,
}


@pytest.mark.parametrize("packer", PACKERS.values(), ids=PACKERS)
def test_payload_is_unpacked(tmp_path, packer):
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage_of(packer(ELF) + struct.pack("<I", len(ELF))))
    assert bzimage.elf(path) == ELF
    assert bzimage.release(path) == "9.9.9-test"


def test_vmlinux_is_taken_as_it_is(tmp_path):
    path = tmp_path / "vmlinux"
    path.write_bytes(ELF)
    assert bzimage.elf(path) == ELF
    with pytest.raises(VmError, match="no bzImage"):
        bzimage.release(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no bzImage"),
        (bytes(1 << 13), "no bzImage"),
        (bzimage_of(b"unknown!"), "unknown way"),
        (bzimage_of(gzip.compress(ELF)[:30]), "cut short"),
        (bzimage_of(lzma.compress(ELF)[:12] + bytes(40)), "damaged"),
        (bzimage_of(b"\x28\xb5\x2f\xfd" + bytes(40)), "zstd"),
        (bzimage_of(gzip.compress(b"no kernel")), "holds no ELF"),
    ],
)
def test_damaged_image_is_refused(tmp_path, content, why):
    path = tmp_path / "bzImage"
    path.write_bytes(content)
    with pytest.raises(VmError, match=why):
        bzimage.elf(path)


def test_missing_image_is_refused(tmp_path):
    with pytest.raises(VmError, match="No such file"):
        bzimage.release(tmp_path / "bzImage")


def test_btf_is_the_section_byte_for_byte_and_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PMTUTRACE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage_of(gzip.compress(ELF)))
    kernel = Kernel.from_path(path)
    made = btf.btf(kernel)
    assert made.read_bytes() == BTF
    stamp = made.stat().st_mtime_ns
    assert btf.btf(kernel) == made
    assert made.stat().st_mtime_ns == stamp
    path.write_bytes(bzimage_of(gzip.compress(elf_image({".BTF": BTF + b"rebuilt"}))))
    assert btf.btf(kernel).read_bytes() == BTF + b"rebuilt"


def test_kernel_without_btf_is_told_what_to_configure(tmp_path, monkeypatch):
    monkeypatch.setenv("PMTUTRACE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage_of(gzip.compress(elf_image({".text": b""}))))
    with pytest.raises(VmError, match="no BTF") as caught:
        btf.btf(Kernel.from_path(path))
    assert "CONFIG_DEBUG_INFO_BTF" in caught.value.hint
    with pytest.raises(VmError, match="no module ip_gre"):
        btf.module_btf(Kernel.from_path(path), "ip_gre")


@given(st.binary(max_size=300), st.integers(0, len(ELF)))
@example(bytes(8) + b"\x80" + bytes(13) + b"\x01" + bytes(2), 39)  # a table far beyond any memory
def test_section_of_anything_is_bytes(junk, cut):
    assert btf.section(junk, ".BTF") == b""
    assert btf.section(ELF[:cut] + junk, ".BTF")[:2] in {
        b"",
        BTF[:2],
        (ELF[:cut] + junk)[:2],
    } or cut < len(ELF)
