"""The verb `probe`: an active check of the path MTU to destinations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pmtutrace.printable import printable

if TYPE_CHECKING:
    from pmtutrace.probing import Result, Wanted

NOT_FINE = 3
HEADER = f"{'DESTINATION':22} {'MTU':>5} {'KERNEL':>6} {'DEVICE':15} {'RTT':>8} VERDICT"


@click.command(short_help="Check the path MTU to destinations.")
@click.argument("dests", nargs=-1, required=True, metavar="DEST...")
@click.option("--tunnel", metavar="NAME", help="Leave by this tunnel, and check the path below it.")
@click.option("-4", "four", is_flag=True, help="Only IPv4 addresses of names.")
@click.option("-6", "six", is_flag=True, help="Only IPv6 addresses of names.")
@click.option("-j", "--json", "as_json", is_flag=True, help="One JSON object per destination.")
def probe(
    dests: tuple[str, ...], tunnel: str | None, *, four: bool, six: bool, as_json: bool
) -> int:
    """Find the longest packet that reaches DEST, and compare it with what the kernel believes.

    Sends packets of many lengths with DF set: ICMP echo, and UDP where that is not permitted or
    not answered. Needs no root.

    Exits with 3 if a path is not fine, else with 1 if a destination does not answer.
    """
    from pmtutrace.errors import UsageError
    from pmtutrace.probing import check, probe_all

    if four and six:
        raise UsageError("-4 and -6 leave nothing", "give one of them")
    for dest in dests:
        check(dest)
    wanted = _wanted(tunnel, 4 if four else 6 if six else None)
    if not as_json:
        click.echo(HEADER)
    verdicts = set()
    for result in probe_all(dests, wanted):
        verdicts.add(result.verdict)
        if as_json:
            click.echo(json.dumps(result.json()))
        else:
            _show(result)
    if verdicts - {"fine", "no_answer"}:
        return NOT_FINE
    return 1 if "no_answer" in verdicts else 0


def _wanted(name: str | None, version: int | None) -> Wanted:
    """Find the tunnel by its name among those of this namespace."""
    from pmtutrace.errors import UsageError
    from pmtutrace.probing import Wanted, tunnels

    known = tunnels()
    if name is None:
        return Wanted(version, None, known)
    for tunnel in known.values():
        if tunnel.name == name:
            return Wanted(version, tunnel, known)
    names = ", ".join(sorted(tunnel.name for tunnel in known.values())[:12])
    raise UsageError(
        f"no tunnel here is called {name!r}",
        f"tunnels here: {names}" if names else "there are no tunnels in this network namespace",
    )


def _show(result: Result) -> None:
    """Print one aligned line, and below it what to do where it is not well."""
    path = result.path
    mtu = kernel = device = rtt = ""
    if path:
        mtu = f"{path.mtu}" if path.settled else f"≥{path.mtu}"
        kernel = str(path.before.mtu)
        device = f"{printable(path.before.dev)} {path.before.dev_mtu}"
    if result.rtt is not None:
        rtt = f"{result.rtt * 1000:.1f} ms"
    verdict = result.verdict.replace("_", " ")
    found = f": {printable(result.judgement.found)}" if result.judgement.found else ""
    dest = printable(result.dest)
    click.echo(f"{dest:22} {mtu:>5} {kernel:>6} {device:15} {rtt:>8} {verdict}{found}")
    if result.judgement.hint:
        click.echo(f"{'':22} hint: {printable(result.judgement.hint)}")
