"""A sender and two routers, which tell it when a path is narrower than it thinks."""

import select
import socket
import subprocess
import threading
import time
from pathlib import Path

from pmtutrace.lab import Port, Route, Topology, Veth

WITHIN_S = 20.0
PMTUDISC_PROBE = 3  # linux/in.h
LENGTH = 1400  # fits every device of the sender
TARGETS = {
    v: [p.format(n) for n in range(1, 7)] for v, p in {4: "10.77.2.{}", 6: "fd77:2::{}"}.items()
}
PREFIX = {4: "10.77.2.0/24", 6: "fd77:2::/64"}
# Gateways of the sender by the two routers' names.
GATES = {4: {"r": "10.77.1.254", "s": "10.77.4.254"}, 6: {"r": "fd77:1::fe", "s": "fd77:4::fe"}}
TOPOLOGY = Topology(
    veths=(
        Veth(
            (
                Port("a", "a0", ("10.77.1.1/24", "fd77:1::1/64")),
                Port("r", "ra", ("10.77.1.254/24", "fd77:1::fe/64")),
            )
        ),
        Veth(
            (
                Port("a", "a1", ("10.77.4.1/24", "fd77:4::1/64")),
                Port("s", "sa", ("10.77.4.254/24", "fd77:4::fe/64")),
            )
        ),
        Veth(
            (
                Port("r", "rb", ("10.77.2.254/24", "fd77:2::fe/64")),
                Port(
                    "b",
                    "b0",
                    (*(f"{t}/24" for t in TARGETS[4]), *(f"{t}/64" for t in TARGETS[6])),
                ),
            )
        ),
        Veth(
            (
                Port("s", "sb", ("10.77.5.254/24", "fd77:5::fe/64")),
                Port("b", "b1", ("10.77.5.1/24", "fd77:5::1/64")),
            )
        ),
    ),
    routes=(
        Route("a", PREFIX[4], via=GATES[4]["r"]),
        Route("a", PREFIX[6], via=GATES[6]["r"]),
        # Of several ways, one packet may take this with an address of that.
        Route("s", "10.77.1.0/24", via="10.77.4.1"),
        Route("s", "fd77:1::/64", via="fd77:4::1"),
        Route("r", "10.77.4.0/24", via="10.77.1.1"),
        Route("r", "fd77:4::/64", via="fd77:1::1"),
        Route("s", PREFIX[4], via="10.77.5.1"),
        Route("s", PREFIX[6], via="fd77:5::1"),
    ),
    routers=("r", "s"),
)


def ip(node, *words):
    return node.run(
        lambda: subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
    )


def awaited(condition):
    """Wait for what must come to pass; return what the condition then gives."""
    end = time.monotonic() + WITHIN_S
    pause = threading.Event()
    while not (found := condition()) and time.monotonic() < end:
        pause.wait(0.02)
    assert found, "it did not come to pass"
    return found


def provoke(net, family, target, mtu):
    """Have both routers refuse a packet to a target, and the sender hear of it."""
    version = [f"-{family}"]
    gates = {"r": ["dev", "rb"], "s": ["via", "10.77.5.1" if family == 4 else "fd77:5::1"]}
    for router, way in gates.items():
        ip(net[router], *version, "route", "replace", target, *way, "mtu", "lock", str(mtu))
    return net["a"].run(lambda: refused(family, target))


def refused(family, target, within_s=WITHIN_S):
    """Send one packet that no router takes; say if the news arrived in time."""
    if family == 4:
        kind, level, header = socket.AF_INET, socket.IPPROTO_IP, 28
        discover, receive = 10, 11  # IP_MTU_DISCOVER, IP_RECVERR
    else:
        kind, level, header = socket.AF_INET6, socket.IPPROTO_IPV6, 48
        discover, receive = 23, 25
    with socket.socket(kind, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(level, discover, PMTUDISC_PROBE)
        sender.setsockopt(level, receive, 1)
        sender.connect((target, 9))
        sender.send(bytes(LENGTH - header))
        heard = select.poll()
        heard.register(sender, select.POLLERR)
        return bool(heard.poll(within_s * 1000))


def lifetime(node, family, seconds):
    """Set how long a new exception lives, in the namespace or, on old kernels, everywhere."""
    path = Path(f"/proc/sys/net/ipv{family}/route/mtu_expires")
    try:
        node.run(lambda: path.write_text(f"{seconds}\n"))
    except FileNotFoundError:
        path.write_text(f"{seconds}\n")
