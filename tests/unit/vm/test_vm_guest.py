"""The stream that ends with a mark, and what is decided before a guest is booted."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtutrace.errors import UsageError
from pmtutrace.vm import qemu, run
from pmtutrace.vm.guest import MarkedStream
from pmtutrace.vm.kernels import Kernel
from pmtutrace.vm.qemu import Machine

MARK = "00ff" * 8


@given(
    st.lists(
        st.sampled_from([b"\0", b"\n", b"line", b"\0" + MARK[:5].encode(), MARK.encode()]),
        max_size=9,
    ),
    st.integers(0, 255),
    st.lists(st.integers(1, 7), min_size=1, max_size=99),
)
def test_all_before_the_mark_is_passed_on_however_it_is_cut(parts, code, cuts):
    output = b"".join(parts)
    sent = output + b"\0" + MARK.encode() + b" %d\nleft over by a daemon" % code
    got = []
    stream = MarkedStream(MARK, got.append)
    at = 0
    while at < len(sent):
        size = cuts[at % len(cuts)]
        stream.feed(sent[at : at + size])
        at += size
    assert b"".join(got) == output
    assert stream.code == code


def test_nothing_is_held_back_that_cannot_begin_a_mark():
    got = []
    stream = MarkedStream(MARK, got.append)
    stream.feed(b"a prompt without a line break")
    stream.feed(b"\0binary\0")
    assert b"".join(got) == b"a prompt without a line break\0binary"
    assert stream.code is None


@pytest.mark.parametrize(
    ("memory", "available", "cores", "fit"),
    [(2048, 24000, 2, 2), (2048, 24000, 16, 10), (2048, 3000, 8, 1), (2048, 100, 8, 1)],
)
def test_guests_at_once_are_limited_by_memory_and_cores(memory, available, cores, fit):
    assert run.slots(Machine(memory), available, cores) == fit


def test_only_named_variables_are_passed_on():
    source = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "PMTUTRACE_X": "1",
        "SSH_AUTH_SOCK": "/s",
        "TOKEN": "t",
    }
    assert run.environment(source) == {"PATH": "/bin", "LC_ALL": "C", "PMTUTRACE_X": "1"}


@pytest.mark.parametrize("folder", ["/proc", "/run/netns", "/dev/pts", "/sys/../run"])
def test_folders_that_a_guest_has_of_its_own_are_refused(folder):
    kernel = Kernel("k", "r", Path("/k"), None)
    with pytest.raises(UsageError, match="of its own"):
        run.run(kernel, run.Command(("true",), Path(folder)), Machine())


def test_kvm_is_used_only_where_a_trial_boot_proved_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PMTUTRACE_CACHE", str(tmp_path))
    device = tmp_path / "kvm"
    tried = []

    def refuses(machine):
        tried.append(machine)
        return False

    assert qemu.with_kvm(Machine(), refuses, device) == Machine()
    assert tried == []  # there is no device at all
    device.touch()
    assert qemu.with_kvm(Machine(), refuses, device) == Machine()
    assert tried == [Machine(kvm=True)]
    assert qemu.with_kvm(Machine(), refuses, device) == Machine()
    assert len(tried) == 1  # until the host boots again
    record = tmp_path / "vm/kvm.json"
    record.write_text(json.dumps({"boot_id": "an earlier boot", "works": False}))
    assert qemu.with_kvm(Machine(), lambda _: True, device) == Machine(kvm=True)
    assert qemu.with_kvm(Machine(), refuses, device) == Machine(kvm=True)
    record.write_text("damaged")
    assert qemu.with_kvm(Machine(), refuses, device) == Machine()
