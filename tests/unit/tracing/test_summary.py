"""Totals are taken from the counters, so they are exact."""

from pmtutrace.events import Counter, CounterKey, Flow
from pmtutrace.tracing.filters import Filter
from pmtutrace.tracing.summary import Tally, summarize
from samples import HEARD, drop

KINDS = ("ring_full", "counters_full", "news_full", "nested", "received", "recursion")
LOSSES = dict.fromkeys(KINDS, 0)


def counters(*rows):
    """Return counters from rows of site, verdict, cause, packets."""
    return {
        CounterKey(
            1, number, site, verdict, cause, 4, Flow("10.0.0.1", "10.0.0.2", 17), None
        ): Counter(packets, 0, 0, 0, 0, 0)
        for number, (site, verdict, cause, packets) in enumerate(rows)
    }


MIXED = counters(
    ("ip_forward", "told", None, 5),
    ("ip_fragment", "told", None, 7),
    ("ip_forward", "suppressed", "no_route_back", 11),
    ("ip_forward", "suppressed", "icmp_error_inside", 13),
    ("overflow", "told", None, 17),
)


SPLIT = counters(("other", "none", None, 19), ("overflow", "none", None, 2))


def summary(rows=MIXED, wanted=None, **more):
    values = {"losses": LOSSES, "seconds": 1.23456, "streamed": 3, **more}
    return summarize(rows, SPLIT, wanted=wanted or Filter(), **values)


def test_sums_by_verdict_and_cause():
    found = summary()
    assert found["drops"] == 53
    assert found["fragmented"] == 21
    assert found["verdicts"] == {"suppressed": 24, "told": 29}
    assert found["causes"] == {"icmp_error_inside": 13, "no_route_back": 11}
    assert (found["seconds"], found["events_streamed"], found["type"]) == (1.235, 3, "summary")


def test_what_is_filtered_out_is_not_counted_but_the_overflow_is():
    found = summary(wanted=Filter(sites=frozenset({"ip_fragment"})))
    assert (found["drops"], found["verdicts"]) == (24, {"told": 24})
    assert found["fragmented"] == 2


def test_nothing():
    found = summary({})
    assert (found["drops"], found["verdicts"], found["causes"]) == (0, {}, {})


def test_losses_are_shown():
    found = summary(losses={**LOSSES, "ring_full": 9, "nested": 1})
    assert found["events_lost"] == 9
    assert found["losses"]["nested"] == 1


def test_it_has_what_is_documented():
    assert set(summary()) == {
        *("type", "ts", "schema", "netns", "seconds", "drops", "verdicts", "causes"),
        "fragmented",
        *("icmp_received", "pmtu_changes", "events_streamed", "events_lost", "losses"),
    }


def test_what_nobody_followed_is_not_0():
    assert (summary()["icmp_received"], summary()["pmtu_changes"]) == (None, None)


def test_messages_that_had_no_line_are_counted_all_the_same():
    tally = Tally()
    for event in (HEARD, HEARD, drop()):
        tally.take(event)
    found = summary(tally=tally, losses={**LOSSES, "received": 5})
    assert (found["icmp_received"], found["pmtu_changes"]) == (7, 0)
