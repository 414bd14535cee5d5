"""Open vSwitch's datapath without its daemons: two ports, each of which gets what the other had.

The numbers are those of linux/openvswitch.h, linux/genetlink.h and linux/netlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

from pmtutrace.errors import LabError, NotSupported
from pmtutrace.kernel import netlink

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTROLLER, GETFAMILY, FAMILY_ID, FAMILY_NAME = 0x10, 3, 1, 2
NEW = 1  # of datapaths, ports and flows alike
DATAPATH_VERSION, VERSION = 2, 1
DATAPATH_NAME, DATAPATH_UPCALL = 1, 2
PORT_NUMBER, PORT_TYPE, PORT_NAME, PORT_UPCALL, NETDEV = 1, 2, 3, 5, 1
FLOW_KEY, FLOW_ACTIONS, FLOW_MASK = 1, 2, 7
IN_PORT, ETHERNET, OUTPUT = 3, 4, 1
GENERIC, ACK, NESTED = 16, 0x4, 0x8000  # NETLINK_GENERIC, NLM_F_ACK, NLA_F_NESTED
NOBODY = struct.pack("=I", 0)  # asks for no packet that no flow fits


def add_datapath(name: str) -> None:
    """Make a datapath in the thread's namespace, and the device of that name with it.

    Raises:
        NotSupported: this kernel has no Open vSwitch.
    """
    _request(
        "ovs_datapath",
        DATAPATH_VERSION,
        0,
        _attribute(DATAPATH_NAME, name.encode() + b"\0"),
        _attribute(DATAPATH_UPCALL, NOBODY),
    )


def connect(ifindex: int, ports: Sequence[str]) -> None:
    """Make two devices the ports of a datapath, and have it hand all packets across.

    Args:
        ifindex: of the datapath's own device.
        ports: names of both devices.
    """
    for number, name in enumerate(ports, 1):
        _request(
            "ovs_vport",
            VERSION,
            ifindex,
            _attribute(PORT_NUMBER, struct.pack("=I", number)),
            _attribute(PORT_TYPE, struct.pack("=I", NETDEV)),
            _attribute(PORT_NAME, name.encode() + b"\0"),
            _attribute(PORT_UPCALL, NOBODY),
        )
    for here, there in ((1, 2), (2, 1)):
        _request(
            "ovs_flow",
            VERSION,
            ifindex,
            _nested(FLOW_KEY, *_match(here)),
            _nested(FLOW_MASK, *_match(0xFFFFFFFF)),
            _nested(FLOW_ACTIONS, _attribute(OUTPUT, struct.pack("=I", there))),
        )


def _match(port: int) -> tuple[bytes, bytes]:
    """Return a port of which every frame is meant, or the mask that says so."""
    return (
        _attribute(IN_PORT, struct.pack("=I", port)),
        _attribute(ETHERNET, bytes(12)),
    )


def _request(family: str, version: int, ifindex: int, *attributes: bytes) -> None:
    header = struct.pack("=BBHi", NEW, version, 0, ifindex)
    _ask(_family(family), header + b"".join(attributes))


def _family(name: str) -> int:
    """Return the number of a generic netlink family; the kernel loads its module if need be."""
    header = struct.pack("=BBH", GETFAMILY, 1, 0)
    answer = _ask(CONTROLLER, header + _attribute(FAMILY_NAME, name.encode() + b"\0"))
    (number,) = struct.unpack("=H", netlink.attributes(answer[4:])[FAMILY_ID])
    return int(number)


def _ask(family: int, body: bytes) -> bytes:
    """Send one request from the thread's namespace; return the first answer without its header."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, GENERIC) as link:
        link.bind((0, 0))
        length = netlink.HEADER.size + len(body)
        link.send(netlink.HEADER.pack(length, family, netlink.REQUEST | ACK, 1, 0) + body)
        kind, _, _, answer = next(netlink.messages(link.recv(netlink.RECEIVED_AT_MOST)))
    code = netlink.outcome(answer) if kind == netlink.ERROR else 0
    if code == errno.ENOENT:
        raise NotSupported("this kernel has no Open vSwitch")
    if code:
        raise LabError(f"the kernel refused a part of Open vSwitch: {os.strerror(code)}")
    return answer


def _attribute(kind: int, value: bytes) -> bytes:
    length = netlink.ATTRIBUTE.size + len(value)
    return netlink.ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _nested(kind: int, *attributes: bytes) -> bytes:
    return _attribute(kind | NESTED, b"".join(attributes))
