"""What is begun before it is known what the tracer is to do: taken once, by whom it fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtutrace.errors import LoadError, NotSupported
from pmtutrace.kernel import build, features, plan, privileges, symbols
from pmtutrace.tracing import usual
from pmtutrace.tracing.settings import Settings


class Image:
    tracepoints = functions = None


class Wanted:
    cached = False

    def __init__(self, *what):
        self.what, self.closed, self.building = what, False, not self.cached
        self.image = Image()

    def get(self):
        return self.image

    def close(self):
        self.closed = True


class Boot:
    ranges = ()

    def __init__(self, names, btf):
        self.names, self.btf = names, str(btf)


class Loader:
    def __init__(self, image):
        self.image, self.closed, self.ahead = image, False, None

    def load_ahead(self, steps):
        self.ahead = steps

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    monkeypatch.setattr(build, "Wanted", Wanted)
    monkeypatch.setattr(symbols, "Boot", Boot)
    monkeypatch.setattr(usual, "Loader", Loader)
    monkeypatch.setattr(features, "refused", lambda: (True, False))
    monkeypatch.setattr(features, "probe", lambda *_: plan.Features({}, {}, {}, frozenset()))
    monkeypatch.setattr(plan, "plan", lambda _hooks, _features, *, cold: cold)
    monkeypatch.setattr(privileges, "require", lambda: None)
    monkeypatch.setattr(usual, "_begun", usual._Begun())


@pytest.fixture
def cached(monkeypatch):
    monkeypatch.setattr(Wanted, "cached", True)


def taken(settings=None, *, plain=False):
    settings = settings or Settings()
    return usual.wanted(usual.look(settings), settings, plain=plain)


def test_a_build_is_taken_once():
    usual.begin()
    begun = usual._begun.wanted
    assert usual._begun.loaded is None
    assert taken(Settings(rate=1, every=True, netns=(1,))) is begun
    again = taken()
    assert again is not begun
    assert again.what == begun.what
    assert not begun.closed


def test_what_was_looked_up_is_taken_once_as_well():
    usual.begin()
    boot = usual._begun.boot
    assert usual.look(Settings(btf=Path("other"))) is not boot
    assert usual.look(Settings()) is boot
    assert usual.look(Settings()) is not boot


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


@pytest.mark.usefixtures("cached")
def test_what_is_being_loaded_is_taken_once():
    usual.begin()
    begun = usual._begun.loaded
    boot, chosen = usual.look(Settings()), taken().get()
    assert begun.loader.image is chosen
    assert usual.loaded(chosen, boot, Settings(rate=1)) is begun
    again = usual.loaded(chosen, boot, Settings())
    assert again is not begun
    assert not begun.loader.closed


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("settings", [Settings(without=frozenset({"fentry"})), Settings(cold=True)])
def test_who_attaches_otherwise_has_it_unloaded(settings):
    usual.begin()
    begun = usual._begun.loaded
    boot, chosen = usual.look(settings), taken(settings).get()
    other = usual.loaded(chosen, boot, settings)
    assert begun.loader.closed
    assert not other.loader.closed
    assert other.loader.ahead is settings.cold


@pytest.mark.usefixtures("cached")
def test_who_has_another_image_has_it_unloaded():
    usual.begin()
    begun = usual._begun.loaded
    image = Image()
    assert usual.loaded(image, usual.look(Settings()), Settings()).loader.image is image
    assert begun.loader.closed


@pytest.mark.usefixtures("cached")
def test_a_loader_does_not_outlive_a_failure(monkeypatch):
    made = []

    def probe(*_):
        raise LoadError("no program can be loaded", "find out why")

    monkeypatch.setattr(usual, "Loader", lambda image: made.append(Loader(image)) or made[-1])
    monkeypatch.setattr(features, "probe", probe)
    usual.begin()
    with pytest.raises(LoadError):
        usual.loaded(taken().get(), usual.look(Settings()), Settings())
    assert [loader.closed for loader in made] == [True, True]


def test_where_it_cannot_be_who_wants_it_is_told(monkeypatch):
    def boot(*_):
        raise NotSupported("there is no BTF", "use another kernel")

    monkeypatch.setattr(symbols, "Boot", boot)
    usual.begin()
    with pytest.raises(NotSupported):
        usual.look(Settings())


def test_without_a_beginning_there_is_one_now():
    assert taken().what[0] == str(usual.BTF)
