"""What goes wrong is said in one line with one hint, under the documented exit code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from traced import COMMAND, run

pytestmark = pytest.mark.live
VMLINUX = Path("/sys/kernel/btf/vmlinux")
SHORT = ("-d", "0.05")


def refused(done, code, said, hint=""):
    """Assert that a run ended as an error must: one line, one hint, no data."""
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("pmtutrace: "), lines
    assert said in lines[0]
    assert lines[1].startswith("hint: "), lines
    assert hint in lines[1]


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Files that are not what they should be, by name."""
    folder = tmp_path_factory.mktemp("broken")
    whole = VMLINUX.read_bytes()
    (folder / "cut.btf").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.btf").write_bytes(b"")
    (folder / "noise.btf").write_bytes(bytes(range(256)) * 16)
    # The header is whole, and every type is nonsense.
    (folder / "types.btf").write_bytes(whole[:24] + bytes([0xFF] * 65536) + whole[65560:])
    (folder / "noise.image").write_bytes(bytes(range(256)) * 16)
    (folder / "file").write_text("")
    return folder


WRONG = {
    "option": (("--no-such-option",), 2, "--no-such-option", "pmtutrace trace --help"),
    "argument": (("trace", "host", "1.2.3.4"), 2, "", "hint"),
    "verb": (("tarce",), 2, "tarce", "pmtutrace --help"),
    "number": (("trace", "-c", "many"), 2, "many", "pmtutrace trace --help"),
    "zero": (("trace", "--rate", "0"), 2, "--rate", "pmtutrace trace --help"),
    "verdict": (("trace", "--verdict", "maybe"), 2, "maybe", "pmtutrace trace --help"),
    "namespace": (("trace", "--netns", "nowhere"), 2, "nowhere", ""),
    "inode": (("trace", "--netns", "1"), 2, "'1'", ""),
    "interface": (("trace", "-i", "nothing0"), 2, "nothing0", "lo"),
    "hostile interface": (("trace", "-i", "a\x1b[2J\nb"), 2, "a\\x1b[2J\\nb", ""),
    "address": (("trace", "--host", "300.1.2.3"), 2, "300.1.2.3", "192.0.2.7"),
    "site": (("trace", "--site", "ip_backward"), 2, "ip_backward", "ip_forward"),
    "no such BTF": (("trace", "--btf", "/nonexistent"), 2, "/nonexistent", ""),
    "BTF is a folder": (("trace", "--btf", "/"), 2, "/", ""),
    "cut BTF": (("trace", "--btf", "cut.btf"), 2, "cut.btf", ""),
    "empty BTF": (("trace", "--btf", "empty.btf"), 2, "empty.btf", ""),
    "noise for BTF": (("trace", "--btf", "noise.btf"), 2, "noise.btf", ""),
    "damaged BTF": (("trace", "--btf", "types.btf"), 2, "types.btf", ""),
    "no such image": (("trace", "--image", "/nonexistent"), 1, "/nonexistent", "compile"),
    "noise for an image": (("trace", "--image", "noise.image"), 1, "image", "compile"),
    "never": (("trace", "-d", "nan"), 2, "nan", ""),
    "for ever": (("trace", "-d", "inf"), 2, "inf", ""),
    "ready file": (("trace", "-d", "9", "--ready-file", "/nonexistent/r"), 2, "/nonexistent/r", ""),
    "output of compile": (("compile", "-o", "/nonexistent/o"), 2, "/nonexistent", ""),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_was_asked_for_makes_no_sense(what, broken):
    words, code, said, hint = WRONG[what]
    named = [str(broken / word) if (broken / word).is_file() else word for word in words]
    done = run(*named)
    refused(done, code, said, "" if hint == "hint" else hint)


@pytest.mark.parametrize("cache", ["/proc/nothing", "/sys", "file", "file/below"])
def test_a_cache_that_cannot_be_made(cache, broken):
    named = cache if cache.startswith("/") else str(broken / cache)
    refused(run("trace", *SHORT, environment={"PMTUTRACE_CACHE": named}), 2, named, "$PMTUTRACE")


NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")


@pytest.mark.parametrize(
    "words", [("trace",), ("trace", "-i", "lo"), ("trace", "--netns", "x"), ("lab", "run", "--all")]
)
def test_not_root(words):
    done = run(*words, command=(*NOBODY, *COMMAND), environment={"HOME": "/nonexistent"})
    refused(done, 1, "root", "sudo")


def test_not_root_can_still_ask_for_help():
    done = run("--help", command=(*NOBODY, *COMMAND), environment={"HOME": "/nonexistent"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: pmtutrace")


def test_root_without_any_capability(tmp_path):
    bare = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--")
    done = run("trace", *SHORT, command=(*bare, *COMMAND))
    refused(done, 1, "", "root")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A cache as one run leaves it."""
    cache = tmp_path_factory.mktemp("built")
    done = run("trace", *SHORT, environment={"PMTUTRACE_CACHE": str(cache)})
    assert done.returncode == 0, done.stderr
    return cache


@pytest.fixture
def warm(built, tmp_path):
    """A copy of it, and the environment that names it."""
    shutil.copytree(built, tmp_path / "warm")
    return tmp_path / "warm", {"PMTUTRACE_CACHE": str(tmp_path / "warm")}


@pytest.fixture
def without_bcc(tmp_path):
    """A way to run the command where no Python sees the distribution's bcc; give its prefix.

    In a mount namespace of its own, an empty folder lies over each place where bcc is.
    """
    places = [Path(entry) / "bcc" for entry in sys.path if (Path(entry) / "bcc").is_dir()]
    assert places, "no bcc is installed: then what is tested here is the normal state"
    empty = tmp_path / "empty"
    empty.mkdir()
    mounts = "".join(f"mount --bind '{empty}' '{place}' && " for place in places)
    return ("unshare", "--mount", "sh", "-c", mounts + 'exec "$@"', "sh")


def test_no_bcc(without_bcc, tmp_path):
    done = run(
        "trace",
        *SHORT,
        command=(*without_bcc, *COMMAND),
        environment={"PMTUTRACE_CACHE": str(tmp_path / "cache")},
    )
    refused(done, 1, "bcc", "python3-bpfcc")


def test_the_bcc_that_is_something_else(without_bcc, tmp_path):
    """PyPI's bcc, as far as we can tell: a package of that name, and no BPF in it."""
    impostor = tmp_path / "elsewhere" / "bcc"
    impostor.mkdir(parents=True)
    (impostor / "__init__.py").write_text("__version__ = '0.1.10'\n")
    done = run(
        "trace",
        *SHORT,
        command=(*without_bcc, *COMMAND),
        environment={
            "PMTUTRACE_CACHE": str(tmp_path / "cache"),
            "PYTHONPATH": str(impostor.parent),
        },
    )
    refused(done, 1, f"{impostor}/__init__.py is not the BPF compiler", "python3-bpfcc")


def test_a_warm_cache_needs_no_bcc(without_bcc, warm):
    done = run("trace", *SHORT, command=(*without_bcc, *COMMAND), environment=warm[1])
    assert done.returncode == 0, done.stderr


def test_a_kernel_without_btf(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    hidden = ("unshare", "--mount", "sh", "-c", f"mount --bind '{empty}' /sys/kernel/btf && exec")
    line = (*hidden[:-1], hidden[-1] + ' "$@"', "sh")
    done = run(
        "trace",
        *SHORT,
        command=(*line, *COMMAND),
        environment={"PMTUTRACE_CACHE": str(tmp_path / "cache")},
    )
    refused(done, 77, "/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF")


def test_btf_from_a_file_instead(tmp_path):
    shutil.copy(VMLINUX, tmp_path / "btf")
    assert run("trace", *SHORT, "--btf", str(tmp_path / "btf")).returncode == 0
    # Under the same name, another time: what is cached for the old one must not be used.
    (tmp_path / "btf").write_bytes(b"\x9f\xeb" + bytes(100))
    done = run("trace", *SHORT, "--btf", str(tmp_path / "btf"))
    refused(done, 2, str(tmp_path / "btf"))


def test_a_damaged_image_is_refused(tmp_path):
    built = tmp_path / "image"
    assert run("compile", "-o", str(built)).returncode == 0
    assert run("trace", *SHORT, "--image", str(built)).returncode == 0
    octets = bytearray(built.read_bytes())
    octets[len(octets) // 2] ^= 1
    built.write_bytes(octets)
    refused(run("trace", *SHORT, "--image", str(built)), 1, "damaged", "compile")


def test_a_damaged_cache_is_made_anew(warm):
    folder, environment = warm
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"boot", "images"} <= {path.parent.name for path in files}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    whole = {path: path.read_bytes() for path in files}
    for path, octets in whole.items():
        damaged = bytearray(octets)
        damaged[len(octets) // 2] ^= 4
        path.write_bytes(damaged)
    done = run("trace", *SHORT, environment=environment)
    assert done.returncode == 0, done.stderr
    for path in whole:
        if path.parent.name in ("boot", "images"):
            assert path.read_bytes() == whole[path], path


def test_what_somebody_else_could_have_written_is_not_loaded(warm):
    folder, environment = warm
    (kept,) = (folder / "images").iterdir()
    before = kept.stat().st_ino
    os.chown(kept, 65534, 65534)
    assert run("trace", *SHORT, environment=environment).returncode == 0
    assert (kept.stat().st_uid, kept.stat().st_ino == before) == (0, False)


def test_debug_shows_where():
    done = run("--debug", "trace", "--netns", "nowhere")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "UsageError" in done.stderr


def test_a_library_that_is_missing(tmp_path):
    """Without libbpf there is nothing to load with, and that is said before anything else fails."""
    found = subprocess.run(
        ["ldconfig", "-p"], capture_output=True, check=True, text=True
    ).stdout.splitlines()
    library = Path(next(line.split()[-1] for line in found if "libbpf.so.1 " in line)).resolve()
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    line = f"mount --bind '{empty}' '{library}' && exec \"$@\""
    done = run("trace", *SHORT, command=("unshare", "--mount", "sh", "-c", line, "sh", *COMMAND))
    refused(done, 1, "libbpf", "python3-bpfcc")
