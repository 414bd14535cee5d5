"""What can go wrong with BCC is told apart, and said with what to do."""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from pmtutrace.errors import CompilerError
from pmtutrace.kernel import compiler, headers, sources
from pmtutrace.kernel.btf import Btf
from pmtutrace.kernel.bytecode import VALUES

INSTALL = ("python3-bpfcc", "python3-bcc")


@pytest.fixture
def another_python(tmp_path, monkeypatch):
    """A way to make an interpreter that finds a package of our making under the name bcc."""

    def make(text):
        package = tmp_path / "found" / "bcc"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(text)
        script = tmp_path / "python3"
        # -S: without the distribution's packages; -I would also shut out ours.
        script.write_text(
            f"#!/bin/sh\nPYTHONPATH={package.parent} "
            f'exec {Path(sys.executable).resolve()} -S "$@"\n'
        )
        script.chmod(0o755)
        monkeypatch.setattr(compiler, "_interpreters", lambda: [str(script)])
        return package

    return make


def failure():
    with pytest.raises(CompilerError) as caught, compiler.Compiler() as bcc:
        bcc.compile("", {})
    with pytest.raises(CompilerError):
        compiler.version()
    return caught.value


def test_no_bcc(another_python):
    shutil.rmtree(another_python(""))
    error = failure()
    assert error.message == "bcc cannot be imported: No module named 'bcc'"
    assert all(package in error.hint for package in INSTALL)


@pytest.mark.parametrize("text", ["", "__version__ = '0.1.10'\n", "class BPF: pass\n"])
def test_the_bcc_that_is_something_else(another_python, text):
    package = another_python(text)
    error = failure()
    assert error.message == f"the bcc at {package / '__init__.py'} is not the BPF compiler"
    assert all(name in error.hint for name in INSTALL)


@pytest.mark.parametrize(
    "text",
    [
        "print 'written for another Python'\n",
        "import ctypes; ctypes.CDLL('libbcc.so.nowhere')\n",
        "import no_such_module\n",
    ],
)
def test_a_bcc_that_cannot_be_imported(another_python, text):
    another_python(text)
    error = failure()
    assert error.message.startswith("bcc cannot be imported: ")
    assert all(name in error.hint for name in INSTALL)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise MemoryError('not today')", "MemoryError: not today"),
        ("return None", "no message"),
        ("os.abort()", "no message"),
        ("print('junk', flush=True); os._exit(0)", "no image"),
    ],
)
def test_a_bcc_that_fails_in_its_own_way(another_python, text, said):
    another_python(f"import os\nBPF = None\nclass lib:\n    def bpf_module_create_c(*_): {text}\n")
    with pytest.raises(CompilerError) as caught, compiler.Compiler() as bcc:
        bcc.compile("", {})
    assert said in caught.value.message
    assert caught.value.hint


def test_the_next_interpreter_is_asked_where_the_first_has_none(another_python, monkeypatch):
    another_python("")
    (first,) = compiler._interpreters()
    monkeypatch.setattr(compiler, "_interpreters", lambda: [first, sys.executable])
    assert compiler.version().endswith(f"for {sys.executable}")


def test_interpreters_are_ours_and_the_distributions(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "SYSTEM", tmp_path / "nothing")
    assert compiler._interpreters() == [sys.executable]
    monkeypatch.setattr(compiler, "SYSTEM", Path(sys.executable))
    assert compiler._interpreters() == [sys.executable]
    monkeypatch.setattr(compiler, "SYSTEM", Path("/bin/sh"))
    assert compiler._interpreters() == [sys.executable, "/bin/sh"]


@pytest.fixture(scope="module")
def header():
    return headers.generate(Btf.load(), headers.Wanted.read(sources.folder() / "kernel.toml"))


@pytest.mark.live
@pytest.mark.parametrize("name", ["hooks/drop.bpf.c", "emit.bpf.c", "include/skb.h"])
def test_an_error_in_a_source_names_file_and_line(name, header, tmp_path, monkeypatch):
    shutil.copytree(sources.folder(), tmp_path / "bpf")
    monkeypatch.setattr(sources, "folder", lambda: tmp_path / "bpf")
    broken = tmp_path / "bpf" / name
    lines = broken.read_text().split("\n")
    at = next(number for number, line in enumerate(lines) if line == "}")
    lines.insert(at, "\tnot_declared = 1;")
    broken.write_text("\n".join(lines))
    with pytest.raises(CompilerError) as caught, compiler.Compiler() as bcc:
        bcc.compile(header, {})
    # Of an include, the compiler knows the path that it was given.
    assert f"BCC refused bpf/{name}:{at + 1}: " in caught.value.message
    assert "not_declared" in caught.value.message
    assert "\n" not in caught.value.message
    assert "doctor" in caught.value.hint


