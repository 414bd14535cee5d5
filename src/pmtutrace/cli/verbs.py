"""The verbs: which module holds each, `trace` where none is named, and an end when nobody reads."""

from __future__ import annotations

import importlib
from typing import Any

import click

from pmtutrace import __version__
from pmtutrace.cli import streams

# verb -> (module that holds a click command of the same name, its line in --help). The modules are
# imported only when used: `trace` must be ready in a fraction of a second.
VERBS = {
    "trace": ("pmtutrace.cli.trace", "Show oversize packets as they are dropped (the default)."),
    "record": ("pmtutrace.cli.record", "Record into a session, for the post-mortem."),
    "print": ("pmtutrace.cli.print", "Show the events of a session."),
    "report": ("pmtutrace.cli.report", "Say what happened, why, and what to do."),
    "export": ("pmtutrace.cli.export", "Write a session in the format of another tool."),
    "extcap": ("pmtutrace.cli.extcap", "Show drops live in Wireshark."),
    "pmtu": ("pmtutrace.cli.pmtu", "List path MTU exceptions, or follow how they change."),
    "probe": ("pmtutrace.cli.probe", "Check the path MTU to destinations, actively."),
    "doctor": ("pmtutrace.cli.doctor", "Say what works on this kernel, what is blind, what to do."),
    "demo": ("pmtutrace.cli.demo", "Build a lab, let packets vanish, trace and explain it."),
    "lab": ("pmtutrace.cli.lab", "List or run the scenarios, one by one."),
    "vm": ("pmtutrace.cli.vm", "Fetch and run stock kernels under QEMU."),
    "compile": ("pmtutrace.cli.compile", "Build a tracer image ahead of time."),
}
DEFAULT = "trace"
EXTCAP = "extcap"  # the default where Wireshark calls us by a link in its folder


class Verbs(click.Group):
    """A click group whose verbs are imported on use, with `trace` as the default."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        """Return the verbs in the order of the table."""
        return list(VERBS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 -- click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """Import the verb's module and return its command."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(VERBS[cmd_name][0]), cmd_name)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 -- click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the table of verbs without importing any of them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default verb in front where none is named."""
        own = {"--help", "-h", "--version", "--debug"}
        at = next((i for i, word in enumerate(args) if word != "--debug"), len(args))
        if at == len(args) or (args[at] not in own and args[at].startswith("-")):
            wireshark = any(word.startswith("--extcap-") for word in args)
            args = [*args[:at], EXTCAP if wireshark else DEFAULT, *args[at:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 -- whatever the verb returns
        """Run the verb; once the reader has seen enough, that is a way to end, not a failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Caught here because click would make exit code 1 of it.
            streams.give_up()
            return 0
        except KeyboardInterrupt:
            # Caught here because click would end a line even where nobody has typed ^C.
            streams.end_line()
            return 0


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 --fail-on matched or a path is not fine, "
    "4 lost data under --strict, 77 this kernel cannot.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """See oversize packets die in tunnels, and whether their senders were told."""
