"""The verb `compile`: a tracer image ahead of time, for endpoints without a compiler."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Build a tracer image ahead of time.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The image to write.",
)
@click.option(
    "--btf",
    type=click.Path(path_type=Path),
    help="BTF of the kernel that it is for (default: the running one's).",
)
@click.option("--plain", is_flag=True, help="Read kernel memory by helper calls only.")
def compile(output: Path, btf: Path | None, *, plain: bool) -> None:  # noqa: A001 -- the verb
    r"""Compile the tracer for a kernel, to be run there with `pmtutrace trace --image`.

    \b
    scp far:/sys/kernel/btf/vmlinux far.btf
    pmtutrace compile --btf far.btf -o far.image
    scp far.image far: && ssh far pmtutrace trace --image far.image
    """
    from pmtutrace.errors import ImageError, UsageError
    from pmtutrace.kernel import build, image
    from pmtutrace.kernel.symbols import write_private

    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent}", "make it, or name another file")
    data = build.build(btf, image.Options(plain=plain))
    try:
        write_private(output, data)
    except OSError as error:
        raise ImageError(f"cannot write {output}: {error.strerror}", "name another file") from error
    built = image.unseal(data)
    click.echo(
        f"{output}: {len(built.programs)} programs, {len(data) // 1024} KiB, "
        f"for the kernel with BTF {built.key['btf'][:16]}",
        err=True,
    )
