"""Make a topology of namespaces real, and take it away again whatever happens.

Namespaces are called ``pmtu-PID-NODE``; what a killed process left is removed at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmtutrace.errors import LabError, NotSupported, PrivilegeError
from pmtutrace.kernel import netns
from pmtutrace.lab import ipsec, modules, wire
from pmtutrace.lab.net import Net, Node
from pmtutrace.lab.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmtutrace.lab.topology import Port, Topology

NAME = re.compile(r"pmtu-(\d+)-")

# Nothing must be sent but the scenario's traffic: no link-local addresses, no duplicate address
# detection, no router solicitations. Answers to routed packets must not depend on the host's
# defaults.
SYSCTLS = {
    "ipv6.conf.default.addr_gen_mode": "1",
    "ipv6.conf.default.accept_dad": "0",
    "ipv6.conf.default.accept_ra": "0",
    "ipv6.conf.default.router_solicitations": "0",
    "ipv6.conf.all.disable_ipv6": "0",
    "ipv6.conf.default.disable_ipv6": "0",
    "ipv4.conf.all.rp_filter": "0",
    "ipv4.conf.default.rp_filter": "0",
}
# Last of all: a device that can multicast while IPv6 forwards joins, and reports, the routers'
# group.
ROUTER_SYSCTLS = {"ipv4.ip_forward": "1", "ipv6.conf.all.forwarding": "1"}
# Only there where the bridge can call netfilter; it would fragment what the bridge is to drop.
BRIDGE_SYSCTLS = {"bridge.bridge-nf-call-iptables": "0", "bridge.bridge-nf-call-ip6tables": "0"}

SYS_NET = Path("/proc/sys/net")
HOST = Path("/proc/1/ns/net")

_taken: set[str] = set()
_lock = threading.Lock()


@contextlib.contextmanager
def built(what: Scenario | Topology) -> Iterator[Net]:
    """Build a topology, wait until it carries packets, give it, and remove it at the end.

    Raises:
        PrivilegeError: namespaces cannot be made.
        NotSupported: the kernel has no such device, or ``nft`` is missing.
        LabError: it could not be built for another reason, or did not come up.
    """
    if os.geteuid() != 0:
        raise PrivilegeError("the lab makes network namespaces", "run it as root")
    topology = what.topology if isinstance(what, Scenario) else what
    sweep()
    with contextlib.ExitStack() as stack:
        names = stack.enter_context(_reserved(topology.nodes))
        with contextlib.ExitStack() as building, _explained():
            routes: dict[str, Any] = {}
            for label, name in names.items():
                stack.callback(_remove, name)
                routes[label] = building.enter_context(_created(name, topology, label))
            macs, files = wire.links(topology, names, routes, stack)
            wire.addresses(topology, routes, macs)
            wire.ways(topology, routes)
            ipsec.load(topology, names)
            wire.queues(topology, routes)
            for label, name in names.items():
                with netns.entered(netns.RUN / name):
                    _sysctls(_of_devices(topology, label))
            for label in topology.routers:
                with netns.entered(netns.RUN / names[label]):
                    _sysctls(ROUTER_SYSCTLS)
            for label, script in topology.rules:
                wire.load_filter(names[label], script)
            wire.wait_until_up(topology, routes)
            nodes = {
                label: _node(label, names[label], routes[label], topology, macs) for label in names
            }
        net = Net(topology, nodes, stack.enter_context(contextlib.ExitStack()), files)
        # Namespaces take their time to go, and what waits in them fills sockets of all of them.
        stack.callback(net.flush)
        yield net


def sweep() -> None:
    """Remove the namespaces of labs whose process is dead."""
    if not netns.RUN.is_dir():
        return
    with _lock:
        for name in os.listdir(netns.RUN):  # noqa: PTH208 -- names are what is wanted
            match = NAME.match(name)
            if not match or name in _taken:
                continue
            pid = int(match[1])
            if pid == os.getpid() or not Path(f"/proc/{pid}").exists():
                _remove(name)


@contextlib.contextmanager
def _reserved(labels: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Give each node a name that no other lab of this process has."""
    with _lock:
        for number in itertools.count(1):
            prefix = f"pmtu-{os.getpid()}-" + ("" if number == 1 else f"{number}-")
            names = {label: prefix + label for label in labels}
            if _taken.isdisjoint(names.values()):
                break
        _taken.update(names.values())
    try:
        yield names
    finally:
        with _lock:
            _taken.difference_update(names.values())


@contextlib.contextmanager
def _created(name: str, topology: Topology, label: str) -> Iterator[Any]:
    """Make one namespace, set its sysctls, and give a netlink socket into it."""
    import pyroute2

    # Its create() does this in a process of its own, which takes long.
    netns.run_in_new(lambda: pyroute2.netns.attach(name, "thread-self"))
    with netns.entered(netns.RUN / name):
        _sysctls(SYSCTLS)
        _sysctls(BRIDGE_SYSCTLS, missing_ok=True)
        late = _of_devices(topology, label)
        every = {key: value for node, key, value in topology.sysctls if node == label}
        _sysctls({key: value for key, value in every.items() if key not in late})
        route = pyroute2.IPRoute()
    with contextlib.closing(route):
        route.link("set", index=1, state="up")
        yield route


def _of_devices(topology: Topology, label: str) -> dict[str, str]:
    """Return the sysctls of a node that are there only once its devices are."""
    devs = {port.dev for port in topology.ports if port.node == label}
    return {
        key: value
        for node, key, value in topology.sysctls
        if node == label and devs.intersection(key.split("."))
    }


def _sysctls(values: dict[str, str], *, missing_ok: bool = False) -> None:
    for key, value in values.items():
        path = SYS_NET.joinpath(*key.split("."))
        if not path.exists() and missing_ok:
            continue
        if not path.exists() and key in BRIDGE_SYSCTLS:
            _load_br_netfilter()
        try:
            path.write_text(value)
        except FileNotFoundError as error:
            raise NotSupported(f"this kernel has no sysctl net.{key}") from error


def _load_br_netfilter() -> None:
    """Load the module that no alias leads to, and keep it from the host's own bridges."""
    modules.load("br_netfilter")
    netns.run_in(HOST, lambda: _sysctls(BRIDGE_SYSCTLS, missing_ok=True))


def _node(
    label: str,
    name: str,
    route: Any,  # noqa: ANN401 -- pyroute2 has no types
    topology: Topology,
    macs: dict[Port, str],
) -> Node:
    devs = [port.dev for port in topology.ports if port.node == label]
    devs += [bridge.dev for bridge in topology.bridges if bridge.node == label]
    return Node(
        label,
        name,
        netns.inum(name),
        {dev: wire.index(route, dev) for dev in devs},
        {port.dev: mac for port, mac in macs.items() if port.node == label},
    )


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn the kernel's refusals into typed errors."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code == errno.EOPNOTSUPP:
            raise NotSupported(
                f"this kernel lacks a device or option of the lab: {error}"
            ) from error
        raise LabError(f"the kernel refused a part of the lab: {error}") from error


def _remove(name: str) -> None:
    """Remove a namespace, whoever made it; nothing happens where it is gone already."""
    import pyroute2

    with contextlib.suppress(FileNotFoundError):
        pyroute2.netns.remove(name)
