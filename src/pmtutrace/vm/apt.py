"""Packages of any Debian suite, by a private apt that leaves the machine's own state alone.

Lists, cache, dpkg status and sources are folders of ours. Checking is apt's own: the release file
by the archive's key, each package by the hash in the signed index.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace.errors import VmError
from pmtutrace.vm.sources import stanzas

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmtutrace.vm.sources import Source

PAUSES_S = (2.0, 6.0)  # before it is tried again
# The hooks of the machine's own configuration are cleared: they act on the machine's caches.
_CONFIG = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb;
Acquire::IndexTargets::deb::Packages { MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
 ShortDescription "Packages"; Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages"; };
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "FOLDER";
Dir::State::lists "FOLDER/lists";
Dir::State::status "FOLDER/status";
Dir::Cache "FOLDER";
Dir::Cache::archives "FOLDER/archives";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "FOLDER/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "FOLDER/preferences";
"""


class Apt:
    """A private apt for one suite, kept below ``folder``."""

    def __init__(self, folder: Path, source: Source, suite: str) -> None:
        for tool, package in (("apt-get", "apt"), ("dpkg", "dpkg")):
            if shutil.which(tool) is None:
                raise VmError(
                    f"{tool} is not installed",
                    f"install {package}, or give a kernel of your own: --kernel /path/to/bzImage",
                )
        self.folder = folder
        self.suite = suite
        for name in ("lists/partial", "archives/partial", "sources", "preferences"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        (folder / "sources" / "debian.sources").write_text(_stanza(source, suite))
        self._config = folder / "apt.conf"
        self._config.write_text(_CONFIG.replace("FOLDER", str(folder)))

    def update(self) -> None:
        """Fetch the suite's package index.

        Raises:
            VmError: the mirror has no such suite, cannot be reached, or its signature is bad.
        """
        self._again("apt-get", "--error-on=any", "update")

    def show(self, package: str) -> dict[str, str]:
        """Return the newest version's control fields, names in lower case.

        Raises:
            VmError: the suite has no such package.
        """
        text = self._run("apt-cache", "--no-all-versions", "show", package)
        return next(stanzas(text))

    def download(self, packages: Iterable[tuple[str, str]]) -> list[Path]:
        """Fetch (name, version) pairs, check their hashes, and return the files."""
        target = self.folder / "archives"
        self._again("apt-get", "download", *(f"{name}={version}" for name, version in packages))
        return sorted(target.glob("*.deb"))

    def _again(self, tool: str, *arguments: str) -> None:
        """Run a tool, and again after a while if it fails: no mirror changes in one step."""
        for seconds in PAUSES_S:
            with contextlib.suppress(VmError):
                self._run(tool, *arguments)
                return
            time.sleep(seconds)
        self._run(tool, *arguments)

    def _run(self, tool: str, *arguments: str) -> str:
        done = subprocess.run(
            [tool, "-c", str(self._config), "-q", *arguments],
            cwd=self.folder / "archives",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
            verb = next(word for word in arguments if not word.startswith("-"))
            why = lines[0][2:].strip() if lines else f"exit code {done.returncode}"
            raise VmError(
                f"{tool} {verb} failed for {self.suite}: {why}",
                "see that the machine's Debian mirror carries this suite and can be reached",
            )
        return done.stdout


def _stanza(source: Source, suite: str) -> str:
    """Return a deb822 stanza for another suite of the same archive."""
    fields = {
        "Types": "deb",
        "URIs": " ".join(source.uris),
        "Suites": suite,
        "Components": "main",
        "Architectures": "amd64",
        "Signed-By": source.signed_by,
        "Trusted": source.trusted,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
