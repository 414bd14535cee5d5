"""Modules that come, go and come again while one tracer runs: none is missed, none is held."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

import pytest

from pmtutrace.kernel import libbpf, symbols
from pmtutrace.lab import run
from pmtutrace.lab.scenarios import BY_NAME
from pmtutrace.tracing.tracer import Settings, Tracer

pytestmark = pytest.mark.live

PATIENCE_S = 60


@pytest.fixture(autouse=True)
def _modules(kernel):
    if not Path("/proc/modules").exists():
        assert not kernel.known or kernel.hooks["modules"] == "polling"
        pytest.skip("this kernel has no modules")


def modprobe(name):
    subprocess.run(["modprobe", name], check=True)


def unload(name):
    """Remove a module and its users; namespaces that are going still hold them for a while."""
    if symbols.module(name) is None:
        return
    for user in Path("/sys/module", name, "holders").iterdir():
        unload(user.name)
    end = time.monotonic() + PATIENCE_S
    while symbols.module(name) is not None:
        done = subprocess.run(["rmmod", name], capture_output=True, text=True, check=False)
        if done.returncode and time.monotonic() > end:
            pytest.fail(done.stderr)


class Live:
    """A tracer that nobody tells of modules: it finds out by itself, as in `trace`."""

    def __init__(self, tracer):
        self.tracer = tracer

    def __getattr__(self, name):
        return getattr(self.tracer, name)

    def refresh(self):
        list(self.tracer.events(1))


def test_counters_go_on_through_a_reload():
    """23 + 23 = 46, as the scenario holds against tx_errors of both devices."""
    modprobe("ip_gre")
    unload("ip_tunnel")
    with Tracer() as tracer:
        for time_ in (1, 2):
            result = run.run(BY_NAME["gre-v4-udp-forward"], Live(tracer))
            assert result.result == "ok", result.reason
            unload("ip_tunnel")
            counted = tracer.counters()
            assert {key.site for key in counted} == {"ip_tunnel_xmit"}
            assert sum(count.packets for count in counted.values()) == time_ * result.expected


def hook(tracer, name):
    (found,) = (a for a in tracer.attached if a.hook.name == name)
    return "waits" if found.waits else found.rung.name


def transmits(tracer):
    """Send a packet into a VTI device; return whether our program ran for it."""
    before = tracer.run_times().get("tunnel_device_kprobe", (0, 0))[1]
    make = ["ip", "link", "add", "pmtu-vti", "type", "vti", "local", "192.0.2.1", "remote"]
    subprocess.run([*make, "192.0.2.2", "key", "77"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", "198.51.100.1/24", "dev", "pmtu-vti"], check=True)
        subprocess.run(["ip", "link", "set", "pmtu-vti", "up"], check=True)
        ping = ["ping", "-c", "1", "-W", "1", "198.51.100.2"]
        subprocess.run(ping, check=False, stdout=subprocess.DEVNULL)
    finally:
        subprocess.run(["ip", "link", "del", "pmtu-vti"], check=True)
    return tracer.run_times().get("tunnel_device_kprobe", (0, 0))[1] > before


def test_a_function_is_attached_anew_after_a_reload():
    modprobe("ip_vti")
    unload("ip_vti")
    stats = libbpf.enable_stats()
    try:
        with Tracer() as tracer:
            assert hook(tracer, "vti") == "waits"
            for _ in range(2):
                modprobe("ip_vti")
                Live(tracer).refresh()
                assert hook(tracer, "vti") == "kprobe"
                assert transmits(tracer)
                unload("ip_vti")  # is not refused: a tracer holds no module
                Live(tracer).refresh()
                assert hook(tracer, "vti") == "waits"
            # Both between two looks: a kprobe on what has gone would be dead.
            modprobe("ip_vti")
            tracer.refresh()
            unload("ip_vti")
            modprobe("ip_vti")
            Live(tracer).refresh()
            assert hook(tracer, "vti") == "kprobe"
            assert transmits(tracer)
    finally:
        os.close(stats)


def test_fentry_on_a_module_is_the_second_choice(kernel):
    """It works where the module has BTF (5.11), and holds the module: so it is not the first."""
    modprobe("ip_vti")
    with Tracer(Settings(without=frozenset({"kprobe", "kretprobe"}))) as tracer:
        if not Path("/sys/kernel/btf/ip_vti").exists():
            assert hook(tracer, "vti") == "inventory"
            release = tuple(map(int, platform.release().split(".")[:2]))
            assert not kernel.known or release < (5, 11), "its modules must have BTF"
            pytest.skip("modules have no BTF on this kernel")
        assert hook(tracer, "vti") == "fentry"
        held = subprocess.run(["rmmod", "ip_vti"], capture_output=True, text=True, check=False)
        assert "in use" in held.stderr
    unload("ip_vti")
