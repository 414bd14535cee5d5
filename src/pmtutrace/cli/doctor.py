"""The verb `doctor`: what works on this kernel, what is blind, and what to do about it."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pmtutrace.kernel.loader import Attached


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that tracing stands on: whether it is there, what was found, how to get it."""

    name: str
    ok: bool
    found: str
    hint: str = ""


def _bcc() -> Check:
    from pmtutrace.errors import CompilerError
    from pmtutrace.kernel import compiler

    try:
        return Check("bcc", True, compiler.version())
    except CompilerError as error:
        return Check("bcc", False, error.message, error.hint)


def _libraries() -> Check:
    from pmtutrace.errors import LoadError
    from pmtutrace.kernel import libbpf

    try:
        return Check("libbpf", True, libbpf.versions())
    except LoadError as error:
        return Check("libbpf", False, error.message, error.hint)


def _btf() -> Check:
    path = Path("/sys/kernel/btf/vmlinux")
    if path.exists():
        return Check("BTF", True, f"{path}, {path.stat().st_size // 1024} KiB")
    return Check(
        "BTF", False, f"no {path}", "use a kernel with CONFIG_DEBUG_INFO_BTF=y, or give --btf FILE"
    )


def _tool(name: str, package: str, what: str) -> Check:
    found = shutil.which(name)
    return Check(name, bool(found), found or f"not found ({what})", f"apt install {package}")


def checks() -> list[Check]:
    """Look at everything outside the kernel's hooks."""
    return [
        _bcc(),
        _libraries(),
        _btf(),
        _tool("ip", "iproute2", "only the lab needs it"),
        _tool("nft", "nftables", "only the lab needs it"),
        _tool("qemu-system-x86_64", "qemu-system-x86", "only `pmtutrace vm` needs it"),
    ]


def _row(attached: Attached) -> dict[str, Any]:
    rung = None if attached.waits else attached.rung
    return {
        "type": "hook",
        "hook": attached.hook.name,
        "attached": rung.name if rung else None,
        "waits_for": attached.hook.module if attached.waits else None,
        "on": [f"{a.how}:{a.target}" for a in rung.attachments] if rung else [],
        "tells": attached.hook.tells,
        "cost": attached.cost,
        "blind": attached.blind or None,
        "refused": [{"rung": name, "reason": reason} for name, reason in attached.refused],
    }


def _print(kernel: str, found: list[Check], rows: list[dict[str, Any]]) -> None:
    click.echo(f"kernel {kernel}\n")
    for check in found:
        click.echo(f"{'ok' if check.ok else 'MISSING':8} {check.name:20} {check.found}")
        if not check.ok:
            click.echo(f"{'':8} hint: {check.hint}")
    if rows:
        click.echo(f"\n{'HOOK':13} {'ATTACHED BY':12} {'COST':5} TELLS")
    for row in rows:
        by = row["attached"] or ("waiting" if row["waits_for"] else "nothing")
        click.echo(f"{row['hook']:13} {by:12} {row['cost']:5} {row['tells']}")
        if row["waits_for"]:
            click.echo(f"{'':13} for module {row['waits_for']} to be loaded")
            continue
        if row["blind"]:
            click.echo(f"{'':13} blind: {row['blind']}")
        for refused in row["refused"]:
            click.echo(f"{'':13} not by {refused['rung']}: {refused['reason']}")


@click.command(short_help="Say what works on this kernel.")
@click.option("-j", "--json", "as_json", is_flag=True, help="JSON lines.")
@click.option("--cold", is_flag=True, help="As `trace --cold` attaches.")
def doctor(*, as_json: bool, cold: bool) -> int:
    """Attach everything once, and say what works here, what is blind, and what to install.

    Exits 0 if tracing works, else as `trace` would.
    """
    from pmtutrace.cli.main import complain
    from pmtutrace.errors import PmtutraceError
    from pmtutrace.tracing import Tracer
    from pmtutrace.tracing.settings import Settings

    kernel, found = platform.release(), checks()
    rows: list[dict[str, Any]] = []
    failure: PmtutraceError | None = None
    try:
        with Tracer(Settings(cold=cold)) as tracer:
            rows = [_row(attached) for attached in tracer.attached]
    except PmtutraceError as error:
        failure = error
    if as_json:
        for check in found:
            line = {"type": "check", "name": check.name, "ok": check.ok, "found": check.found}
            click.echo(json.dumps(line | {"hint": check.hint if not check.ok else None}))
        for row in rows:
            click.echo(json.dumps(row))
        click.echo(json.dumps({"type": "doctor", "kernel": kernel, "traces": failure is None}))
    else:
        _print(kernel, found, rows)
    return complain(failure) if failure else 0
