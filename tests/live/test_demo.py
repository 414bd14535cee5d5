"""`demo -j`, once, from its beginning to its end."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.live
COMMAND = (sys.executable, "-m", "pmtutrace.cli.main", "demo", "-j")
ENDS_WITHIN_S = 240


@pytest.fixture(scope="module")
def done():
    return subprocess.run(
        COMMAND, check=False, capture_output=True, text=True, timeout=ENDS_WITHIN_S
    )


@pytest.fixture
def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_succeeds_and_tells_its_story_on_stderr(done):
    assert done.returncode == 0, done.stderr
    assert "The incident of 2015" in done.stderr
    assert "the path MTU stayed" in done.stderr


def test_it_ends_with_the_totals_and_the_diagnosis(lines):
    *events, totals, diagnosis = lines
    assert {"drop", "pmtu"} <= {line["type"] for line in events}
    assert totals["type"] == "summary"
    assert diagnosis["type"] == "diagnosis"
    first = diagnosis["findings"][0]
    assert (first["id"], first["subject"]["name"]) == ("recursive_tunnel", "t0")


def test_it_agrees_with_the_lab(lines):
    diagnosis = lines[-1]
    (rhythm,) = [one for one in diagnosis["findings"] if one["id"] == "periodic_collapse"]
    for name, true in diagnosis["lab"].items():
        assert rhythm["evidence"][name] == pytest.approx(true, rel=0.1), name


def test_it_knows_who_follows_and_who_does_not(lines):
    kinds = {one["saddr"]: one["kind"] for one in lines[-1]["senders"]}
    assert kinds["10.1.1.1"] == "followed"
    assert kinds["10.1.2.1"] == "ignored"
