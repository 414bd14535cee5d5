"""The kernel's own counters of a network namespace, named as nstat(8) names them.

``IpFragFails``, ``IcmpOutDestUnreachs``, ``IcmpMsgInType3``, ``Ip6FragFails``,
``Icmp6OutPktTooBigs`` … from ``/proc/net/snmp`` and ``/proc/net/snmp6``; ``XfrmOutNoStates`` … from
``/proc/net/xfrm_stat``; those of devices as ``rb:tx_dropped`` from ``/proc/net/dev``.
"""

from __future__ import annotations

from pathlib import Path

OWN = Path("/proc/thread-self/net")
IPSEC = OWN / "xfrm_stat"  # not in every kernel
# The columns of /proc/net/dev that have a meaning of their own, under the names that sysfs uses.
DEVICE_COLUMNS = {
    0: "rx_bytes",
    1: "rx_packets",
    2: "rx_errors",
    3: "rx_dropped",
    8: "tx_bytes",
    9: "tx_packets",
    10: "tx_errors",
    11: "tx_dropped",
}


def read() -> dict[str, int]:
    """Return all counters of the calling thread's namespace."""
    return {
        **pairs((OWN / "snmp").read_text()),
        **pairs((OWN / "netstat").read_text()),
        **columns((OWN / "snmp6").read_text()),
        **devices((OWN / "dev").read_text()),
        **(columns(IPSEC.read_text()) if IPSEC.exists() else {}),
    }


def pairs(text: str) -> dict[str, int]:
    """Read lines that come in twos: ``Ip: FragOKs FragFails`` above ``Ip: 0 23``."""
    found = {}
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        table, *words = names.split()
        found.update(
            {
                table.rstrip(":") + word: int(value)
                for word, value in zip(words, values.split()[1:], strict=False)
            }
        )
    return found


def columns(text: str) -> dict[str, int]:
    """Read lines of a name and a number."""
    return {name: int(value) for name, value in map(str.split, text.splitlines())}


def devices(text: str) -> dict[str, int]:
    """Read ``/proc/net/dev``: two lines of headings, then ``name: numbers``."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, numbers = line.rpartition(":")
        values = numbers.split()
        for index, column in DEVICE_COLUMNS.items():
            found[f"{name.strip()}:{column}"] = int(values[index])
    return found
