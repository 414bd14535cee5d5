"""What becomes of a message: the kernel's own tests, in its order."""

import dataclasses
import struct

import pytest

from pmtutrace.events import OUTCOMES, Flow
from pmtutrace.lab import packets
from pmtutrace.pmtu import ears, news
from pmtutrace.pmtu.news import InForce, News, Outcome

FREE, TIGHT = InForce(1500, False), InForce(1300, False)
LOCKED = InForce(552, True)
UDP = Flow("10.0.0.1", "10.0.9.1", 17, 2323, 9)
TCP = dataclasses.replace(UDP, proto=6)
SIX = Flow("fd00::1", "fd00:9::1", 17, 2323, 9)


def message(family=4, mtu=1400, to=None):
    to = to or (UDP if family == 4 else SIX).saddr
    return News(0, 1, 0, family, "10.0.1.254", to, mtu, b"", 2)


@pytest.mark.parametrize(
    ("arrived", "about", "way", "mode", "word"),
    [
        (message(), UDP, FREE, 0, "no_match"),
        (message(), UDP, TIGHT, 0, "not_lower"),
        (message(mtu=1300), UDP, TIGHT, 0, "not_lower"),
        (message(mtu=1299), UDP, TIGHT, 0, "no_match"),
        (message(), UDP, LOCKED, 0, "locked"),
        (message(mtu=500), UDP, LOCKED, 0, "locked"),
        (message(), UDP, None, 0, "unknown"),
        (message(), Flow("", "", 0), FREE, 0, "unknown"),
        (message(to="10.0.0.2"), UDP, LOCKED, 2, "not_sent_here"),
        (message(), UDP, TIGHT, 2, "no_pmtu_disc"),
        (message(), TCP, TIGHT, 2, "no_pmtu_disc"),
        (message(), UDP, TIGHT, 3, "no_pmtu_disc"),
        (message(), TCP, TIGHT, 3, "not_lower"),
        (message(), UDP, TIGHT, 1, "not_lower"),
        (message(6, 1279), SIX, FREE, 0, "below_minimum"),
        (message(6, 1280), SIX, FREE, 0, "no_match"),
        (message(6, 1280), SIX, InForce(1280, False), 0, "not_lower"),
        # IPv6 does not care for the lock of a route, nor for that switch.
        (message(6, 1300), SIX, InForce(1280, True), 2, "not_lower"),
        (message(6, 1279, to="fd00::2"), SIX, FREE, 0, "not_sent_here"),
    ],
)
def test_why_nothing_came_of_it(arrived, about, way, mode, word):
    assert word in OUTCOMES
    found = news.ignored(arrived, about, way, mode)
    assert found == Outcome(word, way.mtu if way and about.saddr else None)


def test_what_came_of_it():
    assert news.applied(1400, locked=False) == Outcome("applied", 1400)
    assert news.applied(552, locked=True) == Outcome("clamped", 552)


class TestEars:
    QUOTED = packets.udp("10.0.0.1", "10.0.9.1", 1400, 2323, 9)[:28]

    def octets(self, *, damaged=False, options=0):
        body = struct.pack("!BBHHH", 3, 4, 0, 0, 1400) + self.QUOTED
        total = struct.pack("!H", ~packets.checksum(body) + damaged & 0xFFFF)
        header = bytearray(packets.ip_header("10.0.1.254", "10.0.0.1", 1, len(body)))
        header[0] += options
        return bytes(header) + bytes(4 * options) + body[:2] + total + body[4:]

    @pytest.mark.parametrize("options", [0, 3])
    def test_a_message(self, options):
        found = ears._news4(7, self.octets(options=options), [])
        assert (found.netns, found.router, found.to) == (7, "10.0.1.254", "10.0.0.1")
        assert (found.mtu, found.quoted) == (1400, self.QUOTED)

    def test_with_a_wrong_checksum_it_is_none(self):
        assert ears._news4(7, self.octets(damaged=True), []) is None

    def test_cut_off_it_is_none(self):
        assert all(ears._news4(7, self.octets()[:n], []) is None for n in range(28))
