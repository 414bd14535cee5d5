"""What this process may do: what tracing takes, and giving up the rest once it is attached.

capabilities(7); the numbers are those of linux/capability.h.
"""

from __future__ import annotations

import ctypes as ct
import os
from pathlib import Path

from pmtutrace.errors import PrivilegeError

STATUS = Path("/proc/self/status")
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_PTRACE, CAP_SYS_ADMIN = 12, 13, 19, 21
CAP_SYSLOG, CAP_PERFMON, CAP_BPF = 34, 38, 39
# Once attached: reading maps (BPF), entering namespaces to name devices and tunnels (SYS_ADMIN,
# SYS_PTRACE and DAC_READ_SEARCH to find them in /proc, NET_ADMIN to list links, NET_RAW to hear of
# messages that arrive in those that come later), and symbols of modules that come later (SYSLOG).
TRACING = frozenset(
    {
        CAP_DAC_READ_SEARCH,
        CAP_NET_ADMIN,
        CAP_NET_RAW,
        CAP_SYS_PTRACE,
        CAP_SYS_ADMIN,
        CAP_SYSLOG,
        CAP_PERFMON,
        CAP_BPF,
    }
)
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3


class _Header(ct.Structure):
    _fields_ = (("version", ct.c_uint32), ("pid", ct.c_int))


class _Data(ct.Structure):
    _fields_ = (
        ("effective", ct.c_uint32),
        ("permitted", ct.c_uint32),
        ("inheritable", ct.c_uint32),
    )


def effective() -> frozenset[int]:
    """Return the numbers of the capabilities in effect."""
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith("CapEff"))
    mask = int(line.split()[1], 16)
    return frozenset(n for n in range(64) if mask >> n & 1)


def require() -> None:
    """Raise PrivilegeError unless we are root or CAP_BPF is effective."""
    if os.geteuid() and CAP_BPF not in effective():
        raise PrivilegeError("tracing needs root", "run it with sudo")


def keep(wanted: frozenset[int] = TRACING) -> None:
    """Give up every capability but these, for good.

    Raises:
        PrivilegeError: if the kernel does not let us.
    """
    mask = sum(1 << n for n in wanted & effective())
    header = _Header(_VERSION_3, 0)
    data = (_Data * 2)()
    # The children of root have what it has; those of others, what is inheritable and ambient.
    ambient = wanted & effective() if os.geteuid() else frozenset()
    for half in (0, 1):
        word = mask >> 32 * half & 0xFFFFFFFF
        data[half].effective = data[half].permitted = word
        data[half].inheritable = word if ambient else 0
    libc = ct.CDLL(None, use_errno=True)
    # Without it a child of root would have all of them again.
    failed = libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    failed = failed or libc.capset(ct.byref(header), ct.byref(data))
    for number in ambient:
        failed = failed or libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0)
    if failed:
        why = os.strerror(ct.get_errno())
        raise PrivilegeError(f"capabilities could not be given up: {why}")
