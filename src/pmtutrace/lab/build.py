"""Make a topology of namespaces real, and take it away again whatever happens.

Namespaces are called ``pmtu-PID-NODE``; what a killed process left is removed at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import re
import shutil
import subprocess
import threading
import time
from ipaddress import ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmtutrace.errors import LabError, NotSupported, PrivilegeError
from pmtutrace.kernel import netns
from pmtutrace.lab import devices
from pmtutrace.lab.net import Net, Node
from pmtutrace.lab.topology import Port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmtutrace.lab.topology import Topology

NAME = re.compile(r"pmtu-(\d+)-")
READY_S = 10.0
NOARP, MULTICAST, UP = 0x80, 0x1000, 0x1
NODAD = 0x02
NUD_PERMANENT = 0x80
OPERATIONAL = ("UP", "UNKNOWN")

# Nothing must be sent but the scenario's traffic: no link-local addresses, no duplicate address
# detection, no router solicitations. Answers to routed packets must not depend on the host's defaults.
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
# Last of all: a device that can multicast while IPv6 forwards joins, and reports, the routers' group.
ROUTER_SYSCTLS = {"ipv4.ip_forward": "1", "ipv6.conf.all.forwarding": "1"}
# Only there where the bridge can call netfilter; it would fragment what the bridge is to drop.
BRIDGE_SYSCTLS = {"bridge.bridge-nf-call-iptables": "0", "bridge.bridge-nf-call-ip6tables": "0"}

_taken: set[str] = set()
_lock = threading.Lock()


@contextlib.contextmanager
def built(topology: Topology) -> Iterator[Net]:
    """Build a topology, wait until it carries packets, give it, and remove it at the end.

    Raises:
        PrivilegeError: namespaces cannot be made.
        NotSupported: the kernel has no such device, or ``nft`` is missing.
        LabError: it could not be built for another reason, or did not come up.
    """
    if os.geteuid() != 0:
        raise PrivilegeError("the lab makes network namespaces", "run it as root")
    sweep()
    with contextlib.ExitStack() as stack:
        names = stack.enter_context(_reserved(topology.nodes))
        routes: dict[str, Any] = {}
        with contextlib.ExitStack() as building:
            for label, name in names.items():
                stack.callback(_remove, name)
                routes[label] = building.enter_context(_created(name, topology, label))
            with _explained():
                macs = _links(topology, names, routes)
                _addresses(topology, routes, macs)
            for label in topology.routers:
                with netns.entered(netns.RUN / names[label]):
                    _sysctls(ROUTER_SYSCTLS)
            for label, text in topology.rules:
                _filter(names[label], text)
            _wait_until_up(topology, routes)
            nodes = {label: _node(label, names[label], routes[label], topology, macs) for label in names}
        yield Net(topology, nodes, stack.enter_context(contextlib.ExitStack()))


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

    pyroute2.netns.create(name)
    with netns.entered(netns.RUN / name):
        _sysctls(SYSCTLS)
        _sysctls(BRIDGE_SYSCTLS, missing_ok=True)
        _sysctls({key: value for node, key, value in topology.sysctls if node == label})
        route = pyroute2.IPRoute()
    with contextlib.closing(route):
        route.link("set", index=1, state="up")
        yield route


def _sysctls(values: dict[str, str], *, missing_ok: bool = False) -> None:
    for key, value in values.items():
        path = Path("/proc/sys/net", *key.split("."))
        if not path.exists() and missing_ok:
            continue
        try:
            path.write_text(value)
        except FileNotFoundError as error:
            raise NotSupported(f"this kernel has no sysctl net.{key}") from error


def _links(topology: Topology, names: dict[str, str], routes: dict[str, Any]) -> dict[Port, str]:
    """Make all devices and bring them up; return the link-layer address of each port that has one."""
    macs = {port: f"02:00:00:00:00:{number:02x}" for number, port in enumerate(topology.ports, 1)}
    for bridge in topology.bridges:
        routes[bridge.node].link(
            "add", kind="bridge", ifname=bridge.dev, br_mcast_snooping=0, br_forward_delay=0, br_stp_state=0
        )
        _up(routes[bridge.node], Port(bridge.node, bridge.dev, mtu=None))
    for veth in topology.veths:
        left, right = veth.ends
        peer = {"ifname": right.dev, "address": macs[right], "net_ns_fd": names[right.node]}
        routes[left.node].link("add", kind="veth", ifname=left.dev, address=macs[left], peer=peer)
        for port in veth.ends:
            _up(routes[port.node], port)
    for tunnel in topology.tunnels:
        ethernet = devices.declared(tunnel).ethernet
        for port, local, remote in zip(tunnel.ends, tunnel.endpoints, tunnel.endpoints[::-1], strict=True):
            attributes = devices.attributes(tunnel, local, remote)
            if ethernet:
                attributes["address"] = macs[port]
            else:
                del macs[port]
            routes[port.node].link("add", ifname=port.dev, **attributes)
            _up(routes[port.node], port)
    return macs


def _up(route: Any, port: Port) -> None:  # noqa: ANN401 -- pyroute2 has no types
    """Bring a device up, silent: without ARP, neighbour discovery and multicast listener reports."""
    index = _index(route, port.dev)
    wanted: dict[str, object] = {"flags": NOARP | UP, "change": NOARP | MULTICAST | UP}
    if port.mtu is not None:
        wanted["mtu"] = port.mtu
    if port.bridge is not None:
        wanted["master"] = _index(route, port.bridge)
    route.link("set", index=index, **wanted)


def _addresses(topology: Topology, routes: dict[str, Any], macs: dict[Port, str]) -> None:
    """Set addresses, tell everybody in a subnet about everybody else, and add the routes."""
    for port in topology.ports:
        for address in port.addresses:
            own = ip_interface(address)
            routes[port.node].addr(
                "add",
                index=_index(routes[port.node], port.dev),
                address=str(own.ip),
                prefixlen=own.network.prefixlen,
                flags=NODAD if own.version == 6 else 0,
            )
    for port, other in itertools.permutations(macs, 2):
        for mine, theirs in itertools.product(
            map(ip_interface, port.addresses), map(ip_interface, other.addresses)
        ):
            if mine.network == theirs.network:
                routes[port.node].neigh(
                    "replace",
                    dst=str(theirs.ip),
                    lladdr=macs[other],
                    ifindex=_index(routes[port.node], port.dev),
                    state=NUD_PERMANENT,
                )
    for declared in topology.routes:
        route = routes[declared.node]
        chosen: dict[str, object] = {"dst": declared.to}
        if declared.via:
            chosen["gateway"] = declared.via
        if declared.dev:
            chosen["oif"] = _index(route, declared.dev)
        if declared.mtu:
            chosen["metrics"] = {"mtu": declared.mtu}
        route.route("add", **chosen)


def _filter(name: str, script: str) -> None:
    """Load nftables rules in a namespace."""
    if shutil.which("nft") is None:
        raise NotSupported("nft is not installed", "install the package nftables")
    for command, said, error in (
        (["nft", "list", "tables"], "this kernel has no nftables", NotSupported),
        (["nft", "--file", "-"], "nft refused the rules of a scenario", LabError),
    ):
        run = functools.partial(
            subprocess.run, command, input=script, text=True, capture_output=True, check=False
        )
        done = netns.run_in(name, run)
        if done.returncode:
            raise error(f"{said}: {done.stderr.strip().splitlines()[0]}")


def _wait_until_up(topology: Topology, routes: dict[str, Any]) -> None:
    """Wait until every device can send: carrier is told, and a qdisc attached, by a kernel worker."""
    wanted = {(port.node, port.dev) for port in topology.ports}
    wanted |= {(bridge.node, bridge.dev) for bridge in topology.bridges}
    end = time.monotonic() + READY_S
    while wanted:
        for node in {node for node, _ in wanted}:
            wanted -= {(node, dev) for dev in _working(routes[node])}
        if time.monotonic() > end:
            late = ", ".join(f"{dev} of {node}" for node, dev in sorted(wanted))
            raise LabError(f"not up after {READY_S:g} s: {late}")


def _working(route: Any) -> Iterator[str]:  # noqa: ANN401
    for link in route.get_links():
        if link.get_attr("IFLA_OPERSTATE") in OPERATIONAL and link.get_attr("IFLA_QDISC") != "noop":
            yield link.get_attr("IFLA_IFNAME")


def _index(route: Any, dev: str) -> int:  # noqa: ANN401
    found = route.link_lookup(ifname=dev)
    if not found:
        raise LabError(f"the device {dev} of the lab is missing")
    return int(found[0])


def _node(label: str, name: str, route: Any, topology: Topology, macs: dict[Port, str]) -> Node:  # noqa: ANN401
    devs = [port.dev for port in topology.ports if port.node == label]
    devs += [bridge.dev for bridge in topology.bridges if bridge.node == label]
    return Node(
        label,
        name,
        netns.inum(name),
        {dev: _index(route, dev) for dev in devs},
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
            raise NotSupported(f"this kernel lacks a device or option of the lab: {error}") from error
        raise LabError(f"the kernel refused a part of the lab: {error}") from error


def _remove(name: str) -> None:
    """Remove a namespace, whoever made it; nothing happens where it is gone already."""
    import pyroute2

    with contextlib.suppress(FileNotFoundError):
        pyroute2.netns.remove(name)
