"""Kernels to boot: Debian's stock cloud kernels, fetched, or a freshly built bzImage.

A fetched kernel lies in the cache as ``kernels/NAME/RELEASE/{vmlinuz,lib/modules/RELEASE}``. Its
exact version is resolved from the metapackage when it is fetched, and kept in
``kernels/NAME/kernel.json``.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace import paths
from pmtutrace.errors import UsageError, VmError
from pmtutrace.vm import bzimage, sources
from pmtutrace.vm.apt import Apt

if TYPE_CHECKING:
    from collections.abc import Iterator

Progress = Callable[[str], None]

# name -> (Debian suite, whether that is a suite of the security archive)
SUITES = {
    "5.10": ("bullseye-security", True),
    "6.1": ("bookworm", False),
    "6.12": ("trixie", False),
    "7": ("sid", False),
}
NAMES = tuple(SUITES)
METAPACKAGE = "linux-image-cloud-amd64"

_MANIFEST = "kernel.json"
_EXACT = re.compile(r"^(?P<name>linux-[a-z0-9.+-]+)(?::\w+)? \(= (?P<version>[^)]+)\)$")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be booted.

    Attributes:
        name: ``6.12`` and the like for a stock kernel, else the file's name.
        release: what ``uname -r`` says in the guest.
        vmlinuz: the bzImage.
        modules: its ``lib/modules/RELEASE`` folder; None where everything is built in.
        version: the distribution's version; empty for a kernel of one's own.
    """

    name: str
    release: str
    vmlinuz: Path
    modules: Path | None
    version: str = ""

    @classmethod
    def from_path(cls, bzimage_path: Path, modules: Path | None = None) -> Kernel:
        """Describe a kernel of one's own.

        Args:
            bzimage_path: the image, as the kernel's build leaves it in arch/x86/boot.
            modules: where ``make modules_install`` put them: INSTALL_MOD_PATH, or lib/modules, or
                the release's folder in it. Without it, all that the guest needs is built in.

        Raises:
            VmError: no bzImage, or no modules of its release there.
        """
        path = bzimage_path.resolve()
        release = bzimage.release(path)
        found = _modules(modules.resolve(), release) if modules is not None else None
        return cls(path.name, release, path, found)


def find(name: str, modules: Path | None = None, progress: Progress = lambda _: None) -> Kernel:
    """Return a kernel by its stock name (fetched where it is not there yet) or its path.

    Raises:
        UsageError: no such name and no such file.
        VmError: it could not be fetched, or the file is no kernel.
    """
    if name in SUITES:
        if modules is not None:
            raise UsageError(f"{name} has modules of its own", "use --modules with a bzImage")
        return fetch(name, progress)
    if not Path(name).is_file():
        raise UsageError(
            f"no kernel {name}", f"name one of {', '.join(NAMES)}, or give the path of a bzImage"
        )
    return Kernel.from_path(Path(name), modules)


def listed() -> list[Kernel]:
    """Return the stock kernels that are in the cache."""
    return [kernel for name in NAMES if (kernel := _cached(name)) is not None]


def fetch(name: str, progress: Progress = lambda _: None, update: bool = False) -> Kernel:
    """Return a stock kernel, fetched with its modules if it is not in the cache.

    Args:
        name: one of :data:`NAMES`.
        progress: is given a line for each long step.
        update: ask the mirror for a newer one even if one is there.

    Raises:
        UsageError: no such name.
        VmError: the mirror does not have it, or a tool is missing.
    """
    if name not in SUITES:
        raise UsageError(f"no stock kernel {name}", f"choose from {', '.join(NAMES)}")
    if not update and (kernel := _cached(name)) is not None:
        return kernel
    folder = paths.cache("kernels", name)
    with _alone(folder):
        # Another process may have fetched it while this one waited for the lock.
        if not update and (kernel := _cached(name)) is not None:
            return kernel
        for left in folder.glob("fetch.*"):  # by a run that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix="fetch.", dir=folder) as work:
            return _fetch(name, folder, Path(work), progress)


