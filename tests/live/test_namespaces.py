"""Going into network namespaces and coming back."""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pmtutrace import lab
from pmtutrace.errors import UsageError
from pmtutrace.kernel import netns
from pmtutrace.lab.scenarios import named

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def net():
    with lab.built(named("route-v4-udp-fits")) as net:
        yield net


def test_a_namespace_has_a_name_an_inode_and_a_path(net):
    node = net["r"]
    assert netns.inum(node.name) == node.inum == node.path.stat().st_ino
    assert netns.names()[node.inum] == node.name
    space = next(space for space in netns.all_namespaces() if space.inum == node.inum)
    assert (space.name, space.path) == (node.name, str(node.path))


def test_a_thread_that_runs_already_stays_where_it_is(net):
    home = netns.current()
    with ThreadPoolExecutor(1) as other:
        assert other.submit(netns.current).result() == home
        with netns.entered(net["r"].name) as inum:
            assert netns.current() == inum == net["r"].inum
            assert other.submit(netns.current).result() == home
    assert netns.current() == home


@pytest.mark.parametrize(
    "form", [str, Path, lambda path: path.name, lambda path: str(path.stat().st_ino)]
)
def test_a_namespace_may_be_given_as(net, form):
    with netns.entered(form(net["r"].path)) as inum:
        assert inum == net["r"].inum


def test_an_exception_brings_the_thread_back(net):
    home = netns.current()
    with pytest.raises(RuntimeError), netns.entered(net["r"].name):
        raise RuntimeError
    assert netns.current() == home


def test_run_in_returns_and_its_socket_stays_inside(net):
    receiver = netns.run_in(net["b"].name, lambda: socket.create_server(("10.77.2.1", 0)))
    port = receiver.getsockname()[1]
    with receiver:
        sender = netns.run_in(net["a"].name, lambda: socket.create_connection(("10.77.2.1", port)))
        sender.close()
        peer, (address, _) = receiver.accept()
        peer.close()
    assert address == "10.77.1.1"


def test_run_in_raises_what_was_raised(net):
    with pytest.raises(ZeroDivisionError):
        netns.run_in(net["r"].name, lambda: 1 // 0)


def test_a_file_that_is_no_namespace_is_refused(tmp_path):
    home = netns.current()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError), netns.entered(tmp_path / "file"):
        pytest.fail("entered")
    assert netns.current() == home
