"""The verb `pmtu`: what the kernel has learned of paths, everywhere, and how that changes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import ipaddress
import json
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from pmtutrace.cli import text
from pmtutrace.printable import aligned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmtutrace.events import InnerMtu
    from pmtutrace.pmtu.changes import Known
    from pmtutrace.pmtu.watch import Watch
    from pmtutrace.tunnels.inventory import Inventory

COLUMNS = (
    *("NETNS", "DESTINATION", "VIA", "DEV", "MTU", "LOCK", "AGE", "EXPIRES"),
    *("ORIGIN", "TUNNELS"),
)
TO_THE_RIGHT = ("MTU", "AGE", "EXPIRES")
MAIN_TABLE = 254
TUNNELS_WITHIN_S = 10.0
SETTLING_S, LONG = 0.05, 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One exception as it is shown. ``expires`` and ``age`` are in seconds, None if not known.

    ``origin`` is what the kernel learned it from, None where nothing tells.
    """

    ts: int
    netns: str | int
    known: Known
    expires: float | None
    age: float | None
    tunnels: tuple[InnerMtu, ...]
    origin: str | None = None

    def order(self) -> tuple[Any, ...]:
        """Return what rows are sorted by."""
        item = self.known.item
        address = ipaddress.ip_address(item.daddr)
        there = (self.known.dev, item.gateway or "", item.table, item.saddr or "")
        return (str(self.netns), item.family, address, *there)

    def json(self) -> dict[str, Any]:
        """Return the line of `-j`."""
        from pmtutrace import jsonl

        item = self.known.item
        return jsonl.head("exception", self.ts, self.netns) | {
            "family": item.family,
            "daddr": item.daddr,
            "saddr": item.saddr,
            "dev": self.known.dev or None,
            "gateway": item.gateway,
            "table": item.table,
            "mtu": item.mtu,
            "locked": item.locked,
            "expires": jsonl.seconds(self.expires),
            "age": jsonl.seconds(self.age),
            "origin": self.origin,
            "tunnels": jsonl.inner(self.tunnels),
        }

    def cells(self) -> tuple[str, ...]:
        """Return one text for each column."""
        from pmtutrace.printable import printable

        item = self.known.item
        source = f" from {item.saddr}" if item.saddr else ""
        table = "" if item.table in (0, MAIN_TABLE) else f" table {item.table}"
        return (
            printable(str(self.netns)),
            f"{item.daddr}{source}",
            f"{item.gateway or '-'}{table}",
            self.known.dev,
            str(item.mtu),
            "lock" if item.locked else "",
            "" if self.age is None else f"{self.age:.0f}s",
            "" if self.expires is None else f"{self.expires:.0f}s",
            self.origin or "-",
            text.inner(self.tunnels).removeprefix("; "),
        )


@click.command(short_help="List path MTU exceptions, or follow how they change.")
@click.option("--netns", metavar="NAME", multiple=True, help="Only this namespace (repeatable).")
@click.option("-4", "family", flag_value=4, type=int, help="Only IPv4.")
@click.option("-6", "family", flag_value=6, type=int, help="Only IPv6.")
@click.option("--watch", "follow", is_flag=True, help="Go on with a line for each change.")
@click.option("-j", "--json", "as_json", is_flag=True, help="JSON lines.")
def pmtu(netns: tuple[str, ...], family: int | None, follow: bool, as_json: bool) -> None:
    r"""List the path MTU exceptions of all network namespaces, as they are now.

    \b
    pmtutrace pmtu                   what `ip route show cache` would say, everywhere
    pmtutrace pmtu --watch           and a line for each change, until ^C
    pmtutrace pmtu -j -4 --netns edge

    Not as root, it shows what can be seen of the own namespace.
    """
    from pmtutrace.kernel import netns as namespaces
    from pmtutrace.pmtu.watch import Watch

    _make_room()
    spaces = {namespaces.inum(name) for name in netns} or None
    families = frozenset((family,) if family else (4, 6))
    with Watch(spaces, families, listen=follow and os.geteuid() == 0) as watch:
        watch.look()
        _say_what_is_unseen(watch, spaces)
        # Reading tunnels takes far longer than all else: only where there is something to tell.
        with _tunnels(wanted=follow or any(watch.now())) as inventory:
            _show(_rows(watch, inventory), as_json=as_json)
            if follow:
                with contextlib.suppress(KeyboardInterrupt):  # that is how it ends
                    _follow(watch, inventory, as_json=as_json)
                if watch.unheard:
                    click.echo(
                        f"pmtutrace: {watch.unheard} messages that arrived were not shown:"
                        " there were too many",
                        err=True,
                    )


