"""By how much counters move."""

from pmtutrace.kernel import sites, sources
from pmtutrace.layout import Layout
from pmtutrace.tracing.clock import Ticks
from pmtutrace.tracing.decode import Decoder
from pmtutrace.tracing.moves import Moves

LAYOUT = Layout(sources.layout_source())


def value(*cpus, **common):
    """Return the octets of a counter, a CPU for each number of packets."""
    return b"".join(
        LAYOUT.pack(
            "flow_count",
            {
                "packets": n,
                "bytes": 1500 * n,
                "first": 1,
                "last": 2,
                "max_length": 1500,
                "mtu": 1400,
            }
            | common,
        )
        for n in cpus
    )


def key(sport):
    return LAYOUT.pack("flow_key", {"family": 4, "be_sport": sport, "saddr": bytes(16)})


def moves():
    return Moves(Decoder(LAYOUT, sites.NAMES), Ticks())


def test_only_what_moved_is_told():
    looked = moves()
    first = looked.of([(key(1), value(3, 4)), (key(2), value(0, 1))])
    assert [(m.packets, m.bytes, m.max_length, m.mtu) for m in first] == [
        (7, 10500, 1500, 1400),
        (1, 1500, 1500, 1400),
    ]
    (second,) = looked.of([(key(1), value(3, 9)), (key(2), value(0, 1))])
    assert (second.key, second.packets, second.bytes) == (first[0].key, 5, 7500)
    assert looked.of([(key(1), value(3, 9))]) == []


def test_a_counter_may_give_back():
    looked = moves()
    looked.of([(key(1), value(3))])
    (back,) = looked.of([(key(1), value(1))])
    assert (back.packets, back.bytes) == (-2, -3000)
    (rest,) = looked.of([(key(1), value(0))])
    assert rest.packets == -1


def test_sampling_is_no_move():
    looked = moves()
    looked.of([(key(1), value(3))])
    assert looked.of([(key(1), value(3, window=7, streamed=1))]) == []


def test_the_overflow_moves_too():
    looked = moves()
    (first,) = looked.of([], [value(0), value(5)])
    assert (first.key.site, first.packets) == ("overflow", 5)
    assert looked.of([], [value(0), value(5)]) == []
    (more,) = looked.of([], [value(0), value(6)])
    assert more.packets == 1
