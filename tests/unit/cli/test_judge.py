"""`demo` fails where the diagnosis is not what is true of its lab."""

from types import SimpleNamespace

import pytest

from pmtutrace.cli.judge import Diagnosis, table, wrong
from pmtutrace.lab.incident import CUSTOMERS, FOLLOWS, IGNORES, VXLAN
from pmtutrace.lab.ruler import Truth

KINDS = {FOLLOWS: "followed", IGNORES: "ignored"}
TRUE = Truth(8.0, 2.1, 5, 5, 552, 0, 0)
SLOW = Truth(16.0, 4.2, 5, 5, 552, 0, 0)


def diagnosis(*, period=8.0, episode=2.1, name="t0", kinds=KINDS, truth=TRUE):
    evidence = {"period_s": period, "episode_s": episode, "duty": episode / period}
    findings = [
        SimpleNamespace(id="recursive_tunnel", subject={"name": name}, evidence={}),
        SimpleNamespace(id="periodic_collapse", subject={"name": "far"}, evidence=evidence),
    ]
    senders = [SimpleNamespace(saddr=CUSTOMERS[who], kind=kind) for who, kind in kinds.items()]
    return Diagnosis(findings, SimpleNamespace(senders=senders), truth)


def test_what_is_right_within_a_tenth_is_right():
    assert wrong(diagnosis(), VXLAN) == []
    assert wrong(diagnosis(period=8.7, episode=2.2), VXLAN) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (diagnosis(name="t1"), "recursive_tunnel t0"),
        (diagnosis(period=9.0), "period_s is 9.0"),
        (diagnosis(episode=1.5), "episode_s is 1.5"),
        (diagnosis(kinds={FOLLOWS: "ignored", IGNORES: "ignored"}), "web followed"),
        (diagnosis(kinds={FOLLOWS: "followed"}), "the diagnosis says None"),
        (diagnosis(truth=None), "no rhythm"),
        (
            diagnosis(period=16.0, episode=4.2, truth=SLOW),
            "its own time",
        ),
    ],
)
def test_what_is_wrong_is_said(found, said):
    assert any(said in line for line in wrong(found, VXLAN))


def test_without_a_rhythm_nothing_agrees():
    found = diagnosis()
    found.findings.pop()
    assert len(wrong(found, VXLAN)) == 3
    assert table(found)[1].split()[-3:] == ["-", "8.00", "s"]
