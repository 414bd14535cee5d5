"""The outermost frame: verbs, exit codes, errors, signals and streams."""

import os
import re
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from pmtutrace import errors
from pmtutrace.cli import main, signals, verbs
from pmtutrace.cli.main import complain
from pmtutrace.tracing import usual

COMMAND = (sys.executable, "-m", "pmtutrace.cli.main")


def run(*words, **more):
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, check=False, text=True, timeout=60, **more
    )


@pytest.mark.parametrize("verb", verbs.VERBS)
def test_every_verb_is_there_and_has_help(verb):
    done = CliRunner().invoke(verbs.cli, [verb, "--help"], prog_name="pmtutrace")
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"Usage: pmtutrace {verb} ")


def test_help_lists_every_verb():
    done = CliRunner().invoke(verbs.cli, ["--help"])
    for verb, (_, what) in verbs.VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(what)}$", done.output, re.M)
    assert "77 this kernel cannot" in " ".join(done.output.split())


@pytest.mark.parametrize("words", [[], ["-i", "gre1"], ["--debug"], ["--debug", "-4"], ["-c", "5"]])
def test_trace_is_the_default(words, monkeypatch):
    seen = []
    monkeypatch.setattr(
        verbs.Verbs, "get_command", lambda self, ctx, name: seen.append(name) or None
    )
    CliRunner().invoke(verbs.cli, words)
    assert seen == ["trace"]


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["-h"]])
def test_what_is_for_all_verbs_is_not_for_trace(words):
    done = CliRunner().invoke(verbs.cli, words, prog_name="pmtutrace")
    assert done.exit_code == 0
    assert "Usage: pmtutrace trace" not in done.output


ERRORS = [
    (errors.UsageError, 2),
    (errors.PrivilegeError, 1),
    (errors.CompilerError, 1),
    (errors.ImageError, 1),
    (errors.LoadError, 1),
    (errors.LabError, 1),
    (errors.SessionError, 1),
    (errors.VmError, 1),
    (errors.NotSupported, 77),
]


@pytest.mark.parametrize(("kind", "code"), ERRORS)
def test_an_error_is_a_line_a_hint_and_a_code(kind, code, capsys):
    assert complain(kind("it broke", "mend it")) == code
    assert capsys.readouterr() == ("", "pmtutrace: it broke\nhint: mend it\n")


def test_every_error_is_in_the_list_and_in_the_drawing():
    kinds = set(errors.PmtutraceError.__subclasses__())
    assert kinds == {kind for kind, _ in ERRORS}
    for kind, code in ERRORS:
        assert re.search(rf"── {kind.__name__} +{code} ", errors.__doc__)


def test_without_a_hint_of_its_own_there_is_one(capsys):
    complain(errors.LoadError("it broke"))
    assert capsys.readouterr().err.splitlines()[1].startswith("hint: `pmtutrace doctor`")


def test_hostile_words_in_an_error_are_escaped(capsys):
    complain(errors.UsageError("no such thing: \x1b[2J\n", "there are \u202e, \udcff"))
    out = capsys.readouterr().err
    assert out == "pmtutrace: no such thing: \\x1b[2J\\n\nhint: there are \\u202e, \\udcff\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nonsense"], "No such option"),
        (["tarce"], "No such command 'tarce'"),
        (["trace", "-c"], "requires an argument"),
        (["trace", "-c", "x"], "'x'"),
        (["trace", "more", "words"], "unexpected extra argument"),
        (["compile"], "'-o' / '--output'"),
        (["\x1b[2J"], r"\x1b[2J"),
    ],
)
def test_what_click_refuses_comes_out_like_any_error(words, said):
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("pmtutrace: ")
    assert said in first
    assert re.fullmatch(r"hint: see `pmtutrace( \w+)? --help`", second)


def test_a_group_without_a_verb_shows_its_help():
    done = run("lab")
    assert done.returncode == 2
    assert "Usage: pmtutrace lab" in done.stderr


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_do_no_harm(closed):
    """Nothing that is opened later may take their numbers."""

    def close():
        for number in closed:
            os.close(number)

    assert run("--version", preexec_fn=close).returncode == 0


