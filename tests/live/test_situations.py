"""Each finding: its situation, in which it is made, and a near miss, in which it is not."""

import pytest

from pmtutrace.errors import NotSupported
from pmtutrace.lab.conclude import found
from pmtutrace.lab.situations import SITUATIONS
from pmtutrace.tracing import Tracer
from pmtutrace.tunnels.inventory import Inventory

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def inventory():
    """One that has read all once; the tracer closes it."""
    inventory = Inventory()
    inventory.start()
    assert inventory.wait(20)
    return inventory


@pytest.fixture(scope="module")
def tracer(inventory):
    with Tracer() as tracer:
        tracer.use(inventory)
        yield tracer


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.name)
def test_a_finding_is_made_where_it_is_true_and_only_there(situation, tracer, inventory):
    try:
        findings = found(situation, tracer, inventory)
    except NotSupported as error:
        pytest.skip(error.message)
    made = [finding.id for finding in findings]
    assert (situation.finding in made) == situation.made, findings
