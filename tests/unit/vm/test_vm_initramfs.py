"""The archive that a guest boots from, and the command in it."""

import gzip
import lzma
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtutrace.errors import VmError
from pmtutrace.vm import initramfs
from pmtutrace.vm.initramfs import Job
from pmtutrace.vm.kernels import Kernel

JOB = Job(("true",), Path("/"), {"A": "b"}, "0123456789abcdef")
V = "kernel/drivers/virtio"
DEP = f"""\
{V}/virtio.ko.xz:
{V}/virtio_ring.ko.xz:
{V}/modern.ko.xz:
{V}/virtio_pci.ko.xz: {V}/modern.ko.xz {V}/virtio_ring.ko.xz {V}/virtio.ko.xz
kernel/drivers/char/virtio-console.ko.xz: {V}/virtio_ring.ko.xz {V}/virtio.ko.xz
"""


@pytest.fixture
def modules(tmp_path):
    for line in DEP.splitlines():
        path = tmp_path / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(path.name.encode()))
    (tmp_path / "modules.dep").write_text(DEP)
    return tmp_path


def test_modules_are_loaded_after_what_they_need(modules):
    order = initramfs.load_order(modules, ("virtio_pci", "virtio_console", "overlay"))
    assert [path.name.partition(".")[0] for path in order] == [
        "virtio",
        "virtio_ring",
        "modern",
        "virtio_pci",
        "virtio-console",
    ]


def test_archive_holds_the_modules_unpacked_and_in_order(modules, tmp_path):
    kernel = Kernel("k", "9.9.9", tmp_path / "vmlinuz", modules)
    archive = tmp_path / "initramfs.cpio"
    archive.write_bytes(gzip.decompress(initramfs.build(kernel, JOB)))
    folder = tmp_path / "unpacked"
    folder.mkdir()
    cpio = [str(initramfs.busybox()), "cpio", "-i", "-d"]
    with archive.open("rb") as file:
        subprocess.run(cpio, stdin=file, cwd=folder, check=True, capture_output=True)
    order = (folder / "modules/order").read_text().split()
    assert order[0] == "virtio.ko"
    assert [(folder / "modules" / name).read_bytes() for name in order] == [
        name.encode() + b".xz" for name in order
    ]
    assert (folder / "init").stat().st_mode & 0o777 == 0o755
    assert (folder / "bin/busybox").read_bytes() == initramfs.busybox().read_bytes()
    assert (folder / "job/main").read_text().startswith("MARK=0123456789abcdef\n")
    assert (folder / "dev/console").is_char_device()
    assert (folder / "upper").is_dir()


def zstd(data):
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_modules_are_unpacked_whatever_they_are_packed_with(tmp_path, suffix):
    pack = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}.get(suffix, bytes)
    path = tmp_path / f"a.ko{suffix}"
    path.write_bytes(pack(b"\x7fELF"))
    assert initramfs.unpacked(path) == b"\x7fELF"


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_damaged_module_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.ko{suffix}"
    path.write_bytes(b"damaged")
    with pytest.raises(VmError, match="cannot unpack"):
        initramfs.unpacked(path)


TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=8)


@given(
    st.lists(TEXT, max_size=4),
    st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), TEXT, max_size=3),
)
def test_command_arrives_as_it_was_given(words, environment):
    # No interpreter, which would take a hundred times as long to start.
    assert _printed(environment, "/usr/bin/printf", r"%s\0", *words) == (words or [""])
    found = _printed(environment, "/usr/bin/env", "-0")
    assert dict(one.split("=", 1) for one in found) == environment


def _printed(environment, *words):
    """Run a command by the script that is made for it; return what it prints, cut at each NUL."""
    script = initramfs.command(Job(words, Path("/"), environment, "m"))
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_command_starts_in_its_folder(tmp_path):
    folder = tmp_path / "it's a folder; true"
    folder.mkdir()
    script = initramfs.command(Job(("pwd",), folder, {}, "m"))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{folder}\n"
    folder.rmdir()
    assert subprocess.run(["sh", "-c", script], capture_output=True, check=False).returncode == 126


def test_settings_are_shell_words(tmp_path):
    out = tmp_path / "a b'$(false)"
    job = Job(("true",), Path("/"), {}, "m", Path("/cache"), out)
    script = (
        initramfs.settings(Kernel("k", "r", Path("/k"), None), job) + 'printf "%s|" "$TRIAL" "$OUT"'
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"|{out}|"
    assert "TRIAL=yes\n" in initramfs.settings(
        Kernel("k", "r", Path("/k"), None), Job((), Path("/"), {}, "m")
    )
