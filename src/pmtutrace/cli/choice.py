"""Options that several verbs share: what to see, and how to trace it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pmtutrace.tracing.filters import Filter
    from pmtutrace.tracing.summary import Tally
    from pmtutrace.tracing.tracer import Settings, Tracer

VERDICTS = ("told", "suppressed", "lost", "never_attempted", "local")

F = TypeVar("F", bound="Callable[..., Any]")

FILTERS = (
    click.option("-i", "--interface", metavar="IFACE", help="Only drops on this device."),
    click.option("-4", "family", flag_value=4, type=int, help="Only IPv4."),
    click.option("-6", "family", flag_value=6, type=int, help="Only IPv6."),
    click.option(
        "--netns", metavar="NAME", multiple=True, help="Only this namespace (repeatable)."
    ),
    click.option("--site", metavar="FUNC", multiple=True, help="Only this kernel function."),
    click.option(
        "--verdict", type=click.Choice(VERDICTS), multiple=True, help="Only this verdict."
    ),
    click.option("--host", metavar="ADDR", multiple=True, help="Only to or from it; a prefix too."),
    click.option("--tunnel", metavar="NAME", help="Only in this tunnel."),
)
TRACER = (
    click.option(
        "--rate",
        type=click.IntRange(1),
        default=10,
        show_default=True,
        help="Lines per flow and second. All drops are counted all the same.",
    ),
    click.option("--all", "every", is_flag=True, help="A line for every drop."),
    click.option(
        "--cold", is_flag=True, help="Attach nothing that runs for packets that are not refused."
    ),
    click.option(
        "--ready-file", type=click.Path(path_type=Path), help="Written once all is attached."
    ),
    click.option(
        "--btf", type=click.Path(path_type=Path), help="BTF of this kernel, if it has none."
    ),
    click.option(
        "--image", type=click.Path(path_type=Path), help="Tracer image from `pmtutrace compile`."
    ),
)


def filter_options(command: F) -> F:
    """Add the options that choose what is shown."""
    for option in reversed(FILTERS):
        command = option(command)
    return command


def tracer_options(command: F) -> F:
    """Add the options that say how to trace."""
    for option in reversed(TRACER):
        command = option(command)
    return command


def here(options: dict[str, Any]) -> set[int] | None:
    """Return the inodes of the namespaces that are named; see that the device is there, too."""
    spaces = None
    if options["netns"]:
        from pmtutrace.kernel import netns

        spaces = {netns.inum(name) for name in options["netns"]}
    if options["interface"]:
        from pmtutrace.tracing import devices

        devices.require(options["interface"], spaces)
    return spaces


def check(options: dict[str, Any]) -> None:
    """Raise UsageError where :func:`wanted` would, without importing what a filter takes."""
    from pmtutrace.errors import UsageError
    from pmtutrace.kernel import sites
    from pmtutrace.tracing.networks import network

    for name in options["site"]:
        if name not in sites.NUMBERS:
            raise UsageError(f"{name!r} is no site", f"sites are {', '.join(sites.NUMBERS)}")
    for host in options["host"]:
        network(host)


def wanted(options: dict[str, Any], spaces: Collection[int] | None) -> Filter:
    """Return the filter that the options ask for.

    Args:
        options: of the command line.
        spaces: inodes of namespaces; None for all.

    Raises:
        UsageError: they make no sense.
    """
    from pmtutrace.printable import printable
    from pmtutrace.tracing.filters import Filter
    from pmtutrace.tracing.networks import network

    check(options)
    return Filter(
        netns=spaces,
        interface=options["interface"] and printable(options["interface"]),
        family=options["family"],
        sites=frozenset(options["site"]),
        verdicts=frozenset(options["verdict"]),
        hosts=tuple(network(host) for host in options["host"]),
        tunnel=options["tunnel"] and printable(options["tunnel"]),
    )


def settings(options: dict[str, Any], spaces: Collection[int] | None, snaplen: int) -> Settings:
    """Return what the options ask of a tracer, and how much of each packet is wanted."""
    from pmtutrace.tracing.tracer import Settings

    return Settings(
        netns=spaces,
        rate=options["rate"],
        every=options["every"],
        snaplen=snaplen,
        btf=options["btf"],
        image_file=options["image"],
        cold=options["cold"],
    )


def say_blind(tracer: Tracer) -> None:
    """Say what is not known because hot hooks were left out."""
    for attached in tracer.attached:
        if attached.left_out and attached.blind:
            click.echo(f"cold: without hook {attached.hook.name}: {attached.blind}", err=True)


def import_paths() -> None:
    """Import what :func:`follow_paths` takes, for who has time for it before."""
    from pmtutrace.pmtu import watch
    from pmtutrace.tracing import naming, paths, summary

    _ = watch, naming, paths, summary


def follow_paths(tracer: Tracer, spaces: Collection[int] | None) -> Tally | None:
    """Have a tracer tell of path MTUs and of messages that arrive; None if it cannot."""
    from pmtutrace.pmtu.watch import Watch
    from pmtutrace.tracing.summary import Tally

    try:
        tracer.follow(Watch(spaces, listen=not tracer.tells("received")))
    except OSError as error:
        click.echo(f"pmtutrace: path MTUs cannot be read: {error.strerror}", err=True)
        return None
    return Tally()


def say_ready(path: Path) -> None:
    """Write the file that somebody waits for."""
    from pmtutrace.errors import UsageError

    try:
        path.write_text("ready\n")
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", "name a file in a folder that can be written"
        ) from error
