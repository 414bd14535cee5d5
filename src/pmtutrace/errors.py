"""Every error that pmtutrace raises on purpose.

::

    PmtutraceError           exit code 1
    ├── UsageError           2   what was asked for makes no sense here
    ├── PrivilegeError       1   root, or a capability, is needed
    ├── CompilerError        1   BCC is missing, is the wrong package, or refused the source
    ├── ImageError           1   a tracer image is damaged or was built for something else
    ├── LoadError            1   the kernel refused a map, a program or an attachment
    ├── LabError             1   a scenario's namespaces or traffic could not be set up
    ├── SessionError         1   a session could not be written, or is damaged, or is none
    ├── VmError              1   a virtual machine could not be fetched, booted or kept alive
    └── NotSupported         77  this kernel cannot do it

Each carries what happened (the message) and what to do about it (the hint). Only ``cli/`` prints
them.
"""

from __future__ import annotations


class PmtutraceError(Exception):
    """Say what happened and how to go on.

    Args:
        message: what happened, one line, no full stop.
        hint: what to do, one line; empty where nothing helps.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PmtutraceError):
    """Refuse what makes no sense on this host: an unknown namespace or interface, a bad option."""

    exit_code = 2


class PrivilegeError(PmtutraceError):
    """Refuse to go on without root or the capability that is named."""


class CompilerError(PmtutraceError):
    """Report that BCC is missing, is an impostor, or refused the source."""


class ImageError(PmtutraceError):
    """Report a tracer image that is damaged or was built for something else."""


class LoadError(PmtutraceError):
    """Report that the kernel refused a map, a program or an attachment that it should take."""


class LabError(PmtutraceError):
    """Report a scenario that could not be set up or torn down."""


class SessionError(PmtutraceError):
    """Report a session that cannot be written, is damaged, or was never one."""


class VmError(PmtutraceError):
    """Report a virtual machine that could not be fetched, booted or kept alive."""


class NotSupported(PmtutraceError):  # noqa: N818 -- the kernel's and cilium/ebpf's word for it
    """Say that this kernel cannot do it: the one reason for which a test may skip."""

    exit_code = 77
