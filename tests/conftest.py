"""What all tests share: who may run the live ones, and what signals do."""

import signal

import pytest
from hypothesis import HealthCheck, settings

from pmtutrace.errors import NotSupported, PrivilegeError
from pmtutrace.kernel import privileges

# How long an example takes says nothing where guests run beside: none is asked to be fast.
settings.register_profile(
    "beside others", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("beside others")

# Under nohup, or behind a shell's "&", we would hand down that they are ignored.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    """Skip live tests for the one reason there is: this process may not trace."""
    if item.get_closest_marker("live"):
        try:
            privileges.require()
        except (PrivilegeError, NotSupported) as error:
            pytest.skip(error.message)
