"""Programs loaded in the background: whoever takes one has it, and nothing else is left."""

import os
import queue
import signal
import threading
import time

import pytest

from pmtutrace.kernel.ahead import Ahead


class Kernel:
    """Loads by opening descriptors; what is gated waits until it is let through."""

    def __init__(self):
        self.order, self.opened, self.by = [], [], {}
        self.begun = queue.SimpleQueue()
        self.gate = threading.Event()

    def load(self, name, *, gated=False, refused=None):
        def load():
            self.order.append(name)
            self.by[name] = threading.current_thread()
            self.begun.put(name)
            if gated:
                assert self.gate.wait(10)
            if refused:
                raise refused
            fd = os.open(os.devnull, os.O_RDONLY)
            self.opened.append(fd)
            return fd

        return load

    def still_open(self):
        return [fd for fd in self.opened if os.path.exists(f"/proc/self/fd/{fd}")]  # noqa: PTH110


@pytest.fixture
def kernel():
    return Kernel()


def loading():
    return [thread for thread in threading.enumerate() if thread.name.startswith("load ")]


def test_they_are_begun_in_order_and_stay_with_who_takes_them(kernel):
    ahead = Ahead({name: kernel.load(name) for name in "cabd"}, workers=1)
    ahead.start()
    assert [kernel.begun.get(timeout=10) for _ in range(4)] == list("cabd")
    taken = [ahead.take(name) for name in "dab"]
    ahead.close()
    assert sorted(kernel.still_open()) == sorted(taken)
    for fd in taken:
        os.close(fd)
    assert loading() == []


def test_what_nobody_has_begun_is_loaded_by_who_asks(kernel):
    ahead = Ahead({"long": kernel.load("long", gated=True), "b": kernel.load("b")}, workers=1)
    ahead.start()
    assert kernel.begun.get(timeout=10) == "long"
    os.close(ahead.take("b"))
    assert kernel.by["b"] is threading.current_thread()
    kernel.gate.set()
    os.close(ahead.take("long"))
    assert kernel.by["long"] is not threading.current_thread()
    assert ahead.take("long") is ahead.take("nothing") is None
    ahead.close()
    assert kernel.order == ["long", "b"]


@pytest.mark.parametrize("begun", [True, False])
def test_what_was_refused_is_refused_when_it_is_taken(begun, kernel):
    no = OSError(22, "Invalid argument", "R0 !read_ok")
    ahead = Ahead({"a": kernel.load("a", refused=no), "b": kernel.load("b")}, workers=2)
    if begun:
        ahead.start()
    with pytest.raises(OSError, match="Invalid") as caught:
        ahead.take("a")
    assert caught.value is no
    assert ahead.take("a") is None
    ahead.close()
    assert kernel.still_open() == []


def test_closing_begins_no_more_and_waits_for_what_was_begun(kernel):
    ahead = Ahead({name: kernel.load(name, gated=name != "a") for name in "abcdef"}, workers=2)
    ahead.start()
    while set(kernel.order) != set("abc"):
        kernel.begun.get(timeout=10)

    def open_the_gate():
        while ahead._waiting:
            time.sleep(0.001)
        kernel.gate.set()

    threading.Thread(target=open_the_gate, daemon=True).start()
    ahead.close()
    ahead.close()
    assert set(kernel.order) == set("abc")
    assert len(kernel.opened) == 3
    assert kernel.still_open() == []
    assert loading() == []


def test_without_room_for_a_thread_it_is_as_if_nothing_had_been_begun(kernel, monkeypatch):
    def none(*_):
        raise RuntimeError("can't start new thread")

    ahead = Ahead({name: kernel.load(name) for name in "ab"})
    monkeypatch.setattr(threading, "_start_new_thread", none)
    ahead.start()
    os.close(ahead.take("b"))
    ahead.close()
    assert kernel.order == ["b"]


def test_who_is_interrupted_while_he_waits_can_close_it(kernel):
    ahead = Ahead({"a": kernel.load("a", gated=True), "b": kernel.load("b", gated=True)})
    ahead.start()
    for _ in "ab":
        kernel.begun.get(timeout=10)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted():
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        ahead.take("a")

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    kernel.gate.set()
    ahead.close()
    assert len(kernel.opened) == 2
    assert kernel.still_open() == []
