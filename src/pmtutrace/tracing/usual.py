"""The image that most tracers are made from, begun before it is known what this one is to do.

To import click and have it read the command line takes a tenth of a second, in which one of two
cores has nothing to do; building an image takes six times as long.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.errors import PmtutraceError
from pmtutrace.kernel import build, features, hooks, image, sites, symbols
from pmtutrace.tracing.settings import Settings

if TYPE_CHECKING:
    from pmtutrace.kernel.build import Wanted

BTF = Path("/sys/kernel/btf/vmlinux")


class _Begun(NamedTuple):
    boot: symbols.Boot
    options: image.Options
    wanted: Wanted


_begun: _Begun | None = None


def begin() -> None:
    """Begin to read or build it. Where that cannot be, who wants it is told why."""
    global _begun
    try:
        boot = look(Settings())
        options = _options(Settings(), plain=False)
        _begun = _Begun(boot, options, build.Wanted(boot.btf, None, options))
    except (PmtutraceError, OSError):
        pass


def look(settings: Settings) -> symbols.Boot:
    """Return what is known of the running kernel, for a tracer of these settings."""
    if _begun is not None and settings.btf is None:
        return _begun.boot
    return symbols.Boot(_names(), settings.btf or BTF)


def wanted(boot: symbols.Boot, settings: Settings, *, plain: bool) -> Wanted:
    """Return the image for these settings, to be read or built: the one begun, if it is this."""
    global _begun
    begun, _begun = _begun, None
    if begun is not None:
        same = begun.options._replace(plain=plain, flows=settings.flows) == begun.options
        if same and boot is begun.boot:
            return begun.wanted
        begun.wanted.close()
    return build.Wanted(boot.btf, settings.btf, _options(settings, plain=plain))


def _options(settings: Settings, *, plain: bool) -> image.Options:
    no_kprobes, no_fentry = features.refused()
    return image.Options(
        plain=plain, flows=settings.flows, kprobes=not no_kprobes, fentry=not no_fentry
    )


def _names() -> frozenset[str]:
    """Return the functions whose addresses matter: those hooked, sites, what sets path MTUs."""
    return hooks.FUNCTIONS | sites.owners().keys() | sites.ORIGINS.keys()
