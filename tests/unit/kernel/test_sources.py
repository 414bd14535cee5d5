"""The C sources as one text, and the number that changes when they do."""

import re
import shutil
import sys

import pytest

from pmtutrace.errors import CompilerError
from pmtutrace.kernel import sources
from pmtutrace.kernel.bytecode import CALLED
from pmtutrace.kernel.hooks import ATTACHMENTS
from pmtutrace.kernel.loader import CPUS_AT_MOST

PROGRAMS = {a.program for a in ATTACHMENTS} | CALLED.keys()


def test_every_source_is_in_the_text_once_and_in_its_place():
    there = {str(path.relative_to(sources.folder())) for path in sources.folder().rglob("*.bpf.c")}
    assert set(sources.TEXTS) == there
    markers = re.findall(r'^#line 1 "(.*)"$', sources.text(), re.M)
    assert markers == list(sources.TEXTS)


def test_line_numbers_lead_back_to_the_file():
    lines = sources.text().split("\n")
    for name in sources.TEXTS:
        start = lines.index(f'#line 1 "{name}"') + 1
        own = (sources.folder() / name).read_text().rstrip("\n").split("\n")
        assert lines[start : start + len(own)] == own


def test_programs_are_left_out_and_every_line_keeps_its_number():
    everything = sources.text()
    without = sources.text(PROGRAMS - {"kfree_skb"})
    assert "int kfree_skb(" in everything
    assert without.count("\n") == everything.count("\n")
    gone = [
        (whole, kept)
        for whole, kept in zip(everything.split("\n"), without.split("\n"), strict=True)
        if whole != kept
    ]
    assert "int kfree_skb(struct bpf_raw_tracepoint_args *ctx)" in [whole for whole, _ in gone]
    assert gone[-1][0] == "}"
    assert all(kept == "" for _, kept in gone)


def functions(text):
    """Return the names of the functions that a text defines, and of all that it mentions."""
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    defined = re.findall(r"^(?:int|static)\b[^;{}=()]*?(\w+)\([^;{}]*\)\n\{", code, re.M)
    return set(defined), set(re.findall(r"\w+", code))


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_a_program_keeps_what_it_calls_and_little_else(program):
    every, _ = functions(sources.text())
    kept, mentioned = functions(sources.text({program}))
    assert program in kept
    assert PROGRAMS & kept == {program}
    assert kept == every & mentioned - (PROGRAMS - {program})
    assert len(kept) < 0.6 * len(every)


def test_halves_are_all_programs_once_and_take_about_as_long():
    for ways in ({"tracepoint"}, {"tracepoint", "fentry", "fexit"}, {"tracepoint", "kprobe"}):
        programs = {a.program for a in ATTACHMENTS if a.how in ways} | CALLED.keys()
        one, other = sources.halves(programs)
        assert one | other == programs
        assert not one & other
        assert "kfree_skb" in one
        lengths = [len(re.sub(r"\s+", "", sources.text(part))) for part in (one, other)]
        assert max(lengths) < 1.3 * min(lengths)


def test_whatever_is_not_static_is_a_program_that_is_attached_or_called():
    functions = re.findall(r"^[a-z][^;{}]*?\)\n\{", sources.text(), re.M)
    programs = [head for head in functions if not head.startswith("static ")]
    assert {head[len("int ") : head.index("(")] for head in programs} == PROGRAMS
    assert len(functions) > 2 * len(programs)
    assert not re.search(r"^int ", sources.text(()), re.M)


def test_the_loader_knows_which_maps_have_an_entry_for_each_cpu():
    """One that it does not know has one entry, and whatever runs on another CPU is lost."""
    arrays = set(re.findall(r"^BY_CPU\((\w+),", sources.text(), re.M))
    assert arrays == {name for name, most in CPUS_AT_MOST.items() if most == sys.maxsize}


def test_sources_say_their_licence():
    for path in sources.folder().rglob("*.[ch]"):
        assert path.read_text().startswith(
            "/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */\n"
        ), path


def test_only_the_first_text_includes():
    """BCC does not rewrite what is included: includes hold types and pure helpers, no map calls."""
    for name in sources.TEXTS[1:]:
        assert "#include" not in (sources.folder() / name).read_text(), name
    maps = re.findall(r"\b(\w+)\.(?:lookup|update|insert|delete|ringbuf_)", sources.text())
    for path in (sources.folder() / "include").glob("*.h"):
        for name in set(maps):
            assert f"{name}.lookup" not in path.read_text(), path


@pytest.fixture
def copy(tmp_path, monkeypatch):
    shutil.copytree(sources.folder(), tmp_path / "bpf")
    monkeypatch.setattr(sources, "folder", lambda: tmp_path / "bpf")
    return tmp_path / "bpf"


def test_the_digest_is_of_contents_and_names(copy):
    before = sources.digest()
    assert re.fullmatch("[0-9a-f]{64}", before)
    for name in (*sources.TEXTS, "include/skb.h", "kernel.toml"):
        octets = (copy / name).read_bytes()
        (copy / name).write_bytes(octets + b"\n")
        assert sources.digest() != before, name
        (copy / name).write_bytes(octets)
        assert sources.digest() == before
    (copy / "include" / "more.h").write_text("")
    assert sources.digest() != before


def test_the_digest_does_not_care_about_what_is_not_compiled(copy):
    before = sources.digest()
    (copy / "README.md").write_text("other words")
    assert sources.digest() == before


def test_a_package_without_its_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "a" / "b" / "c" / "sources.py"))
    with pytest.raises(CompilerError, match="not installed") as caught:
        sources.folder()
    assert "wheel" in caught.value.hint