def _fetch(name: str, folder: Path, work: Path, progress: Progress) -> Kernel:
    suite, security = SUITES[name]
    apt = Apt(work / "apt", sources.debian(sources.machine_sources(), security), suite)
    progress(f"{name}: reading the package index of {suite}")
    apt.update()
    version, packages, megabytes = _resolve(apt)
    kernel = _cached(name)
    if kernel is not None and kernel.version == version:
        return kernel
    progress(f"{name}: downloading {version}, {megabytes:.0f} MB")
    files = apt.download(packages.items())
    progress(f"{name}: unpacking")
    tree = work / "tree"
    for file in files:
        _call("dpkg", "-x", str(file), str(tree))
    release = _arrange(tree, work / "kernel")
    _call("depmod", "-b", str(work / "kernel"), release)
    final = folder / release
    shutil.rmtree(final, ignore_errors=True)
    (work / "kernel").rename(final)
    manifest = work / _MANIFEST
    manifest.write_text(json.dumps({"release": release, "version": version, "suite": suite}))
    manifest.replace(folder / _MANIFEST)
    if kernel is not None and kernel.release != release:
        shutil.rmtree(folder / kernel.release, ignore_errors=True)
    return Kernel(name, release, final / "vmlinuz", final / "lib/modules" / release, version)


def _resolve(apt: Apt) -> tuple[str, dict[str, str], float]:
    """Return the metapackage's version, the packages that it stands for, and their size in MB.

    Only exact dependencies on other linux- packages are followed: from 7.x on the kernel is split
    into binary, modules and base; all else (initramfs-tools, kmod) is for installed systems.
    """
    versions: dict[str, str] = {}
    size = 0
    todo = [METAPACKAGE]
    while todo:
        fields = apt.show(todo.pop())
        versions[fields["package"]] = fields["version"]
        size += int(fields.get("size", 0)) * (fields["package"] != METAPACKAGE)
        for dependency in fields.get("depends", "").split(","):
            match = _EXACT.match(dependency.strip())
            if match and match["name"] not in versions:
                todo.append(match["name"])
    return versions.pop(METAPACKAGE), versions, size / 1e6


def _arrange(tree: Path, target: Path) -> str:
    """Put an unpacked kernel's files where they are looked for; return its release."""
    found = [
        path
        for pattern in ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "lib/modules/*/vmlinuz")
        for path in tree.glob(pattern)
    ]
    if len(found) != 1:
        raise VmError(f"{METAPACKAGE} holds {len(found)} kernels, not one")
    release = bzimage.release(found[0])
    modules = [
        path for top in ("lib", "usr/lib") if (path := tree / top / "modules" / release).is_dir()
    ]
    if not modules:
        raise VmError(f"{METAPACKAGE} holds no modules of {release}")
    (target / "lib/modules").mkdir(parents=True)
    (target / "usr").mkdir()
    # kmod looks below usr/lib where it was built for a merged /usr.
    (target / "usr/lib").symlink_to("../lib")
    modules[0].rename(target / "lib/modules" / release)
    source = found[0] if found[0].exists() else target / "lib/modules" / release / "vmlinuz"
    shutil.copyfile(source, target / "vmlinuz")
    return release


def _cached(name: str) -> Kernel | None:
    folder = paths.cache("kernels") / name
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        release, version = manifest["release"], manifest["version"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    kernel = Kernel(
        name,
        release,
        folder / release / "vmlinuz",
        folder / release / "lib/modules" / release,
        version,
    )
    return kernel if kernel.vmlinuz.is_file() else None


def _modules(folder: Path, release: str) -> Path:
    """Find ``lib/modules/RELEASE`` at, or below, the folder that was named."""
    for path in (
        folder,
        folder / release,
        folder / "modules" / release,
        folder / "lib/modules" / release,
    ):
        if path.name == release and (path / "modules.dep").is_file():
            return path
    raise VmError(
        f"no modules of {release} in {folder}",
        "make modules_install INSTALL_MOD_PATH=DIR, then --modules DIR",
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: two runs at once fetch one kernel once."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _call(*command: str) -> None:
    """Run a tool that must succeed.

    Raises:
        VmError: it is not installed, or it failed.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError as error:
        raise VmError(f"{command[0]} is not installed", "apt install kmod dpkg") from error
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise VmError(f"{command[0]} failed: {why}")
