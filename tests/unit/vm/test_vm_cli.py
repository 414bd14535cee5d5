"""``pmtutrace vm`` as far as it goes without a guest."""

import json

import pytest
from click.testing import CliRunner

from pmtutrace.cli.vm import _ByLine, vm
from pmtutrace.errors import UsageError


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.setenv("PMTUTRACE_CACHE", str(tmp_path))
    return lambda *words: CliRunner().invoke(vm, words)


def test_list_names_every_kernel_even_those_not_fetched(invoke):
    result = invoke("list")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["5.10", "6.1", "6.12", "7"]
    assert "not fetched (Debian trixie)" in result.stdout
    rows = [json.loads(line) for line in invoke("list", "-j").stdout.splitlines()]
    assert rows[2] == dict.fromkeys(("release", "version", "vmlinuz", "modules")) | {"name": "6.12"}


@pytest.mark.parametrize("words", [["run"], ["run", "--kernel", "6.1"], ["run", "--", "true"]])
def test_kernel_and_command_are_required(invoke, words):
    assert invoke(*words).exit_code == 2


def test_unknown_kernel_is_a_usage_error(invoke):
    result = invoke("run", "-k", "2.4", "--", "true")
    assert isinstance(result.exception, UsageError)


def test_two_kernels_with_one_file_name_are_refused(invoke, bzimage_file, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / bzimage_file.name).write_bytes(bzimage_file.read_bytes())
    words = ["-k", str(bzimage_file), "-k", str(other / bzimage_file.name)]
    result = invoke("run", *words, "--", "true")
    assert isinstance(result.exception, UsageError)
    assert "same file name" in str(result.exception)


def test_output_of_several_guests_is_passed_on_by_lines(capfdbinary):
    output = _ByLine("6.1: ")
    output(1, b"one\ntw")
    output(2, b"err")
    output(1, b"o\nthree")
    output.flush()
    output.flush()
    captured = capfdbinary.readouterr()
    assert captured.out == b"6.1: one\n6.1: two\n6.1: three\n"
    assert captured.err == b"6.1: err\n"
