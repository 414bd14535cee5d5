"""The command line: finds the verb, runs it, and turns errors into one line and a hint."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from pmtutrace import __version__
from pmtutrace.errors import PmtutraceError

if TYPE_CHECKING:
    from collections.abc import Sequence

# verb -> (module that holds a click command of the same name, its line in --help). The modules are
# imported only when used: `trace` must be ready in a fraction of a second.
VERBS = {
    "trace": ("pmtutrace.cli.trace", "Show oversize packets as they are dropped (the default)."),
    "doctor": ("pmtutrace.cli.doctor", "Say what works on this kernel, what is blind, what to do."),
    "demo": ("pmtutrace.cli.demo", "Build a lab, let packets vanish, trace and explain it."),
    "lab": ("pmtutrace.cli.lab", "List or run the scenarios, one by one."),
    "vm": ("pmtutrace.cli.vm", "Fetch and run stock kernels under QEMU."),
    "compile": ("pmtutrace.cli.compile", "Build a tracer image ahead of time."),
}
DEFAULT = "trace"


class Verbs(click.Group):
    """A click group whose verbs are imported on use, with `trace` as the default."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its command."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(VERBS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of verbs without importing any of them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default verb in front where none is named."""
        own = {"--help", "-h", "--version", "--debug"}
        at = next((i for i, word in enumerate(args) if word != "--debug"), len(args))
        if at == len(args) or (args[at] not in own and args[at].startswith("-")):
            args = [*args[:at], DEFAULT, *args[at:]]
        return super().parse_args(ctx, args)


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 --fail-on matched, 4 lost data under --strict, "
    "77 this kernel cannot.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """See oversize packets die in tunnels, and whether their senders were told."""


def complain(error: PmtutraceError) -> int:
    """Print an error as one line and one hint; return its exit code."""
    click.echo(f"pmtutrace: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    return error.exit_code


def main(arguments: Sequence[str] | None = None) -> Any:  # noqa: ANN401 -- never returns
    """Run the command line and exit with the code that the help names: 0, 1, 2, 3, 4 or 77."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(args=words, prog_name="pmtutrace", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 2
    except click.Abort:
        code = 0  # ^C is a way to end, not a failure
    except BrokenPipeError:
        # The reader has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except PmtutraceError as error:
        if "--debug" in words:
            raise
        code = complain(error)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