def test_a_narrow_encoding_is_no_failure():
    program = (
        "from pmtutrace.cli import streams; streams.settle(); print('3 \\xd7 \\xfc \\udcff')\n"
        "import sys; print('\\xd7', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"3 \\xd7 \\xfc \\udcff\n"


class TestSignals:
    """The first asks to stop, the second ends at once, and what was before comes back."""

    @pytest.fixture(autouse=True)
    def handlers(self, monkeypatch):
        monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
        before = {number: signal.getsignal(number) for number in signals.ENDS}
        yield before
        for number, handler in before.items():
            signal.signal(number, handler)

    @pytest.mark.parametrize("number", signals.ENDS)
    def test_the_first_stops_the_second_raises(self, number):
        stops = []
        with signals.on_interrupt(lambda: stops.append(1)):
            signal.raise_signal(number)
            assert stops == [1]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert stops == [1]

    def test_what_was_before_comes_back(self, handlers):
        with signals.on_interrupt(lambda: None):
            assert signal.getsignal(signal.SIGTERM) != handlers[signal.SIGTERM]
        assert {n: signal.getsignal(n) for n in signals.ENDS} == handlers

    def test_nohup_is_heeded_and_background_jobs_of_scripts_can_be_interrupted(self):
        for number in signals.ENDS:
            signal.signal(number, signal.SIG_IGN)
        stops = []
        with signals.on_interrupt(lambda: stops.append(1)):
            signal.raise_signal(signal.SIGHUP)
            assert stops == []
            signal.raise_signal(signal.SIGINT)
            assert stops == [1]
        signals.raise_at_end()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    def test_one_that_was_caught_does_not_kill_in_the_end(self):
        """Python does so where a plain KeyboardInterrupt passed through exec()."""
        program = (
            "import signal\nfrom pmtutrace.cli import signals\nsignals.raise_at_end()\n"
            "try:\n    exec('signal.raise_signal(signal.SIGINT)')\nexcept KeyboardInterrupt:\n"
            "    print('caught')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=False, text=True
        )
        assert (done.returncode, done.stdout) == (0, "caught\n")

    def test_what_is_closed_because_of_one_is_not_disturbed_by_another(self):
        signals.raise_at_end()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        for number in signals.ENDS:
            signal.raise_signal(number)

    # A second one that comes right then may not take away what the first has begun.
    AGAIN = (
        "timed = signal.setitimer\n"
        "def setitimer(*words):\n    signal.raise_signal(signal.SIGTERM)\n    timed(*words)\n"
        "signal.setitimer = setitimer\n"
    )

    @pytest.mark.parametrize("again", ["", AGAIN], ids=["once", "twice"])
    def test_where_it_cannot_be_raised_it_is_a_moment_later(self, again):
        """As in C code that calls Python, and has no way to pass on what happens there."""
        program = (
            "import signal, time, weakref\nfrom pmtutrace.cli import signals\n"
            f"signals.raise_at_end()\nclass Any: pass\nany = Any()\n{again}"
            "gone = weakref.ref(any, lambda _: signal.raise_signal(signal.SIGTERM))\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
            "try:\n    del any\n    print('later')\n"
            "    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])\n    time.sleep(60)\n"
            "except KeyboardInterrupt:\n    print('caught')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=False, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "later\ncaught\n", "")

    def test_nothing_disturbs_the_end(self):
        alarm = signal.getsignal(signal.SIGALRM)
        signals.ignore()
        try:
            for number in (*signals.ENDS, signal.SIGALRM):
                signal.raise_signal(number)
        finally:
            signal.signal(signal.SIGALRM, alarm)


@pytest.mark.parametrize(
    ("words", "begun"),
    [
        ("", True),
        ("trace -j", True),
        ("record -w x", True),
        ("-i gre1", True),
        ("--debug trace", True),
        ("--debug", True),
        ("report x.pmtu", False),
        ("--debug doctor", False),
        ("trace --help", False),
        ("-h", False),
        ("--version", False),
        ("trace --image x", False),
        ("trace --image=x", False),
        ("--extcap-interfaces", False),
    ],
)
def test_an_image_is_begun_only_for_what_traces(words, begun, monkeypatch):
    calls = []
    monkeypatch.setattr(usual, "begin", lambda: calls.append(words))
    monkeypatch.setattr(main.os, "geteuid", lambda: 0)
    main._begin(words.split())
    assert calls == [words] * begun
    monkeypatch.setattr(main.os, "geteuid", lambda: 1000)
    main._begin(words.split())
    assert calls == [words] * begun
