"""Devices that no rtnetlink request makes, each with one function that does.

A function is called inside the namespace; what it returns is closed when the lab is torn down. It
gives the device's file where there is one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace.errors import NotSupported
from pmtutrace.lab import modules

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from io import FileIO

    from pmtutrace.lab.topology import Port, Tunnel

TUN_FILE = Path("/dev/net/tun")
TUNSETIFF, IFF_TUN, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x1, 0x2, 0x1000  # linux/if_tun.h
L2TP_PORT = 1701


def tun(
    _tunnel: Tunnel, port: Port, _local: str, _remote: str
) -> AbstractContextManager[FileIO | None]:
    """Make a TUN, as a VPN in user space does. Nobody reads it: packets wait in its ring."""
    return _attached(port, IFF_TUN)


def tap(
    _tunnel: Tunnel, port: Port, _local: str, _remote: str
) -> AbstractContextManager[FileIO | None]:
    """Make a TAP, as for a virtual machine."""
    return _attached(port, IFF_TAP)


def _attached(port: Port, kind: int) -> AbstractContextManager[FileIO | None]:
    modules.load("tun")  # where there is no udev, its file comes with it
    try:
        file = TUN_FILE.open("r+b", buffering=0)
        fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", port.dev.encode(), kind | IFF_NO_PI))
        os.set_blocking(file.fileno(), False)
    except FileNotFoundError as error:
        raise NotSupported(f"there is no {TUN_FILE}", "load the module tun") from error
    return file


def l2tp(
    tunnel: Tunnel, port: Port, local: str, remote: str
) -> AbstractContextManager[FileIO | None]:
    """Make an L2TPv3 tunnel with one Ethernet session, over UDP or, with ``over`` ``ip``, IP."""
    import pyroute2

    encap = str(tunnel.options.get("over", "udp"))
    ports = {"udp_sport": L2TP_PORT, "udp_dport": L2TP_PORT} if encap == "udp" else {}
    try:
        requests = pyroute2.L2tp()
    except pyroute2.NetlinkError as error:
        raise NotSupported("this kernel has no L2TP") from error
    with requests:
        requests.create_tunnel(1, 1, remote=remote, local=local, encap=encap, **ports)
        requests.create_session(1, 1, 1, ifname=port.dev)
    return contextlib.nullcontext()
