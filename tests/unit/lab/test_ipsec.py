"""The commands that set up IPsec, and what the lab's tunnels ask for."""

import pytest

from pmtutrace.lab import ipsec
from pmtutrace.lab.scenarios import named
from pmtutrace.lab.topology import Security

ENDS = Security(
    ("r", "b"), ("192.0.2.1", "192.0.2.2"), (("10.1.0.0/24", "fd01::/64"), ("10.2.0.0/24",))
)


def states(lines):
    return [line.split() for line in lines if line.startswith("xfrm state")]


def test_both_ends_have_the_same_two_associations():
    near, far = (sorted(states(ipsec.commands(ENDS, end))) for end in (0, 1))
    assert near == far
    assert [words[words.index("spi") + 1] for words in near] == ["0x1001", "0x1002"]


def test_networks_of_one_version_meet_in_every_direction():
    lines = [line for line in ipsec.commands(ENDS, 0) if line.startswith("xfrm policy")]
    assert [line.split(" tmpl ")[0] for line in lines] == [
        "xfrm policy add src 10.1.0.0/24 dst 10.2.0.0/24 dir out",
        "xfrm policy add src 10.2.0.0/24 dst 10.1.0.0/24 dir in",
        "xfrm policy add src 10.2.0.0/24 dst 10.1.0.0/24 dir fwd",
    ]
    assert "src 192.0.2.1 dst 192.0.2.2" in lines[0]
    assert "src 192.0.2.2 dst 192.0.2.1" in lines[1]


@pytest.mark.parametrize(("name", "word"), [("vti", "mark 77"), ("xfrm", "if_id 77")])
def test_a_tunnel_brings_its_own(name, word):
    (security,) = ipsec.declared(named(f"{name}-v4-udp-forward").topology)
    lines = ipsec.commands(security, 0)
    assert states(lines)
    assert all(word in line for line in lines)
    (security,) = ipsec.declared(named(f"{name}-v4-no-states").topology)
    assert not states(ipsec.commands(security, 0))


def test_other_tunnels_have_none():
    assert list(ipsec.declared(named("gre-v4-udp-forward").topology)) == []
