"""What nearly all tracers begin with, begun before it is known what this one is to do.

To import click and have it read the command line takes a tenth of a second, in which the kernel and
one of two cores have nothing to do. Until then the image can be read and the kernel be loading its
programs; where it has to be built, that takes six times as long.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.errors import PmtutraceError
from pmtutrace.kernel import build, features, hooks, image, plan, privileges, sites, symbols
from pmtutrace.kernel.loader import Loader
from pmtutrace.tracing.settings import Settings

if TYPE_CHECKING:
    from pmtutrace.kernel.build import Wanted
    from pmtutrace.kernel.image import Image
    from pmtutrace.kernel.plan import Features

BTF = Path("/sys/kernel/btf/vmlinux")


class Loaded(NamedTuple):
    """Maps, programs that are being loaded in the background, and what the kernel can do."""

    loader: Loader
    features: Features


class _Begun:
    """How far we are: each part is taken once, by whom it fits."""

    boot: symbols.Boot | None = None
    options: image.Options | None = None
    wanted: Wanted | None = None
    loaded: Loaded | None = None


_begun = _Begun()


def begin() -> None:
    """Begin. Where that cannot be, who wants it is told why."""
    usual = Settings()
    try:
        privileges.require()
        _begun.boot = look(usual)
        _begun.options = _options(usual, plain=usual.plain)
        _begun.wanted = build.Wanted(_begun.boot.btf, usual.btf, _begun.options)
        if not _begun.wanted.building:
            _begun.loaded = loaded(_begun.wanted.get(), _begun.boot, usual)
    except (PmtutraceError, OSError):
        pass


def end() -> None:
    """Let go of what was begun and nobody has taken."""
    wanted, _begun.wanted = _begun.wanted, None
    if wanted is not None:
        wanted.close()
    begun, _begun.loaded = _begun.loaded, None
    if begun is not None:
        begun.loader.close()


def look(settings: Settings) -> symbols.Boot:
    """Return what is known of the running kernel."""
    if settings.btf is None and _begun.boot is not None:
        boot, _begun.boot = _begun.boot, None
        return boot
    return symbols.Boot(_names(), settings.btf or BTF)


def wanted(boot: symbols.Boot, settings: Settings, *, plain: bool) -> Wanted:
    """Return the image for these settings, to be read or built."""
    begun, _begun.wanted = _begun.wanted, None
    if begun is not None:
        same = _begun.options and _begun.options._replace(plain=plain, flows=settings.flows)
        if settings.btf is None and same == _begun.options:
            return begun
        begun.close()
    return build.Wanted(boot.btf, settings.btf, _options(settings, plain=plain))


def loaded(chosen: Image, boot: symbols.Boot, settings: Settings) -> Loaded:
    """Create the maps, and have loaded in the background what will probably be attached.

    Raises:
        PmtutraceError: if the kernel refuses, or OSError; nothing is left behind then.
    """
    begun, _begun.loaded = _begun.loaded, None
    if begun is not None:
        if begun.loader.image is chosen and not settings.without and not settings.cold:
            return begun
        begun.loader.close()
    loader = Loader(chosen)
    try:
        pieces = frozenset(piece.symbol for piece in boot.ranges)
        found = features.probe(chosen.tracepoints, chosen.functions, pieces)
        found = plan.without(found, settings.without)
        loader.load_ahead(plan.plan(hooks.HOOKS, found, cold=settings.cold))
    except BaseException:
        loader.close()
        raise
    return Loaded(loader, found)


def _options(settings: Settings, *, plain: bool) -> image.Options:
    no_kprobes, no_fentry = features.refused()
    return image.Options(
        plain=plain, flows=settings.flows, kprobes=not no_kprobes, fentry=not no_fentry
    )


def _names() -> frozenset[str]:
    """Return the functions whose addresses matter: those hooked, sites, what sets path MTUs."""
    return hooks.FUNCTIONS | sites.owners().keys() | sites.ORIGINS.keys()
