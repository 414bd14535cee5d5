"""Whatever the octets are, decoding does not fail, and what is shown is one printable line."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from pmtutrace import jsonl
from pmtutrace.cli import text
from pmtutrace.events import Drop, TunnelChange
from pmtutrace.kernel import sites, sources
from pmtutrace.kernel.image import Image
from pmtutrace.layout import Layout
from pmtutrace.printable import printable
from pmtutrace.tracing import clock, decode
from pmtutrace.tracing.naming import Namer

LAYOUT = Layout(sources.layout_source())
KEY, COUNT, EVENT = (LAYOUT.structs[name].size for name in ("flow_key", "flow_count", "event"))
DECODER = decode.Decoder(LAYOUT, sites.NAMES)
COUNT_NAMES, COUNT_CODEC = LAYOUT.names("flow_count"), LAYOUT.codec("flow_count")
IMAGE = Image({"options": {"plain": False}}, (), {}, {}, {}, 0, {5: "PKT_TOO_BIG"}, LAYOUT)


def octets(size):
    return st.binary(min_size=size, max_size=size)


@given(octets(KEY))
def test_any_key(key):
    found, tunnel_id, port = DECODER.key(key)
    assert found.flow.saddr or not found.family  # a header that could not be read
    assert 0 <= tunnel_id < 2**32
    assert 0 <= port < 2**16


@given(st.lists(octets(COUNT), min_size=1, max_size=4))
def test_any_counts(rows):
    sums = DECODER.sums(b"".join(rows))
    # Of one CPU alone it may be less than nothing.
    counts = [
        dict(zip(COUNT_NAMES, fields, strict=True))
        for fields in COUNT_CODEC.iter_unpack(b"".join(rows))
    ]
    for total, one, other in (
        (sums.packets, "packets", "nested_packets"),
        (sums.bytes, "bytes", "nested_bytes"),
    ):
        counted = [row for row in counts if (row["packets"] + row["nested_packets"]) % 2**64]
        assert total == sum(row[one] + row[other] for row in counted) % 2**64


@given(st.binary(max_size=20))
def test_any_name(name):
    shown = decode.name(name)
    assert shown.isprintable()
    assert "\n" not in shown


@given(st.text())
def test_escaping_is_not_undone_by_escaping_again(name):
    assert printable(printable(name)) == printable(name)
    assert printable(name).isprintable()


def namer():
    """Return a namer that asks nobody for the names of devices."""
    made = Namer(IMAGE, lambda address: f"function+{address:#x}" if address else "")
    made.devices.name = lambda *_: "asked"
    return made


@given(octets(EVENT), st.sampled_from([1, 2]))
@settings(max_examples=300)
def test_any_event_is_one_line(record, kind):
    at = next(m.offset for m in LAYOUT.structs["event"].members if m.name == "type")
    record = record[:at] + kind.to_bytes(4, "little") + record[at + 4 :]
    # A clock that stands in the year 6000 is none: such a stamp comes from no kernel.
    record = (int.from_bytes(record[:8], "little") >> 6).to_bytes(8, "little") + record[8:]
    event = namer().event(record, clock.boot_offset())
    line = json.dumps(jsonl.event(event, {}))
    assert json.loads(line)["type"] in ("drop", "icmp_lost")
    assert "\n" not in line
    assert text.line(event, {}).isprintable()
    if isinstance(event, Drop):
        assert len(event.packet) <= 128


NAMES = st.text(st.characters(codec=None), max_size=20)


@given(NAMES, NAMES, NAMES)
def test_any_names_are_one_line(space, device, kind):
    event = TunnelChange(0, 1, "gone", device, printable(kind), None)
    assert "\n" not in json.dumps(jsonl.event(event, {1: space}))
    assert text.line(event, {1: space}).isprintable()
