"""Wire up the nodes of a topology over rtnetlink: devices, addresses, neighbours, routes, filters.

``routes`` is, throughout, one pyroute2 socket per node, opened inside its namespace.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import shutil
import socket
import subprocess
import time
import weakref
from dataclasses import replace
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any

from pmtutrace.errors import LabError, NotSupported
from pmtutrace.kernel import netns
from pmtutrace.lab import devices, openvswitch
from pmtutrace.lab.topology import Port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from io import FileIO

    from pmtutrace.lab.topology import Bridge, Leg, Route, Topology, Tunnel

    Routes = Mapping[str, Any]

READY_S = 10.0
# Of veths' near ends. The kernel takes one whose other end has the same number in its namespace for
# no pair at all, and lets the news of its carrier wait for up to a second (linkwatch_urgent_event).
FIRST_INDEX = 100
NOARP, MULTICAST, UP = 0x80, 0x1000, 0x1  # IFF_*
NODAD = 0x02  # IFA_F_NODAD
PERMANENT = 0x80  # NUD_PERMANENT
ROOT = 0xFFFFFFFF  # TC_H_ROOT
LOCAL_TABLE, LOCAL = 255, 2  # RT_TABLE_LOCAL, RTN_LOCAL
RTAX_MTU = 2
OPERATIONAL = ("UP", "UNKNOWN")
# By socket: nothing in a lab is renamed or made anew.
_INDEXES: weakref.WeakKeyDictionary[Any, dict[str, int]] = weakref.WeakKeyDictionary()


def links(
    topology: Topology, names: Mapping[str, str], routes: Routes, stack: contextlib.ExitStack
) -> tuple[dict[Port, str], dict[Port, FileIO]]:
    """Make all devices and bring them up; return their link-layer addresses, and their files.

    Only those are in there that have one. What has to stay open goes on the stack.
    """
    from pmtutrace.lab import teach

    teach.pyroute2()
    own = (*topology.ports, *(bridge.port for bridge in topology.bridges))
    macs = {port: f"02:00:00:00:00:{number:02x}" for number, port in enumerate(own, 1)}
    for bridge in topology.bridges:
        _bridge(bridge, macs[bridge.port], names[bridge.node], routes[bridge.node])
    for veth in topology.veths:
        left, right = veth.ends
        peer = {"ifname": right.dev, "address": macs[right], "net_ns_fd": names[right.node]}
        number = FIRST_INDEX + own.index(left)
        routes[left.node].link(
            "add", kind="veth", ifname=left.dev, address=macs[left], index=number, peer=peer
        )
        for port in veth.ends:
            _up(routes[port.node], port)
    bridges = (bridge.port for bridge in topology.bridges)
    for port in itertools.chain(bridges, *(veth.ends for veth in topology.veths)):
        _own(routes[port.node], port)  # some tunnels can only be made where an endpoint is
    files = _tunnels(topology, names, routes, stack, macs)
    for bridge in topology.bridges:
        _join(bridge, topology.ports, names[bridge.node], routes[bridge.node])
    return macs, files


def _tunnels(
    topology: Topology,
    names: Mapping[str, str],
    routes: Routes,
    stack: contextlib.ExitStack,
    macs: dict[Port, str],
) -> dict[Port, FileIO]:
    """Make all tunnels; take the link-layer addresses out of those that have none."""
    files = {}
    for tunnel in topology.tunnels:
        if encap := tunnel.options.get("encap"):
            for port in tunnel.ends:
                netns.run_in(names[port.node], functools.partial(_listen, tunnel.type, encap))
        if not devices.declared(tunnel).ethernet:
            for port in tunnel.ends:
                del macs[port]
        for far, port in enumerate(tunnel.ends):
            end = replace(tunnel, **tunnel.far) if far else tunnel
            local, remote = tunnel.endpoints[:: -1 if far else 1]
            made = _end(end, port, local, remote, names[port.node], routes[port.node])
            if file := stack.enter_context(made):
                files[port] = file
            mac = {"address": macs[port]} if port in macs else {}
            _up(routes[port.node], port, **mac)
    return files


def _bridge(bridge: Bridge, mac: str, name: str, route: Any) -> None:  # noqa: ANN401
    """Make a bridge without ports in the namespace of that name."""
    if bridge.type == "openvswitch":
        netns.run_in(name, functools.partial(openvswitch.add_datapath, bridge.dev))
    else:
        quiet = {"br_mcast_snooping": 0, "br_forward_delay": 0, "br_stp_state": 0}
        route.link("add", kind="bridge", ifname=bridge.dev, **quiet)
    _up(route, bridge.port, address=mac)


def _join(bridge: Bridge, ports: Iterable[Port], name: str, route: Any) -> None:  # noqa: ANN401
    """Make those ports the bridge's that name it."""
    owner = index(route, bridge.dev)
    own = [port.dev for port in ports if (port.node, port.bridge) == (bridge.node, bridge.dev)]
    if bridge.type == "openvswitch":
        netns.run_in(name, functools.partial(openvswitch.connect, owner, own))
        return
    for dev in own:
        route.link("set", index=index(route, dev), master=owner)


