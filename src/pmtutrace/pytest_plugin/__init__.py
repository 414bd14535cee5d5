"""Fixtures for regression tests of the kernel: namespaces and tunnels, a tracer, assertions.

pytest loads this through the entry point ``pmtutrace`` in every run of everybody who has pmtutrace
installed, so nothing heavy is imported before a fixture is used. ``docs/regression-tests.md``
describes what is public here.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from pmtutrace.errors import NotSupported, PmtutraceError, PrivilegeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pmtutrace.lab import Net, Scenario, Topology
    from pmtutrace.pytest_plugin.assertions import Trace
    from pmtutrace.tracing import Tracer

STRICT = "pmtutrace_strict"

__all__ = ["Lab", "pmtu_lab", "pmtu_tracer", "trace"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--pmtutrace-strict``, and the same as a setting of pytest's configuration file."""
    told = "fail, and do not skip, where rights or the kernel do not suffice"
    group = parser.getgroup("pmtutrace", "path MTU regression tests")
    group.addoption("--pmtutrace-strict", action="store_true", dest=STRICT, help=told)
    parser.addini(STRICT, told, type="bool", default=False)


class Lab:
    """Builds the namespaces and tunnels of one test: ``net = pmtu_lab(topology)``.

    ``nets`` are those built so far. Each function in ``on_built`` is called with every further one
    before the test gets it.
    """

    def __init__(self, config: pytest.Config, stack: contextlib.ExitStack) -> None:
        self.nets: list[Net] = []
        self.on_built: list[Callable[[Net], None]] = []
        self._config = config
        self._stack = stack

    def __call__(self, what: Topology | Scenario) -> Net:
        """Build a topology, or that of a scenario; it is torn down at the end of the test.

        Skips the test, or fails it under ``--pmtutrace-strict``, where the kernel has no such
        device or where we are not root.

        Raises:
            LabError: it could not be built for another reason.
        """
        from pmtutrace.lab import built

        try:
            net = self._stack.enter_context(built(what))
        except (NotSupported, PrivilegeError) as error:
            raise _given_up(self._config, error) from None
        self.nets.append(net)
        for started in self.on_built:
            started(net)
        return net


@pytest.fixture(scope="session")
def pmtu_tracer(request: pytest.FixtureRequest) -> Iterator[Tracer]:
    """Give the one tracer of the session, everything attached.

    It looks at no namespace but those that it is told to ``watch``, so that nothing else on the
    host can fill its tables. ``trace`` tells it of the labs.
    """
    from pmtutrace.tracing import Tracer
    from pmtutrace.tracing.settings import Settings

    tracer = Tracer(Settings(netns=(), every=True))
    try:
        tracer.start()
    except (NotSupported, PrivilegeError) as error:
        raise _given_up(request.config, error) from None
    with contextlib.closing(tracer):
        yield tracer


@pytest.fixture
def pmtu_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Give what builds topologies and scenarios until the end of the test."""
    with contextlib.ExitStack() as stack:
        yield Lab(request.config, stack)


@pytest.fixture
def trace(pmtu_tracer: Tracer, pmtu_lab: Lab) -> Trace:
    """Give assertions about what is dropped in the labs of this test from now on."""
    from pmtutrace.pytest_plugin.assertions import Trace

    following = Trace(pmtu_tracer, pmtu_lab.nets)
    pmtu_lab.on_built.append(following.follow)
    return following


def _given_up(config: pytest.Config, error: PmtutraceError) -> BaseException:
    """Return what skips for the reason that the error gives; what fails, if none may be skipped."""
    hint = f" ({error.hint})" if error.hint else ""
    reason = f"pmtutrace: {error.message}{hint}"
    if config.getoption(STRICT) or config.getini(STRICT):
        return pytest.fail.Exception(reason, pytrace=False)
    return pytest.skip.Exception(reason)
