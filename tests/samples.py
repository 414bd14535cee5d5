"""Events made up for tests: one of each kind, which a test changes to what it is about."""

import dataclasses

from pmtutrace.events import Drop, Flow, IcmpReceived, InnerMtu, PathMtuChange

FLOW = Flow("10.77.1.1", "10.77.2.1", 17, 2323, 9)
TS = 1_792_924_245_678_901_234  # 2026-10-25T10:30:45.678901Z
FORWARDED = Drop(
    ts=TS,
    netns=4026532001,
    cpu=1,
    site="ip_forward",
    location="ip_forward+0x1a2",
    reason="PKT_TOO_BIG",
    verdict="told",
    cause=None,
    length=1500,
    mtu=1400,
    gso=0,
    df=True,
    family=4,
    dev="eth1",
    ifindex=3,
    indev="eth0",
    tunnel=None,
    flow=FLOW,
    outer=None,
    count=1,
    packet=b"\x45\x00",
)
HEARD = IcmpReceived(
    ts=TS,
    netns=4026532001,
    cpu=0,
    family=4,
    router="10.0.3.254",
    to="10.0.1.1",
    mtu=1400,
    flow=FLOW,
    outer=None,
    dev="eth1",
    ifindex=3,
    tunnel=None,
    outcome="applied",
    effective=1400,
)

LOWERED = PathMtuChange(
    ts=TS,
    netns=4026532001,
    change="lowered",
    family=4,
    daddr="10.0.2.2",
    saddr=None,
    dev="eth1",
    ifindex=3,
    gateway="10.0.1.254",
    table=254,
    old=1500,
    new=1400,
    locked=False,
    expires=599.994,
    tunnels=(InnerMtu("gre1", "gre", 1376), InnerMtu("vx0", "vxlan", None)),
)


def drop(**changes):
    """Return a forwarded IPv4 datagram whose sender was told, but for these changes."""
    return dataclasses.replace(FORWARDED, **changes)