def _listen(kind: str, encap: object) -> None:
    """Be the end of a tunnel in UDP."""
    from pmtutrace.lab import teach

    teach.listen(devices.FOU_PORT, proto=devices.IPPROTO[kind], gue=encap == "gue")


def _end(
    tunnel: Tunnel,
    port: Port,
    local: str,
    remote: str,
    name: str,
    route: Any,  # noqa: ANN401 -- pyroute2 has no types
) -> AbstractContextManager[FileIO | None]:
    """Make one end of a tunnel in the namespace of that name; return what has to stay open."""
    declared = devices.declared(tunnel)
    make = declared.make
    if make is None:
        attributes = devices.attributes(tunnel, local, remote)
        if tunnel.links:
            by = tunnel.links[tunnel.ends.index(port)]
            attributes[f"{declared.prefix}link"] = index(route, by)
        _add(route, port.dev, attributes)
        return contextlib.nullcontext()
    return netns.run_in(name, functools.partial(make, tunnel, port, local, remote))


def _add(route: Any, dev: str, attributes: Mapping[str, object]) -> None:  # noqa: ANN401
    """Make a device of a type that not every kernel has."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        route.link("add", ifname=dev, **attributes)
    except NetlinkError as error:
        if error.code != errno.EOPNOTSUPP:
            raise
        raise NotSupported(f"this kernel has no {attributes['kind']} devices") from error


def _up(route: Any, port: Port, **wanted: object) -> None:  # noqa: ANN401
    """Bring a device up, silent: no ARP, neighbour discovery or multicast listener reports."""
    quiet = 0 if port.resolves else NOARP
    wanted |= {"flags": quiet | UP, "change": NOARP | MULTICAST | UP}
    if port.mtu is not None:
        wanted["mtu"] = port.mtu
    route.link("set", index=index(route, port.dev), **wanted)


def _own(route: Any, port: Port) -> None:  # noqa: ANN401
    """Give a device its addresses."""
    for address in port.addresses:
        own = ip_interface(address)
        route.addr(
            "add",
            index=index(route, port.dev),
            address=str(own.ip),
            prefixlen=own.network.prefixlen,
            flags=NODAD if own.version == 6 else 0,
        )


def addresses(topology: Topology, routes: Routes, macs: Mapping[Port, str]) -> None:
    """Set addresses of tunnels, and tell everybody in a subnet about everybody else."""
    for port in (end for tunnel in topology.tunnels for end in tunnel.ends):
        _own(routes[port.node], port)
    for port, other in itertools.permutations(macs, 2):
        for mine, theirs in itertools.product(
            map(ip_interface, port.addresses), map(ip_interface, other.addresses)
        ):
            if mine.network == theirs.network:
                routes[port.node].neigh(
                    "replace",
                    dst=str(theirs.ip),
                    lladdr=macs[other],
                    ifindex=index(routes[port.node], port.dev),
                    state=PERMANENT,
                )


def ways(topology: Topology, routes: Routes) -> None:
    """Add the routes."""
    for declared in topology.routes:
        way(routes[declared.node], declared)


def way(route: Any, declared: Route, command: str = "add") -> None:  # noqa: ANN401
    """Add a route, or ``replace`` the one to the same destination, or ``del`` it."""
    from pmtutrace.lab import teach

    chosen: dict[str, Any] = {"dst": declared.to}
    if declared.via:
        chosen["gateway"] = declared.via
    if declared.dev:
        chosen["oif"] = index(route, declared.dev)
    if declared.mtu:
        chosen["metrics"] = {"mtu": declared.mtu}
        if declared.locked:
            chosen["metrics"] |= {"lock": 1 << RTAX_MTU}
    if declared.encap:
        chosen |= teach.encap(declared.encap)
    if declared.table:
        chosen["table"] = declared.table
    if declared.legs:
        chosen["multipath"] = [_leg(route, leg) for leg in declared.legs]
    route.route(command, **chosen)


def _leg(route: Any, leg: Leg) -> dict[str, Any]:  # noqa: ANN401
    return {"oif": index(route, leg.dev)} | ({"gateway": leg.via} if leg.via else {})


def queues(topology: Topology, routes: Routes) -> None:
    """Give devices their queueing disciplines."""
    for queue in topology.queues:
        route = routes[queue.node]
        route.tc("add", queue.kind, index(route, queue.dev), **queue.options)


def unqueue(route: Any, dev: str) -> None:  # noqa: ANN401
    """Take the queueing discipline of a device away; nothing happens where there is none."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        route.tc("del", index=index(route, dev), parent=ROOT)
    except NetlinkError as error:
        if error.code not in (errno.ENOENT, errno.EINVAL):
            raise


