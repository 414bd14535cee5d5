"""The image begun before it is known what the tracer is to do: taken once, by whom it fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtutrace.errors import NotSupported
from pmtutrace.kernel import build, features, symbols
from pmtutrace.tracing import usual
from pmtutrace.tracing.settings import Settings


class Wanted:
    def __init__(self, *what):
        self.what, self.closed = what, False

    def close(self):
        self.closed = True


class Boot:
    def __init__(self, names, btf):
        self.names, self.btf = names, str(btf)


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    monkeypatch.setattr(build, "Wanted", Wanted)
    monkeypatch.setattr(symbols, "Boot", Boot)
    monkeypatch.setattr(features, "refused", lambda: (True, False))
    monkeypatch.setattr(usual, "_begun", None)


def taken(settings=None, *, plain=False):
    settings = settings or Settings()
    return usual.wanted(usual.look(settings), settings, plain=plain)


def test_it_is_taken_once():
    usual.begin()
    begun = usual._begun
    assert taken(Settings(rate=1, every=True, netns=(1,))) is begun.wanted
    again = taken()
    assert again is not begun.wanted
    assert again.what == begun.wanted.what
    assert not begun.wanted.closed


def test_what_was_looked_up_is_not_looked_up_again():
    usual.begin()
    assert usual.look(Settings()) is usual._begun.boot
    assert usual.look(Settings(btf=Path("other"))) is not usual._begun.boot


@pytest.mark.parametrize(
    ("settings", "plain"),
    [(Settings(flows=9), False), (Settings(), True), (Settings(btf=Path("other")), False)],
)
def test_who_wants_another_has_it_ended(settings, plain):
    usual.begin()
    begun = usual._begun.wanted
    other = taken(settings, plain=plain)
    assert other is not begun
    assert begun.closed
    sha256, path, options = other.what
    assert sha256 == str(settings.btf or usual.BTF)
    assert path == settings.btf
    assert (options.flows, options.plain, options.kprobes) == (settings.flows, plain, False)
    assert options.fentry


def test_where_it_cannot_be_who_wants_it_is_told(monkeypatch):
    def boot(*_):
        raise NotSupported("there is no BTF", "use another kernel")

    monkeypatch.setattr(symbols, "Boot", boot)
    usual.begin()
    with pytest.raises(NotSupported):
        usual.look(Settings())


def test_without_a_beginning_there_is_one_now():
    assert taken().what[0] == str(usual.BTF)
