"""Each finding: its situation, in which it is made, and a near miss, in which it is not.

The stock kernels are asked for those that take GRE; all others are the same on every kernel.
``PMTUTRACE_DIAGNOSE=1`` asks them for all.
"""

import os

import pytest

from pmtutrace.errors import NotSupported
from pmtutrace.lab.conclude import found
from pmtutrace.lab.situations import SITUATIONS
from pmtutrace.tracing import Tracer
from pmtutrace.tunnels.inventory import Inventory
from pmtutrace.vm.kernels import NAMES

from .conftest import running

pytestmark = pytest.mark.live
OVER_GRE = [one for one in SITUATIONS if "gre" in {t.type for t in one.topology.tunnels}]


@pytest.fixture(scope="module")
def inventory():
    """The tracer closes it."""
    inventory = Inventory()
    inventory.start()
    assert inventory.wait(60)
    return inventory


@pytest.fixture(scope="module")
def own(inventory):
    """A tracer that names tunnels: that of the other tests does not."""
    with Tracer() as tracer:
        tracer.use(inventory)
        yield tracer


def test_there_are_some():
    assert {one.made for one in OVER_GRE} == {True, False}


FEW = running().name in NAMES and not os.environ.get("PMTUTRACE_DIAGNOSE")
CHOSEN = OVER_GRE if FEW else SITUATIONS


@pytest.mark.shared
@pytest.mark.parametrize("situation", CHOSEN, ids=lambda one: one.name)
def test_a_finding_is_made_where_it_is_true_and_only_there(situation, own, inventory, kernel):
    try:
        findings = found(situation, own, inventory)
    except NotSupported as error:
        name = "gre-v4-nopmtudisc" if situation in OVER_GRE else situation.name
        kernel.skip(name, error.message)
    made = [finding.id for finding in findings]
    assert (situation.finding in made) == situation.made, findings
