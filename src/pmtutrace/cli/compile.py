"""The verb `compile`: a tracer image ahead of time, for endpoints without a compiler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pmtutrace.kernel.image import Image


@click.command(short_help="Build a tracer image ahead of time.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The image to write.",
)
@click.option(
    "--btf",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="BTF of the kernel that it is for (default: the running one's).",
)
@click.option(
    "--kallsyms",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="That kernel's /proc/kallsyms: say which hooks will hold there.",
)
@click.option("--plain", is_flag=True, help="Read kernel memory by helper calls only.")
def compile(output: Path, btf: Path | None, kallsyms: Path | None, *, plain: bool) -> None:  # noqa: A001 -- the verb
    r"""Compile the tracer for a kernel, to be run there with `pmtutrace trace --image`.

    \b
    scp far:/sys/kernel/btf/vmlinux far.btf
    pmtutrace compile --btf far.btf -o far.image
    scp far.image far: && ssh far pmtutrace trace --image far.image
    """
    from pmtutrace import paths
    from pmtutrace.errors import ImageError, UsageError
    from pmtutrace.kernel import build, image

    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent}", "make it, or name another file")
    lines = _listing(kallsyms) if kallsyms else b""
    data = build.build(btf, image.Options(plain=plain))
    try:
        paths.write_private(output, data)
    except OSError as error:
        raise ImageError(f"cannot write {output}: {error.strerror}", "name another file") from error
    built = image.unseal(data)
    click.echo(
        f"{output}: {len(built.programs)} programs, {len(data) // 1024} KiB, "
        f"for the kernel with BTF {built.key['btf'][:16]}",
        err=True,
    )
    if kallsyms:
        _forecast(built, lines)


def _listing(path: Path) -> bytes:
    from pmtutrace.errors import UsageError

    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", "copy /proc/kallsyms from there, as root"
        ) from error


def _forecast(built: Image, kallsyms: bytes) -> None:
    """Say by which rung each hook will be attached at best; what the kernel refuses shows there."""
    from pmtutrace.kernel import plan, symbols
    from pmtutrace.kernel.hooks import FUNCTIONS, HOOKS
    from pmtutrace.kernel.ladder import How

    ways: dict[How, plan.Support] = {
        "tracepoint": plan.Support(None),
        "kprobe": plan.Support(None),
        "kretprobe": plan.Support(None),
        "fentry": plan.Support(None),
        "fexit": plan.Support(None),
    }
    there = frozenset(piece.symbol for piece in symbols.find(kallsyms, FUNCTIONS))
    features = plan.Features(ways, built.tracepoints, built.functions, there)
    for step in plan.plan(HOOKS, features):
        best = step.rungs[0].name if step.rungs else f"nothing: blind to {step.hook.blind}"
        if step.waits:
            best = f"waits for module {step.hook.module}"
        click.echo(f"{step.hook.name:13} {best}", err=True)
