"""What all tests share: who may run the live ones, and where the command is."""

import pytest
from hypothesis import settings

from pmtutrace.errors import NotSupported, PrivilegeError
from pmtutrace.kernel import privileges

# How long an example takes says nothing where guests run beside: none is asked to be fast.
settings.register_profile("beside others", deadline=None)
settings.load_profile("beside others")


def pytest_runtest_setup(item):
    """Skip live tests for the one reason there is: this process may not trace."""
    if item.get_closest_marker("live"):
        try:
            privileges.require()
        except (PrivilegeError, NotSupported) as error:
            pytest.skip(error.message)
