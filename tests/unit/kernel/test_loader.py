"""How many entries maps get."""

import pytest

from pmtutrace.kernel import cpus, loader
from pmtutrace.kernel.image import Map


@pytest.mark.parametrize(("there", "each"), [(1, 1), (2, 2), (4, 4), (128, 4)])
def test_each_cpu_has_room_for_all_flows_until_there_are_very_many(there, each, monkeypatch):
    monkeypatch.setattr(cpus, "possible", lambda: there)
    counts = Map("counts", 1, 24, 80, 1000, 0)
    assert loader._entries(counts) == 1000 * each
    assert loader._entries(counts._replace(name="keys")) == 1000
    for name in ("cpus", "near_counts"):
        assert loader._entries(counts._replace(name=name, max_entries=1)) == there
