"""The inventory sees real tunnels come, change and go, and keeps no namespace alive."""

import subprocess
import threading
import time

import pytest

from pmtutrace import lab
from pmtutrace.kernel import netns
from pmtutrace.lab import Port, Topology, Veth
from pmtutrace.lab.scenarios import named
from pmtutrace.tunnels import inventory as inventories
from pmtutrace.tunnels.inventory import Inventory

pytestmark = pytest.mark.live
UDP, VXLAN_PORT = 17, 4789
WITHIN_S = 10.0


@pytest.fixture
def inventory():
    inventory = Inventory()
    inventory.start()
    assert inventory.wait(WITHIN_S)
    assert inventory.failure is None
    yield inventory
    inventory.close()


@pytest.fixture
def net():
    """One namespace of our own with a cable in it."""
    ends = (Port("n", "n0", ("192.0.2.1/24",)), Port("n", "n1"))
    with lab.built(Topology((Veth(ends),))) as net:
        yield net


def ip(node, *words):
    node.run(lambda: subprocess.run(["ip", *words], check=True))


def awaited(condition):
    """Wait for what must come to pass; return what the condition then gives."""
    end = time.monotonic() + WITHIN_S
    pause = threading.Event()
    while not (found := condition()) and time.monotonic() < end:
        pause.wait(0.02)
    return found


def change(inventory, netns_inum):
    """Wait for the next changes in a namespace; changes elsewhere are other people's."""

    def ours():
        return [item for item in inventory.changes() if item.netns == netns_inum]

    return [(item.what, item.name, item.type, item.mtu) for item in awaited(ours)]


def test_a_tunnel_comes_changes_and_goes(inventory, net):
    node = net["n"]
    ends = ("local", "192.0.2.1", "remote", "192.0.2.2")
    ip(
        node,
        "link",
        "add",
        "vx7",
        "type",
        "vxlan",
        "id",
        "7",
        *ends,
        "dstport",
        "4789",
        "df",
        "set",
    )
    assert change(inventory, node.inum) == [("appeared", "vx7", "vxlan", 1500)]
    outer = (node.inum, "192.0.2.1", "192.0.2.2", UDP, 7, VXLAN_PORT)
    tunnel = inventory.by_outer(*outer)
    assert (tunnel.local, tunnel.remote, tunnel.key, tunnel.df) == (
        "192.0.2.1",
        "192.0.2.2",
        7,
        "set",
    )
    assert inventory.by_device(node.inum, tunnel.ifindex) == tunnel
    assert tunnel in inventory.tunnels()

    ip(node, "link", "set", "vx7", "mtu", "1300")
    assert change(inventory, node.inum) == [("changed", "vx7", "vxlan", 1300)]

    ip(node, "link", "del", "vx7")
    assert change(inventory, node.inum) == [("gone", "vx7", "vxlan", 1300)]
    assert inventory.by_device(node.inum, tunnel.ifindex).gone
    assert inventory.by_outer(*outer).name == "vx7"
    assert inventory.changes() == []


def test_a_tunnel_that_was_there_before_is_known_and_no_change():
    with lab.built(named("vxlan-df-v4-udp-forward")) as net:
        inventory = Inventory()
        inventory.start()
        try:
            assert inventory.wait(WITHIN_S)
            router = net["r"]
            tunnel = inventory.by_device(router.inum, router.ifindexes["vx0"])
            assert (tunnel.name, tunnel.key, tunnel.overhead) == ("vx0", 77, 50)
            assert inventory.by_device(router.inum, router.ifindexes["ru"]) is None
            assert not [item for item in inventory.changes() if item.netns == router.inum]
        finally:
            inventory.close()


def test_what_could_not_be_read_is_read_again(net, monkeypatch):
    vxlan = ("type", "vxlan", "id", "9", "dstport", str(VXLAN_PORT), "dev", "n0")
    ip(net["n"], "link", "add", "vx9", "mtu", "1400", *vxlan)
    monkeypatch.setattr(inventories, "AGAIN_S", 0.1)
    with monkeypatch.context() as broken:
        broken.setattr(inventories.paths, "module", lambda _name: (["false"], None))
        inventory = Inventory()
        inventory.start()
        assert inventory.wait(WITHIN_S)
        assert inventory.failure is not None
    inum = net["n"].inum
    assert awaited(lambda: [t.name for t in inventory.tunnels() if t.netns == inum]) == ["vx9"]
    inventory.close()
    assert inventory.failure is None
    assert [item.name for item in inventory.changes() if item.netns == inum] == []


def test_the_device_below_is_named(inventory, net):
    node = net["n"]
    ip(node, "link", "add", "vx8", "type", "vxlan", "id", "8", "dev", "n0", "dstport", "4789")
    assert change(inventory, node.inum) == [("appeared", "vx8", "vxlan", 1450)]
    tunnel = next(item for item in inventory.tunnels() if item.netns == node.inum)
    assert (tunnel.link, tunnel.link_name) == (node.ifindexes["n0"], "n0")


def test_a_namespace_that_vanishes_takes_its_tunnels_with_it(inventory):
    with lab.built(named("vxlan-v4-udp-fits")) as net:
        router = net["r"]
        index = router.ifindexes["vx0"]
        assert awaited(
            lambda: (tunnel := inventory.by_device(router.inum, index)) and tunnel.mtu == 1450
        )
        inventory.changes()
    assert ("gone", "vx0", "vxlan", 1450) in change(inventory, router.inum)
    assert inventory.failure is None


def test_no_namespace_is_kept_alive(inventory, net):
    """A cable's other end goes when its namespace is destroyed, and not before."""
    node = net["n"]
    before = netns.current()
    with lab.built(Topology((Veth((Port("o", "o0"), Port("o", "o1"))),))) as other:
        space = other["o"]
        ip(space, "link", "add", "far", "type", "veth", "peer", "near", "netns", node.name)
        assert node.run(lambda: has("near"))
        ip(space, "link", "add", "vx9", "type", "vxlan", "id", "9", "dstport", "4789")
        assert awaited(lambda: any(item.netns == space.inum for item in inventory.tunnels())), (
            "the inventory has a socket in there now"
        )
    assert awaited(lambda: not node.run(lambda: has("near")))
    assert netns.current() == before


def has(device):
    return (
        subprocess.run(["ip", "link", "show", device], capture_output=True, check=False).returncode
        == 0
    )


def test_closing_twice_is_closing_once():
    inventory = Inventory()
    inventory.start()
    inventory.close()
    inventory.close()
    assert inventory.wait(0)
