"""Starting loads programs in the background: what is refused there, and what is left of it."""

import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from traced import COMMAND, end

from pmtutrace.errors import LoadError, NotSupported, PmtutraceError
from pmtutrace.kernel import libbpf
from pmtutrace.kernel.ahead import Ahead
from pmtutrace.kernel.image import Image
from pmtutrace.tracing.tracer import Settings, Tracer

pytestmark = pytest.mark.live
UNREAD = bytes.fromhex("9500000000000000")  # exit, and nothing was put into r0
SAID = "R0 !read_ok"


def held():
    """Return the descriptors that this process has, and of how many of them are of programs."""
    programs, there = 0, set()
    for entry in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists the others
            programs += "prog_tag:" in entry.read_text()
            there.add(entry.name)
    return there, programs


@pytest.fixture(autouse=True)
def nothing_is_left():
    with Tracer(Settings(netns=set())):
        pass  # what is opened once and for all
    gc.collect()  # what other tests have left
    before = held()
    threads = set(threading.enumerate())
    yield
    assert held() == before
    assert set(threading.enumerate()) == threads


@pytest.fixture
def spoil(monkeypatch):
    """Have the kernel refuse programs, by name: they are none."""

    def spoiled(*names, plain=True):
        linked = Image.bytecode

        def bytecode(image, program, map_fds):
            hit = program.name in names and (plain or image.tp_btf)
            return UNREAD if hit else linked(image, program, map_fds)

        monkeypatch.setattr(Image, "bytecode", bytecode)

    return spoiled


def rung(tracer, hook):
    return next(a for a in tracer.attached if a.hook.name == hook)


@pytest.mark.parametrize("plain", [False, True])
def test_a_program_that_is_needed_and_refused(plain, spoil):
    spoil("kfree_skb")
    with (
        pytest.raises(LoadError, match="hook drop cannot be attached: tracepoint") as caught,
        Tracer(Settings(netns=set(), plain=plain)),
    ):
        pass
    assert SAID in caught.value.message


def test_what_only_reads_directly_is_loaded_once_more_with_helper_calls(spoil):
    spoil("kfree_skb", plain=False)
    with Tracer(Settings(netns=set())) as tracer:
        assert not tracer.image.tp_btf
        assert rung(tracer, "drop").rung is not None
        assert set(tracer.losses().values()) == {0}


def test_a_program_that_is_refused_and_not_needed(spoil):
    with Tracer(Settings(netns=set())) as whole:
        before = {a.hook.name: a.rung for a in whole.attached}
        names = set(whole.run_times())
    spoil("netif_rx")
    with Tracer(Settings(netns=set())) as tracer:
        ended = rung(tracer, "tunnel_check")
        assert ended.rung is None
        assert [SAID in why for _, why in ended.refused] == [True]
        assert {a.hook.name: a.rung for a in tracer.attached} == before | {"tunnel_check": None}
        assert set(tracer.run_times()) == names - {"netif_rx"}


def test_what_was_loaded_for_a_rung_that_does_not_hold_is_let_go_of(spoil):
    """The other program of the rung is loaded already when the first of them is refused."""
    spoil("neigh_event_send_done")
    _, others = held()  # tracers of tests that ran before may still be there
    with Tracer(Settings(netns=set())) as tracer:
        assert rung(tracer, "waiting").rung is None
        assert len(rung(tracer, "waiting").refused) >= 2
        names = tracer.run_times().keys()
        assert "qdisc_enqueue" not in names
        loaded = len(list(tracer._kernel.loader.programs()))
        links = sum(map(len, tracer._kernel.loader._links.values()))
        assert held()[1] - others == loaded + links


def test_all_that_was_begun_and_never_started_ends():
    with contextlib.closing(Tracer(Settings(netns=set()))) as tracer:
        tracer.begin()
        tracer.begin()
        assert tracer.poll() == []
        with pytest.raises(NotSupported):
            tracer.losses()


def test_begun_and_started_it_is_as_if_started_at_once():
    with contextlib.closing(Tracer(Settings(netns=set()))) as tracer:
        tracer.begin()
        tracer.start()
        begun = tracer.attached
    with Tracer(Settings(netns=set())) as tracer:
        assert tracer.attached == begun


