"""QEMU's command line, and whether KVM works here."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace import paths
from pmtutrace.errors import VmError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROGRAM = "qemu-system-x86_64"
# Without -cx16, 5 of 24 boots of 6.12 under TCG panicked; with it, none of 40. With erms and fsrm,
# kernels copy octet by octet, which TCG does one by one: a scenario takes a sixth longer.
TCG_CPU = "max,-cx16,-erms,-fsrm"
# A kernel that has oopsed is not worth listening to: it ends, and QEMU with it.
_APPEND = "console=ttyS0 quiet panic=-1 oops=panic"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine to boot.

    Attributes:
        memory: MB.
        cpus: virtual processors.
        kvm: use KVM; otherwise every instruction is translated (TCG).
    """

    memory: int = 2048
    cpus: int = 2
    kvm: bool = False


def arguments(
    machine: Machine,
    kernel: Path,
    initramfs: int,
    console: int,
    ports: Mapping[str, int],
    tree: int | None,
) -> list[str]:
    """Return QEMU's command line; everything but the kernel comes by descriptor.

    Args:
        machine: its size and accelerator.
        kernel: the bzImage.
        initramfs: descriptor of the initramfs.
        console: socket for the serial console.
        ports: name -> socket of each virtio-serial port.
        tree: socket of virtiofsd, None for a trial boot.

    Raises:
        VmError: QEMU is not installed.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise VmError(
            f"{PROGRAM} is not installed", "apt install qemu-system-x86 qemu-system-common"
        )
    accelerator = ("kvm", "host") if machine.kvm else ("tcg,thread=multi", TCG_CPU)
    words = [program, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    words += ["-machine", "q35", "-accel", accelerator[0], "-cpu", accelerator[1]]
    words += ["-smp", str(machine.cpus), "-m", f"{machine.memory}M"]
    # vhost-user needs memory that virtiofsd can map.
    memory = f"memory-backend-memfd,id=memory,size={machine.memory}M,share=on"
    words += ["-object", memory, "-numa", "node,memdev=memory"]
    words += ["-chardev", f"socket,id=console,fd={console}", "-serial", "chardev:console"]
    words += ["-device", "virtio-serial-pci"]
    for name, descriptor in ports.items():
        words += ["-chardev", f"socket,id={name},fd={descriptor}"]
        words += ["-device", f"virtserialport,chardev={name},name={name}"]
    if tree is not None:
        words += ["-chardev", f"socket,id=tree,fd={tree}"]
        words += ["-device", "vhost-user-fs-pci,chardev=tree,tag=host,queue-size=1024"]
    words += ["-kernel", str(kernel), "-initrd", f"/proc/self/fd/{initramfs}", "-append", _APPEND]
    return words


def with_kvm(
    machine: Machine, boots: Callable[[Machine], bool], device: Path = Path("/dev/kvm")
) -> Machine:
    """Return the machine with KVM where a trial boot proves that it works here.

    ``/dev/kvm`` alone proves nothing: nested and emulated ones refuse, or hang. The result is kept
    in the cache until this host boots again.
    """
    if not os.access(device, os.R_OK | os.W_OK):
        return machine
    candidate = replace(machine, kvm=True)
    boot_id = _BOOT_ID.read_text().strip()
    record = paths.cache("vm") / "kvm.json"
    try:
        known = json.loads(record.read_text())
        works = bool(known["works"]) if known["boot_id"] == boot_id else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        works = None
    if works is None:
        works = boots(candidate)
        record.write_text(json.dumps({"boot_id": boot_id, "works": works}))
    return candidate if works else machine
