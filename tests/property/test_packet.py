"""The parser of bpf/include/packet.h, compiled for this machine: on what was built, on anything."""

from __future__ import annotations

import ctypes
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hostile
from pmtutrace.kernel import sites, sources
from pmtutrace.layout import Layout
from pmtutrace.tracing import decode, quoted

HERE, BPF = Path(__file__).parent, Path(__file__).parents[2] / "bpf"
LAYOUT = Layout(sources.layout_source())
SIZE = LAYOUT.structs["flow_key"].size
DECODER = decode.Decoder(LAYOUT, sites.NAMES)
PACKETS = 4_000


@pytest.fixture(scope="module")
def parse(tmp_path_factory):
    """Return a function from octets to the parser's own result and the flow and outer header."""
    library = tmp_path_factory.mktemp("packet") / "packet.so"
    flags = ["-shared", "-fPIC", "-O1", "-fsanitize-undefined-trap-on-error"]
    flags += ["-fsanitize=undefined", "-fno-sanitize=alignment"]
    subprocess.run(
        ["gcc", *flags, f"-I{BPF / 'include'}", "-o", library, HERE / "packet.c"], check=True
    )
    function = ctypes.CDLL(str(library)).parse

    def parsed(octets):
        key = ctypes.create_string_buffer(SIZE)
        result = function(octets, len(octets), key)
        found = DECODER.key(key.raw)[0]
        return result, found.flow, found.outer

    return parsed


def built(seed):
    chance = random.Random(seed)  # noqa: S311 -- can be repeated
    version = chance.choice((4, 6))
    ends = (hostile.address(chance, version), hostile.address(chance, version))
    return chance, hostile.well_formed(
        chance, version, *ends, number=seed & 0xFFFF, padding=chance.randrange(200)
    )


def test_the_flow_of_what_is_well_formed_is_found(parse):
    for seed in range(PACKETS):
        _, good = built(seed)
        result, flow, outer = parse(good.octets)
        assert (result, flow, outer) == (0, *hostile.seen(good.headers)), (seed, good)


def test_nothing_outside_of_what_is_hostile_is_read(parse):
    for seed in range(PACKETS):
        chance, good = built(seed)
        octets = hostile.hostile(chance, good)
        assert parse(octets)[0] in (0, -1), (seed, octets.hex())


def test_what_messages_quote_is_read_alike(parse):
    """The reader of what messages quote, in Python, finds the same flow and outer header."""
    for seed in range(PACKETS):
        chance, good = built(seed)
        for octets in (good.octets, hostile.hostile(chance, good)):
            result, flow, outer = parse(octets)
            found = quoted.read(octets)
            assert (found.flow, found.outer) == (flow, outer), (seed, octets.hex())
            assert bool(found.outermost.saddr) == (result == 0)


@given(st.binary(max_size=300))
def test_any_octets(parse, octets):
    result, flow, outer = parse(octets)
    assert result in (0, -1)
    assert bool(flow.saddr) == (result == 0)
    assert outer is None or flow.saddr
