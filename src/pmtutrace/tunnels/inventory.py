"""Which tunnels there are, in every network namespace, kept up to date in the background.

The tracer must stay small, so nothing here reads link attributes: when :mod:`.watch` rings, a
short-lived child (:mod:`.dump`) reads all tunnels anew, and this module keeps what it prints.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from pmtutrace import paths
from pmtutrace.tunnels.table import Table
from pmtutrace.tunnels.tunnel import Tunnel
from pmtutrace.tunnels.watch import Watch

if TYPE_CHECKING:
    from pmtutrace.events import InnerMtu, TunnelChange

DUMP_EVERY_S = 1.0  # a dump costs 0.3 s of one core
AGAIN_S = 5.0  # after one that failed: there was no memory, or no process, for a moment
CHANGES_KEPT = 65536


class Inventory:
    """The tunnels of all namespaces.

    Safe to ask from any thread. ``failure`` says why the last reading failed, None where it worked.
    """

    def __init__(self) -> None:
        self.failure: str | None = None
        self._table = Table()
        self._changes: list[TunnelChange] = []
        self._lock = threading.Lock()
        self._known = False
        self._first = threading.Event()
        self._wake = -1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch; return at once."""
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="tunnels", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching and let go of all namespaces; what is known stays."""
        if self._thread is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.join()
            os.close(self._wake)
            self._thread = None

    def wait(self, timeout: float) -> bool:
        """Wait until the tunnels were read, or could not be; False after ``timeout`` seconds."""
        return self._first.wait(timeout)

    def tunnels(self) -> list[Tunnel]:
        """Return the tunnels that are there now."""
        return list(self._table.live.values())

    def by_device(self, netns: int, ifindex: int) -> Tunnel | None:
        """Return the tunnel that is, or last was, this device; None where it is no tunnel."""
        return self._table.by_device(netns, ifindex)

    def by_outer(
        self,
        netns: int,
        saddr: str,
        daddr: str,
        proto: int,
        key_or_vni: int | None = None,
        dport: int | None = None,
    ) -> Tunnel | None:
        """Return the tunnel that an outer packet belongs to; see :meth:`.Table.by_outer`."""
        return self._table.by_outer(netns, saddr, daddr, proto, key_or_vni, dport)

    def inside(
        self, netns: int, address: str, ifindex: int, mtu: int | None
    ) -> tuple[InnerMtu, ...]:
        """Return the tunnels to a far end and their inner MTU; see :meth:`.Table.inside`."""
        return self._table.inside(netns, address, ifindex, mtu)

    def changes(self) -> list[TunnelChange]:
        """Return what changed since last asked; the tunnels found at the start are no change."""
        with self._lock:
            changes, self._changes = self._changes, []
        return changes

    def _run(self) -> None:
        try:
            with Watch(self._wake) as watch:
                while True:
                    started = time.monotonic()
                    ended = not self._read(watch)
                    self._first.set()
                    if self.failure:
                        watch.ring()
                    pause = AGAIN_S if self.failure else DUMP_EVERY_S
                    if ended or not watch.wait_for_ring(not_before=started + pause):
                        return
        except OSError as error:
            self.failure = f"tunnels are not watched: {error}"
        finally:
            self._first.set()

    def _read(self, watch: Watch) -> bool:
        """Have the tunnels read by a child; False when to end."""
        command, environment = paths.module("pmtutrace.tunnels.dump")
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            text = watch.read_all(child.stdout.fileno()) if child.stdout else None
            if text is None:
                child.kill()
                return False
        if child.returncode:
            self.failure = "tunnels could not be read: `python3 -m pmtutrace.tunnels.dump` says why"
        else:
            self.failure = None
            self._take(text)
        return True

    def _take(self, text: bytes) -> None:
        tunnels = [Tunnel(**row) for row in json.loads(text)]
        table, changes = self._table.after(tunnels, time.time_ns())
        with self._lock:
            if self._known:
                self._changes = [*self._changes, *changes][-CHANGES_KEPT:]
            self._known = True
            self._table = table
