"""Every scenario of the lab: real hooks, real packets, exact against the kernel's counters.

Stock kernels may share them; ``tools/truth-table`` runs all of them on every kernel.
``PMTUTRACE_DIAGNOSE=1`` has stock kernels diagnose each, as all others do.
"""

from __future__ import annotations

import fnmatch
import os

import pytest

from diagnosed import wrong
from pmtutrace.lab import run, situations
from pmtutrace.lab.scenarios import ALL, BY_NAME
from pmtutrace.vm.kernels import NAMES

from .conftest import FEATURES

pytestmark = pytest.mark.live


@pytest.mark.shared
@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_scenario(scenario, tracer, kernel, diagnosed, record_property):
    """Hold a scenario to the kernel's counters; where all is well, nothing must be found."""
    # Under emulation, a diagnosis of each would cost minutes.
    diagnoses = kernel.name not in NAMES or bool(os.environ.get("PMTUTRACE_DIAGNOSE"))
    kernel.hold(run.run(scenario, tracer, diagnosed.beside if diagnoses else None))
    assert not kernel.may_skip(scenario.name), "features.toml allows a skip that is not needed"
    if diagnoses:
        record_property("findings", " ".join(sorted(diagnosed.ids)))
        assert wrong(scenario, diagnosed.ids) == ([], []), diagnosed.findings


def test_every_hook_is_attached_as_it_must_be(tracer, kernel):
    tracer.refresh()
    there = [a for a in tracer.attached if not a.waits]
    found = {a.hook.name: a.rung.name if a.rung else "" for a in there}
    if kernel.known:
        wanted = {name: kernel.hooks[name] for name in found}
        assert found == wanted, {a.hook.name: a.refused for a in there}
        assert {a.hook.name for a in tracer.attached} == kernel.hooks.keys()
    assert all(rung for name, rung in found.items() if name != "local")


def test_nothing_was_lost(tracer):
    """Runs last: what the whole suite streamed and remembered found room."""
    while tracer.poll():
        pass
    losses = tracer.losses()
    assert not any(losses[kind] for kind in ("counters_full", "news_full", "nested")), losses


def test_features_name_scenarios_that_exist():
    patterns = {name for entry in FEATURES.values() for name in entry.get("skips", {})}
    names = BY_NAME.keys() | situations.BY_NAME.keys()
    assert all(fnmatch.filter(names, pattern) for pattern in patterns)
