"""The verb `record`: what `trace` sees, and more, into a session on disk."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pmtutrace.cli import choice, signals, systemd
from pmtutrace.cli.choice import filter_options, tracer_options
from pmtutrace.cli.moments import DURATION, DURATION_OR_SIZE, SIZE
from pmtutrace.cli.seconds import Seconds
from pmtutrace.cli.signals import Ended, on_signal
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pmtutrace.session.recorder import Recording, Status
    from pmtutrace.tracing import Tracer
    from pmtutrace.tracing.filters import Filter

DIES_WITHIN_S = 5.0
KILLED = 128  # plus the number of the signal, as shells have it
KEPT = (
    "every",
    "rate",
    "cold",
    "interface",
    "family",
    "netns",
    "site",
    "verdict",
    "host",
    "tunnel",
)


@click.command(
    short_help="Record into a session, for the post-mortem.",
    context_settings={"allow_interspersed_args": False},
)
@click.option(
    "-w", "--write", "path", type=click.Path(path_type=Path), required=True, help="The session."
)
@click.option("-d", "--duration", type=Seconds(), help="End after DURATION seconds.")
@click.option(
    "--rotate",
    type=DURATION_OR_SIZE,
    multiple=True,
    help="Begin a new file after this time (12h) or size (100M).",
)
@click.option("--keep", type=DURATION, help="Delete sessions that are older than this (7d).")
@click.option("--max-size", type=SIZE, help="Delete the oldest when all together are larger.")
@click.option(
    "-s",
    "--snaplen",
    type=click.IntRange(0, 128),
    default=128,
    show_default=True,
    help="Octets kept of each packet.",
)
@click.option("--findings", is_flag=True, help="Say each new finding, once it is there.")
@filter_options
@tracer_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD...]")
def record(**options: Any) -> int:  # noqa: ANN401 -- whatever the options above give
    r"""Record what `trace` would show, every counter's change each second, and what is there.

    \b
    pmtutrace record -w night.pmtu                    until ^C
    pmtutrace record -w night.pmtu -- make test       around a command
    pmtutrace record -w /var/lib/pmtutrace/r.pmtu --rotate 6h --keep 14d --max-size 2G

    Exits with CMD's exit code, if there is one.
    """
    from pmtutrace.kernel import privileges
    from pmtutrace.tracing.tracer import Tracer

    privileges.require()
    recording = _recording(options)
    spaces = choice.here(options)
    wanted = choice.wanted(options, spaces)
    settings = choice.settings(options, spaces, options["snaplen"])
    ending = _Ending()
    # Around the tracer: a signal that comes late must not change the code that is passed on.
    with on_signal(ending.take), contextlib.closing(Tracer(settings)) as tracer:
        tracer.attach()
        choice.say_blind(tracer)
        followed = choice.follow_paths(tracer, spaces) is not None
        recording.options["paths"] = followed  # whether path MTUs could be followed
        tracer.start()
        return _record(tracer, wanted, recording, options, ending)


def _recording(options: dict[str, Any]) -> Recording:
    from pmtutrace.errors import UsageError
    from pmtutrace.session.recorder import Recording
    from pmtutrace.session.rotation import Rotation

    rotate = options["rotate"]
    rotation = Rotation(
        seconds=min((one for one in rotate if isinstance(one, float)), default=None),
        size=min((one for one in rotate if isinstance(one, int)), default=None),
        keep=options["keep"],
        most=options["max_size"],
    )
    if not rotation.wanted and (rotation.keep or rotation.most):
        raise UsageError(
            "--keep and --max-size are about the files of a rotation",
            "say when a new file begins, like --rotate 6h",
        )
    kept = {name: options[name] for name in (*KEPT, "snaplen")}
    return Recording(options["path"], rotation, kept, list(options["command"]) or None)


class _Ending:
    """What signals do, as a recording comes along.

    Before anything is recorded they end us. A command that was started gets the first one, and ends
    first; of ^C it has got one from the terminal. The second stops the tracer, as the first does
    where there is no command; one more ends us at once, and any other does nothing, nor does any
    once the command has ended. None of them may change the code that is passed on, so none but
    those raises.
    """

    def __init__(self) -> None:
        self._tracer: Tracer | None = None
        self._starts = False
        self._early: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._passed = self._stopped = self._over = False

    def take(self, number: int) -> None:
        """Take a signal, at any moment."""
        if self._over:
            return
        if self._tracer is None or self._stopped:
            signals.end()
        elif self._starts and self._child is None:
            self._early.append(number)
        elif self._child is not None and not self._passed:
            self._passed = True
            if number != signal.SIGINT:
                self._child.send_signal(number)
        else:
            self._stopped = True
            self._tracer.stop()

    def start(self, words: Sequence[str], tracer: Tracer) -> subprocess.Popen[bytes]:
        """Start a command; it gets what comes from now on, before it can have set a trap, too."""
        self._tracer, self._starts = tracer, True
        self._child = subprocess.Popen(words)
        for number in self._early:
            self.take(number)
        return self._child

    def over(self) -> None:
        """Let no signal do anything from now on."""
        self._over = True

    def stop(self, tracer: Tracer) -> None:
        """Have the tracer stopped from now on, where there is no command."""
        self._tracer = tracer


def _record(
    tracer: Tracer,
    wanted: Filter,
    recording: Recording,
    options: dict[str, Any],
    ending: _Ending,
) -> int:
    from pmtutrace.kernel import privileges
    from pmtutrace.session.recorder import Recorder
    from pmtutrace.tunnels.inventory import Inventory

    service = systemd.Service()  # before there are children
    inventory = Inventory()
    inventory.start()
    tracer.use(inventory)
    recorder = Recorder(tracer, inventory, wanted, recording, _say)
    began = time.monotonic()
    with _command(recording.command, tracer, ending) as child:
        # Whoever waits for the file may send to the command what it has not yet set up.
        if options["ready_file"]:
            choice.say_ready(options["ready_file"])
        privileges.keep(_rights(recording))
        service.ready()

        def alive() -> None:
            service.alive(_line(recorder.status, time.monotonic() - began))

        with (
            _lookout(recorder.status, alive, wanted=options["findings"]) as (look, let_go),
            _progress(began, quiet=child is not None) as show,
        ):

            def tick(status: Status) -> None:
                show(status)
                look(status)
                alive()

            recorder.run(options["duration"], tick, let_go)
            service.stopping()
    if not recorder.status.single:
        _say(f"{recorder.status.path}: its -wal belongs to it and could not be joined")
    _close(recorder.status, time.monotonic() - began)
    if child is None:
        return 0
    return child.returncode if child.returncode >= 0 else KILLED - child.returncode


def _rights(recording: Recording) -> frozenset[int]:
    """Return the capabilities to keep; files are made in the folder for as long as we record."""
    import os

    from pmtutrace.kernel import privileges

    if recording.path.absolute().parent.stat().st_uid == os.geteuid():
        return privileges.TRACING
    return privileges.TRACING | {privileges.CAP_DAC_OVERRIDE}


@contextlib.contextmanager
def _command(
    words: list[str] | None, tracer: Tracer, ending: _Ending
) -> Iterator[subprocess.Popen[bytes] | None]:
    """Run the command; stop the tracer at its end, end it where we end before it does."""
    from pmtutrace.errors import UsageError

    if words is None:
        ending.stop(tracer)
        yield None
        return
    try:
        child = ending.start(words, tracer)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{words[0]} cannot be run: {why}", "the command comes after `--`, with its arguments"
        ) from error

    def wait() -> None:
        child.wait()
        tracer.stop()

    waiter = threading.Thread(target=wait, name="command", daemon=True)
    waiter.start()
    try:
        yield child
    except Ended:
        pass  # the third signal; what is passed on is the command's code all the same
    finally:
        with contextlib.suppress(Ended):
            if child.poll() is None:
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(DIES_WITHIN_S)
            ending.over()
        ending.over()
        if child.poll() is None:
            child.kill()
        waiter.join()


def _say(sentence: str) -> None:
    click.echo(f"{systemd.mark(systemd.WARNING)}pmtutrace: {printable(sentence)}", err=True)


@contextlib.contextmanager
def _lookout(
    status: Status, alive: Callable[[], None], *, wanted: bool
) -> Iterator[tuple[Callable[[Status], None], Callable[[], None]]]:
    """Give what looks for findings meanwhile, and what ends a look; look once more at the end."""
    if not wanted:
        yield lambda _: None, lambda: None
        return
    from pmtutrace.cli.lookout import Lookout, told

    lookout = Lookout(told, _say)
    try:
        yield lookout.tick, lookout.let_go
    finally:
        lookout.close(status, alive)


@contextlib.contextmanager
def _progress(began: float, *, quiet: bool) -> Iterator[Callable[[Status], None]]:
    """Give what shows how far we are, on a terminal that nobody else writes to."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True, markup=False, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda status: live.update(
            Text(_line(status, time.monotonic() - began)), refresh=True
        )


def _line(status: Status, seconds: float) -> str:
    """Return how far a recording is: time, drops by verdict, path MTU changes, size, losses."""
    minutes, rest = divmod(int(seconds), 60)
    verdicts = ", ".join(f"{number} {word}" for word, number in sorted(status.verdicts.items()))
    parts = [
        f"{minutes // 60}:{minutes % 60:02}:{rest:02}",
        f"{status.verdicts.total()} drops" + (f" ({verdicts})" if verdicts else ""),
        f"{status.path_changes} path MTU changes",
        f"{status.size / 1e6:.1f} MB" + (", disk full" if status.full else ""),
    ]
    if lost := status.losses.total():
        parts.append(f"{lost} lost")
    return "  ".join(parts)


def _close(status: Status, seconds: float) -> None:
    """Say what was recorded, where somebody looks."""
    if sys.stderr.isatty():
        click.echo(f"{printable(str(status.path))}: {_line(status, seconds)}", err=True)
