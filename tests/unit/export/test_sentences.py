"""What Wireshark is told when it asks an extcap program."""

import re

import pytest
from click.testing import CliRunner

from pmtutrace.cli.extcap import SHOWN
from pmtutrace.cli.verbs import cli
from pmtutrace.export import extcap

SENTENCE = re.compile(r"(\w+) ((?:\{\w+=[^{}]*\})+)")


def said(*words):
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def sentences(*words):
    found = [SENTENCE.fullmatch(line) for line in said(*words).splitlines()]
    return [(one[1], dict(re.findall(r"\{(\w+)=([^{}]*)\}", one[2]))) for one in found]


def test_a_field_cannot_end_early():
    assert extcap.sentence("arg", tooltip="a}{b=c") == "arg {tooltip=a)(b=c}"


@pytest.mark.parametrize("verb", [(), ("extcap",)])
def test_a_link_to_us_is_an_extcap_program(verb):
    (who, us), (word, interface) = sentences(*verb, "--extcap-interfaces", "--extcap-version=4.0")
    assert (who, word) == ("extcap", "interface")
    assert us["version"]
    assert interface["value"] == "pmtutrace"


def test_the_link_type_is_that_of_the_file():
    ((word, dlt),) = sentences("--extcap-interface", "pmtutrace", "--extcap-dlts")
    assert (word, dlt["number"]) == ("dlt", str(extcap.LINKTYPE_RAW))


def test_options_are_our_own():
    told = sentences("--extcap-interface", "pmtutrace", "--extcap-config")
    assert [fields["number"] for _, fields in told] == [str(n) for n in range(len(SHOWN))]
    assert {fields["call"]: fields["type"] for _, fields in told} == {
        "--interface": "string",
        "--netns": "string",
        "--site": "string",
        "--verdict": "string",
        "--host": "string",
        "--tunnel": "string",
        "--rate": "integer",
        "--all": "boolflag",
    }
    verdict = next(fields for _, fields in told if fields["call"] == "--verdict")
    assert re.fullmatch(verdict["validation"], "never_attempted")
    assert not re.fullmatch(verdict["validation"], "told,lost")


def test_no_capture_filter_is_a_good_one():
    ask = ("--extcap-interface", "pmtutrace", "--extcap-capture-filter")
    assert said(*ask, "") == ""
    assert "no capture filters" in said(*ask, "port 53")
