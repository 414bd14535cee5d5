"""docs/truth-table.md is what the declarations and the last full run make of it."""

import json
from pathlib import Path

import pytest

from pmtutrace.lab import truth
from pmtutrace.lab.scenarios import ALL, BY_NAME
from pmtutrace.lab.unprovoked import UNPROVOKED
from pmtutrace.vm.kernels import NAMES

DOCS = Path(__file__).parents[3] / "docs"
RESULTS = json.loads((DOCS / "truth-table.json").read_text())


def test_the_page_is_up_to_date():
    page = (DOCS / "truth-table.md").read_text()
    assert page == truth.markdown(ALL, RESULTS, UNPROVOKED), "run tools/truth-table"


def test_every_stock_kernel_and_one_more_is_in_it():
    assert set(NAMES) < set(RESULTS)


@pytest.mark.parametrize("kernel", RESULTS)
def test_every_scenario_has_been_run_on(kernel):
    results = RESULTS[kernel]["results"]
    assert set(results) == set(BY_NAME)
    assert truth.FAILED not in results.values()


@pytest.mark.parametrize(
    ("name", "tunnel", "origin"),
    [
        ("route-v4-udp-forward", "no tunnel", "forwarded"),
        ("vxlan-df-v4-echo-local", "vxlan over IPv4", "local"),
        ("vxlan6-bridge-v6-udp", "vxlan over IPv6", "bridged"),
    ],
)
def test_where_packets_come_from(name, tunnel, origin):
    assert truth.tunnel(BY_NAME[name]) == tunnel
    assert truth.origin(BY_NAME[name]) == origin
