"""Files that only their owner may read, replaced in one step."""

import os
import stat

import pytest

from pmtutrace import paths


def test_what_is_written_is_what_is_read_and_nobody_elses(tmp_path):
    path = tmp_path / "kept"
    for data in (b"one", b"another"):
        paths.write_private(path, data)
        assert paths.read_private(path) == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_where_it_leads_elsewhere_that_is_left_alone(tmp_path):
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "kept"
    elsewhere.write_bytes(b"not ours")
    path.symlink_to(elsewhere)
    paths.write_private(path, b"ours")
    assert elsewhere.read_bytes() == b"not ours"
    assert not path.is_symlink()


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fdopen", "replace"])
def test_what_failed_leaves_nothing(failure, step, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise failure

    path = tmp_path / "kept"
    paths.write_private(path, b"one")
    with monkeypatch.context() as patched:
        patched.setattr(
            *((paths, "open", fail) if step == "fdopen" else (os, "replace", fail)), raising=False
        )
        with pytest.raises(type(failure)):
            paths.write_private(path, b"another")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_what_others_can_have_written_is_not_read(mode, tmp_path):
    path = tmp_path / "kept"
    path.write_bytes(b"one")
    path.chmod(mode)
    with pytest.raises(PermissionError):
        paths.read_private(path)
