"""IPsec in a lab: security associations and policies, as commands of ip-xfrm(8).

pyroute2 has no XFRM, so iproute2 sets them up, in one batch for each node.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from pmtutrace.errors import LabError, NotSupported
from pmtutrace.kernel import netns
from pmtutrace.lab import devices

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pmtutrace.lab.topology import Security, Topology

# AES-GCM (RFC 4106), as every distribution's kernel has it: 16 octets of key, 4 of salt.
CIPHER = f"aead rfc4106(gcm(aes)) 0x{bytes(range(1, 21)).hex()} 128"
# How the kernel, and ip(8), say that there is no XFRM, no ESP or no such cipher.
MISSING = re.compile(r"not found|not supported|Cannot open netlink socket", re.I)
FIRST_SPI = 0x1001  # of packets from the first end; the other one's is the next


def declared(topology: Topology) -> Iterator[Security]:
    """Yield what a topology declares, and what its tunnels need."""
    yield from topology.security
    for tunnel in topology.tunnels:
        security = devices.declared(tunnel).security
        if security is not None:
            yield security(tunnel)


def commands(security: Security, end: int) -> list[str]:
    """Return the commands for one end, 0 or 1."""
    here, there = security.endpoints[end], security.endpoints[1 - end]
    who = f"src {here} dst {there} proto esp"
    reverse = f"src {there} dst {here} proto esp"
    mark = f" mark {security.mark}" if security.mark else ""
    interface = f" if_id {security.if_id}" if security.if_id else ""
    lines = []
    if security.states:
        for ends, spi in ((who, FIRST_SPI + end), (reverse, FIRST_SPI + 1 - end)):
            lines.append(
                f"xfrm state add {ends} spi {spi:#x} reqid 1 mode tunnel flag af-unspec"
                f" {CIPHER}{mark}{interface}"
            )
    for near, far in security.pairs(end):
        action = " action block" if security.block else ""
        for direction, ends, way in (
            ("out", f"src {near} dst {far}", who),
            ("in", f"src {far} dst {near}", reverse),
            ("fwd", f"src {far} dst {near}", reverse),
        ):
            how = action or f" tmpl {way} reqid 1 mode tunnel"
            lines.append(f"xfrm policy add {ends} dir {direction}{mark}{interface}{how}")
    return lines


def load(topology: Topology, names: Mapping[str, str]) -> None:
    """Set up all associations and policies of a topology.

    Raises:
        NotSupported: this kernel has no IPsec, or no such cipher.
        LabError: a command was refused for another reason.
    """
    for security in declared(topology):
        for end, node in enumerate(security.nodes):
            _batch(names[node], commands(security, end))


def _batch(name: str, lines: list[str]) -> None:
    """Run commands of ip(8) in a namespace."""
    if shutil.which("ip") is None:
        raise NotSupported("ip is not installed", "install the package iproute2")
    run = functools.partial(
        subprocess.run,
        ["ip", "-batch", "-"],
        input="\n".join(lines),
        text=True,
        capture_output=True,
        check=False,
    )
    done = netns.run_in(name, run)
    if done.returncode:
        why = (done.stderr.strip() or "no word why").splitlines()[0]
        if MISSING.search(why):
            raise NotSupported(f"this kernel cannot do this IPsec: {why}")
        raise LabError(f"IPsec was not set up: {why}")