def load_filter(name: str, script: str) -> None:
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


def wait_until_up(topology: Topology, routes: Routes) -> None:
    """Wait until every device can send and every address receive.

    Kernel workers tell of carrier and attach qdiscs, and, duplicate address detection or not, make
    the local routes of IPv6 addresses (addrconf_dad_work).
    """
    wanted = {(port.node, port.dev) for port in topology.ports}
    wanted |= {(bridge.node, bridge.dev) for bridge in topology.bridges}
    for port in (*topology.ports, *(bridge.port for bridge in topology.bridges)):
        owned = map(ip_interface, port.addresses)
        wanted |= {(port.node, str(own.ip)) for own in owned if own.version == 6}
    end = time.monotonic() + READY_S
    while wanted:
        for node in {node for node, _ in wanted}:
            ready = itertools.chain(_working(routes[node]), _local(routes[node]))
            wanted -= {(node, what) for what in ready}
        if time.monotonic() > end:
            late = ", ".join(f"{what} of {node}" for node, what in sorted(wanted))
            raise LabError(f"not up after {READY_S:g} s: {late}")


def _working(route: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield the devices that can send."""
    for link in route.get_links():
        if link.get_attr("IFLA_OPERSTATE") in OPERATIONAL and link.get_attr("IFLA_QDISC") != "noop":
            yield link.get_attr("IFLA_IFNAME")


def _local(route: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield the IPv6 addresses that can receive."""
    for local in route.get_routes(family=socket.AF_INET6, table=LOCAL_TABLE, type=LOCAL):
        yield local.get_attr("RTA_DST")


def index(route: Any, dev: str) -> int:  # noqa: ANN401
    """Return the ifindex of a device."""
    known = _INDEXES.setdefault(route, {})
    if dev not in known:
        found = route.link("get", ifname=dev)
        if not found:
            raise LabError(f"the device {dev} of the lab is missing")
        known[dev] = int(found[0]["index"])
    return known[dev]