def test_an_interrupt_while_the_tracer_waits_for_a_program(monkeypatch):
    """A signal that comes while it waits for the longest one."""
    loads, takes = libbpf.prog_load, Ahead.take
    waits, go_on = threading.Event(), threading.Event()

    def prog_load(kind, name, *rest, **options):
        if name == "kfree_skb":
            go_on.wait(10)
        return loads(kind, name, *rest, **options)

    def take(ahead, key):
        if "kfree_skb" in str(key):
            waits.set()
        return takes(ahead, key)

    def interrupt():
        waits.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        go_on.set()

    monkeypatch.setattr(libbpf, "prog_load", prog_load)
    monkeypatch.setattr(Ahead, "take", take)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupting = threading.Thread(target=interrupt)
    try:
        with contextlib.closing(Tracer(Settings(netns=set()))) as tracer:
            tracer.begin()
            interrupting.start()
            with pytest.raises(KeyboardInterrupt):
                tracer.start()
    finally:
        signal.signal(signal.SIGINT, before)
        interrupting.join()


@pytest.mark.parametrize("wrong", [errno.EPERM, errno.EACCES, errno.EINVAL])
def test_settings_that_cannot_be_written_while_programs_are_loaded(wrong, monkeypatch):
    def refuse(*_):
        raise OSError(wrong, os.strerror(wrong))

    monkeypatch.setattr(libbpf, "map_update", refuse)
    kind = "PrivilegeError" if wrong != errno.EINVAL else "LoadError"
    with pytest.raises(Exception, match=r"BPF may not be used|Invalid argument") as caught:
        Tracer(Settings(netns=set())).start()
    assert type(caught.value).__name__ == kind


ENDED = """
import os, signal
from pmtutrace.cli import choice, main
def end():
    os.kill(os.getpid(), signal.{number})
choice.import_paths = end
main.main(["trace"])
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_command_is_ended_between_loading_and_attaching(number):
    done = subprocess.run(
        [sys.executable, "-c", ENDED.format(number=number)],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (0, b"", b"")


REFUSED = """
import os, sys
from pmtutrace.cli import main
from pmtutrace.kernel import libbpf
libbpf.raw_tracepoint_open = libbpf.attach_kprobe = lambda *_, **__: os._exit(99)
main.main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    "words",
    [
        ("--host", "300.1.2.3"),
        ("--site", "ip_backward"),
        ("-i", "nothing0"),
        ("--netns", "nowhere"),
        ("--rate", "0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_attached(words):
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, "trace", *words], capture_output=True, check=False
    )
    assert done.returncode == 2
    assert words[1] in done.stderr.decode()


@pytest.mark.parametrize("others", [0, 1])
def test_images_are_built_with_and_without_other_threads(others, tmp_path, monkeypatch):
    monkeypatch.setenv("PMTUTRACE_CACHE", str(tmp_path))
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(others)]
    for thread in threads:
        thread.start()
    called = []
    try:
        with contextlib.closing(Tracer(Settings(netns=set()))) as tracer:
            tracer.begin(lambda: called.append("meanwhile"))
            tracer.start()
            assert tracer.holds("drop")
        assert called == ["meanwhile"]
        with contextlib.closing(Tracer(Settings(netns=set()))) as tracer:
            tracer.begin(lambda: called.append("again"))
            tracer.start()
        assert called == ["meanwhile"]  # it was in the cache
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(list((tmp_path / "images").iterdir())) == 1


def test_a_build_that_fails_says_the_same_with_and_without_other_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("PMTUTRACE_CACHE", str(tmp_path))
    btf = tmp_path / "btf"
    btf.write_bytes(b"no BTF at all, but long enough for a header")
    said = []
    for others in (0, 1):
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        if others:
            thread.start()
        try:
            with pytest.raises(PmtutraceError) as caught, Tracer(Settings(btf=btf)):
                pass
        finally:
            stop.set()
            if others:
                thread.join()
        said.append((type(caught.value).__name__, caught.value.message, caught.value.hint))
    assert said[0] == said[1]
    assert "is not BTF" in said[0][1]


def test_being_stopped_and_continued_while_programs_are_loaded():
    """The verifier gives up where a signal is pending."""
    child = subprocess.Popen([*COMMAND, "trace", "-d", "0.1"], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(60):
            child.send_signal(signal.SIGSTOP)
            time.sleep(0.001)
            child.send_signal(signal.SIGCONT)
            time.sleep(0.009)
        _, said = child.communicate(timeout=60)
    finally:
        end(child)
    assert child.returncode == 0, said
    assert "cannot be attached" not in said
