"""The scenario suite: on the running kernel, whichever it is, held to features.toml.

Where the stock kernels share the work (``PMTUTRACE_SHARE=1``, as ``make test`` does), each runs
its share of the tests that are marked ``shared``, and each of those runs on one of them.
"""

from __future__ import annotations

import fnmatch
import os
import platform
import tomllib
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from diagnosed import Diagnosed
from pmtutrace.lab.run import Result
from pmtutrace.tracing import Tracer
from pmtutrace.vm.kernels import NAMES

FEATURES = tomllib.loads(Path(__file__).with_name("features.toml").read_text())


@dataclass(frozen=True)
class Kernel:
    """What the running kernel must support."""

    name: str
    hooks: dict[str, str] = field(default_factory=dict)
    skips: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        return bool(self.hooks)

    def may_skip(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.skips)

    def skip(self, name: str, why: str) -> NoReturn:
        """Skip what a test needs, by the name of a scenario; fail where that is not allowed."""
        assert not self.known or self.may_skip(name), (
            f"skipped, and features.toml does not allow that on {self.name}: {why}"
        )
        pytest.skip(why)

    def hold(self, result: Result) -> None:
        """Fail a scenario that is not ok; skip one only where features.toml allows that."""
        if result.result == "skipped":
            self.skip(result.scenario, result.reason or "")
        assert result.result == "ok", result.reason


def running() -> Kernel:
    release = platform.release()
    # 7.2 and whatever comes: the whole series is one entry.
    short = ".".join(release.split(".")[:2])
    name = os.environ.get("PMTUTRACE_KERNEL") or short
    entry = FEATURES.get(name) or FEATURES.get(short) or FEATURES.get(short.partition(".")[0])
    return Kernel(name, **entry) if entry else Kernel(name)


def share() -> int | None:
    """Return which of the stock kernels that share the work this is; None if it does all."""
    name = running().name
    return NAMES.index(name) if os.environ.get("PMTUTRACE_SHARE") and name in NAMES else None


def pytest_collection_modifyitems(config, items):
    """Leave out what another kernel runs."""
    mine = share()
    if mine is None:
        return
    others = [
        item
        for item in items
        if item.get_closest_marker("shared") and zlib.crc32(item.name.encode()) % len(NAMES) != mine
    ]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in set(others)]


@pytest.fixture(scope="session")
def kernel():
    return running()


@pytest.fixture(scope="session")
def tracer():
    with Tracer() as attached:
        yield attached


@pytest.fixture(scope="session")
def diagnosed(tracer):
    return Diagnosed(tracer)
