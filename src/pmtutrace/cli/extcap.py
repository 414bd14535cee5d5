"""The verb `extcap`: drops for Wireshark, as they happen."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from pmtutrace.cli import choice
from pmtutrace.cli.choice import filter_options, tracer_options
from pmtutrace.cli.signals import on_interrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmtutrace.events import Event
    from pmtutrace.tracing import Tracer
    from pmtutrace.tracing.filters import Filter

LOOK_EVERY_S = 0.25  # whether anybody reads
# Options of ours that the dialogue of Wireshark shows.
SHOWN = ("interface", "netns", "site", "verdict", "host", "tunnel", "rate", "every")
NO_FILTERS = "there are no capture filters; choose by the options of the interface"


@click.command(short_help="Show drops live in Wireshark.")
@click.option("--extcap-interfaces", is_flag=True, help="Name the interface.")
@click.option("--extcap-version", metavar="VERSION", help="Wireshark's version.")
@click.option("--extcap-interface", metavar="NAME", help="The interface that is meant.")
@click.option("--extcap-dlts", is_flag=True, help="Name its link type.")
@click.option("--extcap-config", is_flag=True, help="Name the options that it has.")
@click.option("--extcap-capture-filter", metavar="FILTER", help="None is taken.")
@click.option("--capture", is_flag=True, help="Capture until nobody reads, or until ^C.")
@click.option("--fifo", type=click.Path(path_type=Path), help="Where to; stdout if not given.")
@filter_options
@tracer_options
@click.pass_context
def extcap(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401 -- what the options give
    r"""Be an interface of Wireshark, by its extcap protocol; see `tshark -G folders`.

    \b
    ln -s "$(command -v pmtutrace)" EXTCAP_PATH/
    tshark -i pmtutrace -o extcap.pmtutrace.netns:edge
    ssh far pmtutrace extcap --capture | wireshark -k -i -
    """
    from pmtutrace.errors import UsageError
    from pmtutrace.export import extcap as protocol

    name, wanted = options["extcap_interface"], options["extcap_capture_filter"]
    if name not in (None, protocol.INTERFACE):
        raise UsageError(f"{name!r} is no interface of ours", f"it is called {protocol.INTERFACE}")
    if options["capture"]:
        if wanted:
            raise UsageError(NO_FILTERS, f"tshark -o extcap.{protocol.INTERFACE}.host:ADDRESS")
        _capture(options)
        return
    lines: list[str] = []
    if options["extcap_interfaces"]:
        lines += protocol.interfaces()
    elif options["extcap_dlts"]:
        lines += protocol.link_types()
    elif options["extcap_config"]:
        lines += _arguments(context)
    elif wanted:
        lines.append(NO_FILTERS)  # what is said of a filter is why it is none
    elif wanted is None:
        raise UsageError("nothing was asked for", "--capture, or let Wireshark call")
    for line in lines:
        click.echo(line)


def _arguments(context: click.Context) -> Iterator[str]:
    """Yield a sentence for each of our own options that the dialogue shows."""
    from pmtutrace.export.extcap import sentence

    shown = [one for one in context.command.params if one.name in SHOWN]
    for number, option in enumerate(shown):
        if not isinstance(option, click.Option):
            continue
        fields = {"number": number, "call": option.opts[-1], "display": option.opts[-1][2:]}
        if option.is_flag:
            fields["type"] = "boolflag"
        elif isinstance(option.type, click.IntRange):
            fields |= {"type": "integer", "range": "1,1000000", "default": option.default}
        else:
            fields["type"] = "string"
        if isinstance(option.type, click.Choice):
            fields["validation"] = f"^({'|'.join(option.type.choices)})$"
        yield sentence("arg", **fields, required="false", tooltip=option.help)


def _capture(options: dict[str, Any]) -> None:
    from pmtutrace.export import pcapng
    from pmtutrace.kernel import privileges
    from pmtutrace.tracing.spaces import LiveNames
    from pmtutrace.tracing.tracer import Tracer
    from pmtutrace.tunnels.inventory import Inventory

    privileges.require()
    spaces = choice.here(options)
    wanted = choice.wanted(options, spaces)
    names = LiveNames()
    with (
        Tracer(choice.settings(options, spaces, pcapng.SNAPLEN)) as tracer,
        on_interrupt(tracer.stop),
        _output(options["fifo"], tracer) as out,
    ):
        inventory = Inventory()
        inventory.start()
        tracer.use(inventory)
        if options["ready_file"]:
            choice.say_ready(options["ready_file"])
        privileges.keep()
        events = _events(tracer, wanted, out)
        for block in pcapng.write(events, lambda event: names.of(event.netns)):
            out.write(block)
            out.flush()
        _say_lost(tracer)


def _events(tracer: Tracer, wanted: Filter, out: BinaryIO) -> Iterator[Event]:
    """Yield what is wanted, until stopped or nobody reads."""
    while not tracer.stopped and not _left(out):
        for event in tracer.events(LOOK_EVERY_S):
            wanted.learn(event)
            if wanted.matches(event):
                yield event


def _left(out: BinaryIO) -> bool:
    """Say if there is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(out, 0)
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(0))


@contextlib.contextmanager
def _output(path: Path | None, tracer: Tracer) -> Iterator[BinaryIO]:
    """Open the pipe once somebody reads it, or take stdout.

    Raises:
        BrokenPipeError: we were stopped before anybody read it.
    """
    from pmtutrace.errors import UsageError

    if path is None:
        if sys.stdout.isatty():
            raise UsageError("a terminal cannot show pcapng", "| wireshark -k -i -")
        yield sys.stdout.buffer
        return
    try:
        descriptor = _opened(path, tracer)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", "name the pipe that Wireshark reads"
        ) from error
    with os.fdopen(descriptor, "wb") as out:
        yield out


def _opened(path: Path, tracer: Tracer) -> int:
    """Return a descriptor of a pipe, once somebody reads it."""
    # A file would lose what is in it.
    if not stat.S_ISFIFO(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no pipe")
    while True:
        try:
            # Without it, we would wait in open(), deaf to signals.
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        else:
            os.set_blocking(descriptor, True)
            return descriptor
        for _ in tracer.events(LOOK_EVERY_S):
            pass
        if tracer.stopped:
            raise BrokenPipeError


def _say_lost(tracer: Tracer) -> None:
    """Say on stderr, which Wireshark shows, what a reader cannot see."""
    losses = ", ".join(f"{count} {kind}" for kind, count in tracer.losses().items() if count)
    if losses:
        click.echo(f"pmtutrace: lost: {losses}", err=True)