@pytest.mark.live
def test_what_comes_out(header):
    with compiler.Compiler() as bcc:
        compiled = bcc.compile(header, {"MAX_FLOWS": 1024, "RING_PAGES": 8})
    maps = {entry["name"]: entry for entry in compiled["maps"]}
    names, used = [entry["name"] for entry in compiled["maps"]], set()
    assert maps["counts"]["max_entries"] == 1024
    assert maps["counts"]["key_size"] == 24
    assert maps["keys"]["leaf_size"] == 100
    assert maps["ring"]["max_entries"] == 8 * 4096
    assert {"kfree_skb", "icmp_send"} <= {program["name"] for program in compiled["programs"]}
    for program in compiled["programs"]:
        code = bytes.fromhex(program["code"])
        assert len(code) % 8 == 0
        assert all(at % 8 == 0 and index < len(maps) for at, index in program["references"])
        # ld_imm64 of a map, or of the address of its one value.
        found = {(names[index], code[at + 1] >> 4) for at, index in program["references"]}
        assert found <= {(name, 2 if name in VALUES else 1) for name in names}
        used |= {name for name, _ in found}
    assert set(VALUES) - {"module_moves"} <= used  # not every kernel has modules
    assert all(maps[name]["max_entries"] == 1 for name in VALUES)


# What BCC's own headers include, and ask for, where they are not skipped.
ASKED_FOR = {
    "uapi/linux/bpf.h": "",
    "uapi/linux/if_packet.h": "",
    "linux/bpf_common.h": "",
    "linux/log2.h": "",
    "asm/page.h": "",
    "linux/version.h": "#define LINUX_VERSION_CODE 0\n#define KERNEL_VERSION(a, b, c) 0\n",
}


@pytest.mark.live
def test_what_is_declared_of_bcc_is_as_bcc_declares_it(header, monkeypatch):
    with compiler.Compiler() as bcc:
        ours = bcc.compile(header, {"RDONLY_CAST": 4096, "TYPEID_pt_regs": 1, "TP_BTF": 1})
    tree = compiler._tree

    def with_headers(root, types):
        tree(root, types)
        for name, text in ASKED_FOR.items():
            (root / "include" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "include" / name).write_text(text)

    monkeypatch.setattr(compiler, "_tree", with_headers)
    # With its headers, and without our few lines in their place.
    read = ("-DPMTUTRACE_HELPERS_H", "-DCONFIG_BPF_SYSCALL=1")
    monkeypatch.setattr(compiler, "READ", read)
    with compiler.Compiler() as bcc:
        theirs = bcc.compile(header, {"RDONLY_CAST": 4096, "TYPEID_pt_regs": 1, "TP_BTF": 1})
    assert len(ours["programs"]) > 40
    assert ours == theirs


@pytest.mark.live
def test_nothing_is_left_behind(header, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with compiler.Compiler() as bcc:
        bcc.compile(header, {})
    assert os.listdir(tmp_path) == []  # noqa: PTH208
    with compiler.Compiler() as bcc:
        child = bcc._child
    assert child.returncode is not None


# What it writes is a stand-in for the files that each part makes, at any moment.
BUSY = """
import itertools, json, pathlib, sys
tree = pathlib.Path(json.load(sys.stdin)["tree"])
for number in itertools.count():
    (tree / f"{number % 99}").mkdir(exist_ok=True)
    if number == 99:
        (tree.parent.parent / "busy").touch()
"""


def test_nothing_is_left_of_a_compiler_that_is_still_writing(tmp_path, monkeypatch):
    child, folder = tmp_path / "busy.py", tmp_path / "temporary"
    child.write_text(BUSY)
    folder.mkdir()
    monkeypatch.setattr(compiler, "CHILD", child)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt():
        while not (tmp_path / "busy").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    def interrupted():
        threading.Thread(target=interrupt, daemon=True).start()
        with compiler.Compiler() as bcc:
            bcc.compile("", {})

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert os.listdir(folder) == []  # noqa: PTH208
