"""Reading the exceptions of our own namespace, as if we were kept from running meanwhile."""

import pytest

from pmtutrace.kernel import netns
from pmtutrace.pmtu import exceptions, reader

LONG = 10 * reader.KEPT_AT_MOST


@pytest.fixture
def requests(monkeypatch):
    """Return the families of all dumps that were asked for."""
    asked, request = [], exceptions.request

    def noted(family, sequence):
        asked.append(family)
        return request(family, sequence)

    monkeypatch.setattr(exceptions, "request", noted)
    return asked


@pytest.mark.parametrize(
    ("wall", "ours", "wanted"),
    [
        (0, 0, [4]),
        (LONG, LONG, [4]),  # a table so large that the kernel takes long
        (LONG, 0, [4, 4]),  # once more, and that counts however long it takes
    ],
)
def test_a_dump_is_read_again_if_we_were_kept_from_running(
    wall, ours, wanted, requests, monkeypatch
):
    calls = []

    def late():
        calls.append(1)
        shifted = len(calls) // 2  # between the two readings around each call
        return reader._Clocks(shifted * wall, shifted * ours)

    own = reader.Reader(netns.current(), frozenset({4}))
    monkeypatch.setattr(reader, "_clocks", late)
    try:
        own.read()
    finally:
        own.close()
    assert requests == wanted
