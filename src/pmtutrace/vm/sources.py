"""The machine's own apt sources: where its Debian mirror and its Debian security mirror are.

Both formats of sources.list(5) are read: one-line ``.list`` and deb822 ``.sources``. No address is
written in this project: a stock kernel comes from wherever the machine's packages come from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace.errors import VmError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

APT = Path("/etc/apt")

_CODENAMES = frozenset(
    {"bullseye", "bookworm", "trixie", "forky", "duke", "sid"}
    | {"oldstable", "stable", "testing", "unstable"}
)
_SECURITY = ("-security", "/updates")
_ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<rest>\S.*)$")


@dataclass(frozen=True, slots=True)
class Source:
    """One archive that apt may read: a stanza or a line of the sources.

    Attributes:
        uris: the addresses, as apt takes them (also ``mirror+file:``).
        suites: suites or codenames.
        components: ``main`` and others.
        signed_by: value of Signed-By, a path or an embedded key with its line breaks; else empty.
        trusted: value of Trusted, else empty.
    """

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    trusted: str = ""


def machine_sources(folder: Path = APT) -> list[Source]:
    """Return every enabled binary archive in the machine's apt sources."""
    found: list[Source] = []
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".list":
            found += one_line(text)
        elif path.suffix == ".sources":
            found += deb822(text)
    return found


def one_line(text: str) -> list[Source]:
    """Parse the one-line format of sources.list(5)."""
    found = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.partition("#")[0].strip())
        if match is None:
            continue
        pairs = (option.partition("=") for option in (match["options"] or "").split())
        options = {name.lower(): value for name, _, value in pairs}
        suite, *components = match["rest"].split()
        found.append(
            Source(
                (match["uri"],),
                (suite,),
                tuple(components),
                options.get("signed-by", ""),
                options.get("trusted", ""),
            )
        )
    return found


def deb822(text: str) -> list[Source]:
    """Parse the deb822 format of sources.list(5)."""
    found = []
    for stanza in stanzas(text):
        if "deb" not in stanza.get("types", "").split():
            continue
        if stanza.get("enabled", "yes").lower() in {"no", "false", "without", "off", "disable"}:
            continue
        uris, suites, components = (
            tuple(stanza.get(field, "").split()) for field in ("uris", "suites", "components")
        )
        signed, trusted = stanza.get("signed-by", ""), stanza.get("trusted", "")
        found.append(Source(uris, suites, components, signed, trusted))
    return found


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the stanzas of a deb822 text; field names in lower case, line breaks kept."""
    fields: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += "\n" + line
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()


def debian(sources: Iterable[Source], security: bool = False) -> Source:
    """Return the source that is Debian's archive, or its security archive.

    Raises:
        VmError: the machine's sources name none.
    """
    best = max(sources, key=lambda source: _likeness(source, security), default=None)
    if best is None or _likeness(best, security) <= 0:
        kind = "Debian security archive" if security else "Debian archive"
        raise VmError(
            f"no {kind} in the machine's apt sources",
            f"add one below {APT}/sources.list.d: stock kernels are fetched from it",
        )
    return best


def _likeness(source: Source, security: bool) -> int:
    """Say how surely a source is Debian's own: 0 is not at all.

    Other vendors' archives use Debian's codenames as well, so the key and the address count too.
    """
    if "main" not in source.components or not source.uris:
        return 0
    if security:
        named = any(suite.endswith(_SECURITY) for suite in source.suites)
    else:
        named = bool(_CODENAMES.intersection(source.suites))
    if not named:
        return 0
    by_debian = "debian-archive-keyring" in source.signed_by
    in_debian = any("debian" in uri.rstrip("/").rpartition("/")[2] for uri in source.uris)
    if source.signed_by and not by_debian and not in_debian:
        return 0
    return 1 + 2 * by_debian + in_debian
