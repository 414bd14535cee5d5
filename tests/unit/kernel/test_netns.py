"""Namespaces by name and inode, where neither root nor a second namespace is needed."""

from pathlib import Path

import pytest

from pmtutrace.errors import UsageError
from pmtutrace.kernel import netns

OWN = Path("/proc/self/ns/net").stat().st_ino


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A /run/netns in which links stand for mounts: stat(2) follows both."""
    monkeypatch.setattr(netns, "RUN", tmp_path)
    return tmp_path


def test_current_is_the_inode_of_this_process():
    assert netns.current() == OWN


def test_a_file_that_is_no_namespace_has_no_name(run):
    (run / "left over").touch()
    (run / "blue").symlink_to("/proc/self/ns/net")
    assert netns.names() == {OWN: "blue"}


def test_of_two_names_the_first_counts_everywhere(run):
    for name in ("b", "a"):
        (run / name).symlink_to("/proc/self/ns/net")
    assert netns.names() == {OWN: "a"}
    assert [space.name for space in netns.all_namespaces() if space.inum == OWN] == ["a"]
    assert netns.inum("b") == OWN


def test_no_folder_no_names(run):
    run.rmdir()
    assert netns.names() == {}


def test_all_namespaces_are_in_order_and_each_once():
    inums = [space.inum for space in netns.all_namespaces()]
    assert OWN in inums
    assert inums == sorted(set(inums))


def test_an_inode_is_a_name_too(run):
    assert netns.inum(str(OWN)) == OWN


@pytest.mark.parametrize("name", ["green", "1", "", "a b\n"])
def test_an_unknown_name_is_refused_and_the_known_ones_are_told(run, name):
    (run / "blue").symlink_to("/proc/self/ns/net")
    with pytest.raises(UsageError) as caught:
        netns.inum(name)
    assert repr(name) in caught.value.message
    assert "blue" in caught.value.hint


def test_entering_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"), netns.entered(tmp_path / "none"):
        pytest.fail("entered")