def _make_room() -> None:
    """Allow as many open files as we may: four for each namespace."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say_what_is_unseen(watch: Watch, spaces: set[int] | None) -> None:
    from pmtutrace.errors import PrivilegeError

    if watch.unread and spaces is not None:
        raise PrivilegeError(
            f"{watch.unread} of these network namespaces may not be entered", "run it as root"
        )
    if os.geteuid() != 0:
        click.echo("pmtutrace: not all network namespaces can be seen: run it as root", err=True)
    elif watch.unread:
        click.echo(f"pmtutrace: {watch.unread} network namespaces could not be read", err=True)


@contextlib.contextmanager
def _tunnels(*, wanted: bool) -> Iterator[Inventory]:
    from pmtutrace.tunnels.inventory import Inventory

    inventory = Inventory()
    if wanted:
        inventory.start()
        inventory.wait(TUNNELS_WITHIN_S)
        if inventory.failure:
            click.echo(f"pmtutrace: {inventory.failure}", err=True)
    try:
        yield inventory
    finally:
        inventory.close()


def _rows(watch: Watch, inventory: Inventory) -> list[Row]:
    from pmtutrace.kernel import netns
    from pmtutrace.pmtu.changes import NSEC

    names = netns.names()
    rows = []
    for dump, known in watch.now():
        item = known.item
        left = None if known.deadline is None else max(0, known.deadline - dump.done) / NSEC
        # A redirect gives another life.
        lifetime = None if item.redirected else dump.lifetimes.get(item.family)
        age = None if left is None or lifetime is None else lifetime - left
        rows.append(
            Row(
                dump.done,
                names.get(dump.netns, dump.netns),
                known,
                left,
                # One that was made when `mtu_expires` was more has an age that nobody knows.
                age if age is not None and age >= 0 else None,
                inventory.inside(dump.netns, item.daddr, item.ifindex, item.mtu),
            )
        )
    return sorted(_with_origins(rows), key=Row.order)


def _with_origins(rows: list[Row]) -> list[Row]:
    """Say of exceptions that tunnels have set that they have.

    For the way that leads into it, a tunnel sets what the exception of its far end leaves inside;
    if that is below ``min_pmtu``, the kernel makes it that, and locks it.
    """
    left = {
        (row.netns, one.name): one.mtu for row in rows for one in row.tunnels if one.mtu is not None
    }

    def origin(row: Row) -> str | None:
        item, inside = row.known.item, left.get((row.netns, row.known.dev))
        set_so = inside is not None and (item.mtu == inside or (item.locked and item.mtu > inside))
        return "tunnel" if set_so else None

    return [dataclasses.replace(row, origin=origin(row)) for row in rows]


def _show(rows: list[Row], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            click.echo(json.dumps(row.json()))
    elif rows:
        for line in aligned([COLUMNS, *(row.cells() for row in rows)], TO_THE_RIGHT):
            click.echo(line)
    sys.stdout.flush()


def _follow(watch: Watch, inventory: Inventory, *, as_json: bool) -> None:
    from pmtutrace import jsonl
    from pmtutrace.kernel import netns
    from pmtutrace.tracing.devices import Devices
    from pmtutrace.tracing.naming import quoted_tunnel
    from pmtutrace.tracing.paths import Paths

    if not as_json:
        click.echo(text.HEADER)
        sys.stdout.flush()
    whose = functools.partial(quoted_tunnel, inventory)
    paths = Paths(watch, tunnel=whose, inside=inventory.inside, device=Devices().name)
    while True:
        watch.wait(SETTLING_S if paths.undecided else LONG)
        # Namespaces are opened while waiting, and have a name while they are looked at.
        names = netns.names()
        for event in paths.events(paths.read(), time.time_ns()):
            if as_json:
                click.echo(json.dumps(jsonl.event(event, names)))
            else:
                click.echo(text.line(event, names))
        sys.stdout.flush()
