"""Which tunnel a drop is in: the device, else who made the outer header, else by endpoints."""

import socket

import pytest

from pmtutrace.events import Device, TunnelRef
from pmtutrace.kernel import sites, sources
from pmtutrace.kernel.image import Image
from pmtutrace.layout import Layout
from pmtutrace.tracing.naming import Namer
from pmtutrace.tunnels.table import Table
from pmtutrace.tunnels.tunnel import Tunnel

LAYOUT = Layout(sources.layout_source())
IMAGE = Image({"options": {"plain": False}}, (), {}, {}, {}, 0, {}, LAYOUT)
FRAGMENT = {
    "type": 1,
    "dev": b"ru",
    "key.netns": 1,
    "key.ifindex": 3,
    "key.site": sites.NUMBERS["ip_fragment"],
    "key.family": 4,
    "key.proto": 17,
    "key.outer_family": 4,
    "key.outer_proto": 47,
    "key.outer_saddr": bytes(10) + b"\xff\xff" + socket.inet_aton("192.0.2.1"),
    "key.outer_daddr": bytes(10) + b"\xff\xff" + socket.inet_aton("192.0.2.2"),
}
BY_HAND = {"maker": b"md0", "maker_kind": b"gre", "key.maker_netns": 2, "key.maker_ifindex": 7}
ENDS = {"local": "192.0.2.1", "remote": "192.0.2.2", "overhead": 24}
TUNNELS = (
    Tunnel(1, 5, "gre1", "gre", 1476, **ENDS),
    Tunnel(2, 7, "md0", "gre", 1476, external=True),
    Tunnel(1, 9, "vx0", "vxlan", 1450, local="192.0.2.9", overhead=50),
)


class Known(Table):
    """An inventory that has been read."""

    def wait(self, _timeout):
        return True


def named(inventory=True, **fields):
    namer = Namer(IMAGE, lambda _address: "")
    namer.devices.name = lambda *_: ""
    namer.inventory = Known(TUNNELS) if inventory else None
    return namer.event(LAYOUT.pack("event", FRAGMENT | fields), 0)


def test_by_its_endpoints():
    drop = named()
    assert drop.tunnel == TunnelRef("gre1", "gre", **ENDS)
    assert drop.maker is None


def test_the_device_that_made_the_outer_header_goes_before_endpoints():
    drop = named(**BY_HAND)
    assert drop.tunnel == TunnelRef("md0", "gre")
    assert drop.maker == Device(2, 7)


def test_the_device_that_it_was_to_leave_by_goes_before_both():
    drop = named(**BY_HAND, dev=b"vx0", kind=b"vxlan", **{"key.ifindex": 9})
    assert drop.tunnel == TunnelRef("vx0", "vxlan", "192.0.2.9", None, 50)


@pytest.mark.parametrize(
    "fields", [{"maker_kind": b"veth"}, {"maker_kind": b""}, {"key.maker_ifindex": 0}]
)
def test_what_is_no_tunnel_makes_none(fields):
    assert named(**(BY_HAND | fields)).tunnel == TunnelRef("gre1", "gre", **ENDS)


def test_without_an_inventory_the_kernel_still_names_it():
    assert named(inventory=False, **BY_HAND).tunnel == TunnelRef("md0", "gre")
    assert named(inventory=False).tunnel is None


def test_a_number_that_another_device_has_now_says_nothing():
    drop = named(dev=b"gre9", kind=b"gre", **{"key.ifindex": 9})
    assert drop.tunnel == TunnelRef("gre9", "gre")
