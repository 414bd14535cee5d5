"""Situations come in pairs, and there is one for each finding that there can be."""

from collections import Counter

from pmtutrace.diagnosis.rules import rules
from pmtutrace.lab.situations import BY_NAME, SITUATIONS


def test_each_finding_has_a_situation_and_a_near_miss():
    plain = Counter((one.finding, one.made) for one in SITUATIONS if not one.variant)
    assert set(plain) == {(rule.id, made) for rule in rules() for made in (True, False)}
    assert set(plain.values()) == {1}


def test_each_variant_is_a_pair():
    pairs = Counter((one.finding, one.variant) for one in SITUATIONS)
    assert set(pairs.values()) == {2}
    assert len({(one.finding, one.variant, one.made) for one in SITUATIONS}) == len(SITUATIONS)


def test_names_are_unique():
    assert len(BY_NAME) == len(SITUATIONS)


def test_they_happen_at_nodes_that_there_are():
    for one in SITUATIONS:
        assert set(one.at) <= set(one.topology.nodes), one.name
