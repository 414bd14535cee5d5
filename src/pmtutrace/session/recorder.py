"""Records what a tracer sees into sessions, second by second, for as long as it is asked to."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter as Tally
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmtutrace.events import Drop, Fragmented, PathMtuChange, TunnelChange
from pmtutrace.session import rotation as files
from pmtutrace.session import schema
from pmtutrace.session.manifest import manifest
from pmtutrace.session.surveyor import Surveyor
from pmtutrace.session.writer import Delta, NoRoomError, Second, Writer
from pmtutrace.tracing import clock
from pmtutrace.tracing.decode import OVERFLOW
from pmtutrace.tracing.filters import place
from pmtutrace.tracing.spaces import LiveNames

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmtutrace.events import Event, TunnelRef
    from pmtutrace.session.rotation import Rotation
    from pmtutrace.tracing import Tracer
    from pmtutrace.tracing.filters import Filter, Place
    from pmtutrace.tracing.moves import Move
    from pmtutrace.tunnels.inventory import Inventory
    from pmtutrace.tunnels.tunnel import Tunnel

EVERY_S = 1.0
COUNT_SHARE = 0.1  # of one core: reading 65536 counters takes its time
IDLE_S = 60.0  # with nothing to say, so often that it is still there
TIDY_S = 60.0
PLACES = 1 << 17
UNSTORED = "unstored"
STATM, PAGE = Path("/proc/self/statm"), os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Recording:
    """What to record, and where to.

    Args:
        path: of the session, or what the sessions of a series are called after.
        rotation: when a new one begins, and which go.
        options: as JSON has them, for the manifest.
        command: what is recorded, if it is a command.
    """

    path: Path
    rotation: Rotation
    options: dict[str, Any] = field(default_factory=dict)
    command: list[str] | None = None


@dataclass(slots=True)
class Status:
    """How far a recording has come: what the counters and the losses say, so exact."""

    verdicts: Tally[str] = field(default_factory=Tally)
    path_changes: int = 0
    events: int = 0
    losses: Tally[str] = field(default_factory=Tally)
    path: Path | None = None
    size: int = 0
    full: bool = False
    single: bool = True


class Recorder:
    """Records one tracer until it is stopped.

    Args:
        tracer: that runs.
        inventory: of tunnels; the tracer names them by it.
        wanted: which events and counters to keep.
        recording: where to.
        say: is given a sentence when something goes wrong, or is well again.
    """

    def __init__(
        self,
        tracer: Tracer,
        inventory: Inventory,
        wanted: Filter,
        recording: Recording,
        say: Callable[[str], None],
    ) -> None:
        self.status = Status()
        self._tracer = tracer
        self._inventory = inventory
        self._wanted = wanted
        self._recording = recording
        self._say = say
        self._series_began = self._counted_at = time.time_ns()
        self._tunnels: dict[Place, TunnelRef] = {}
        self._names: dict[int, str] = {}
        self._live = LiveNames()
        self._known: dict[tuple[int, int], Tunnel] = {}
        self._look = True  # whether tunnels may have changed
        self._pending: dict[schema.Counted, Delta] = {}
        self._lost: Tally[str] = Tally()  # since the last commit
        self._lost_before: dict[str, int] = {}
        self._surveyor = Surveyor(inventory, wanted.netns)
        self._let_go: Callable[[], None] = lambda: None
        self._count_due = self._idle_due = self._tidy_due = 0.0
        self._writer = self._begin()

    def run(
        self,
        seconds: float | None = None,
        tick: Callable[[Status], None] = lambda _: None,
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        """Record for some seconds, or until the tracer is stopped.

        Args:
            seconds: None for no limit.
            tick: is called each second.
            let_go: is called before a session is closed: whoever reads it at that moment keeps it
                from becoming one file.

        Raises:
            SessionError: the session cannot be written, for a reason that will not pass.
        """
        self._let_go = let_go
        end = None if seconds is None else time.monotonic() + seconds
        due = time.monotonic() + EVERY_S
        try:
            while True:
                until = due if end is None else min(due, end)
                left = max(0.0, until - time.monotonic())
                for event in self._tracer.events(left, more=True):
                    self._take(event)
                done = self._tracer.stopped or (end is not None and time.monotonic() >= end)
                self._tick(last=done)
                tick(self.status)
                if done:
                    return
                due = max(due + EVERY_S, time.monotonic())
        finally:
            self._close()

    def _begin(self, previous: Path | None = None) -> Writer:
        recording, now = self._recording, time.time_ns()
        path = recording.path
        if recording.rotation.wanted:
            path = files.series(path, now)
        said = manifest(
            self._tracer,
            series=recording.path.name,
            previous=previous.name if previous else None,
            command=recording.command,
            options=recording.options,
        )
        writer = Writer(path, said)
        self._opened = time.monotonic()
        self.status.path = path
        self._names.clear()
        self._known.clear()
        self._look = True
        self._surveyor.again()
        self._note_exceptions(writer)
        return writer

    def _note_exceptions(self, writer: Writer) -> None:
        """Write down the path MTU exceptions that are there as a session begins."""
        from pmtutrace.pmtu.watch import Watch

        with contextlib.suppress(OSError), Watch(self._wanted.netns) as watch:
            watch.look()
            for dump, known in watch.now():
                there = schema.ExceptionThere(dump.ts, dump.netns, known.dev, known.item)
                writer.state(there)

    def _finish(self, writer: Writer) -> None:
        self._let_go()
        writer.close(ended=time.time_ns())

    def _close(self) -> None:
        self._finish(self._writer)
        self.status.single = self._writer.single
        self.status.size = self._writer.size()

    def _take(self, event: Event) -> None:
        self._wanted.learn(event)
        if isinstance(event, Drop | Fragmented) and event.tunnel is not None:
            if len(self._tunnels) >= PLACES:
                self._tunnels.clear()
            self._tunnels[place(event)] = event.tunnel
        self._look = self._look or isinstance(event, TunnelChange)
        self._surveyor.take(event)
        if self._wanted.matches(event):
            self._writer.add(event)
            self.status.events += 1
            self.status.path_changes += isinstance(event, PathMtuChange)
            self._name(event.netns, event.ts)

    def _tick(self, *, last: bool) -> None:
        """Write down what the last second brought."""
        now = time.monotonic()
        since = None
        if last or now >= self._count_due:
            since, worked = self._counted_at, time.thread_time()
            self._count(last=last)
            self._count_due = now + (time.thread_time() - worked) / COUNT_SHARE
        self._note_tunnels()
        for around in self._surveyor.last() if last else self._surveyor.found():
            self._writer.state(around)
        self._lose(self._tracer.losses())
        if self._worth_it() or last or now >= self._idle_due:
            self._idle_due = now + IDLE_S
            self._commit(since)
        elif since is not None:
            self._counted_at = time.time_ns()
        self.status.size = self._writer.size()
        if not last and self._recording.rotation.due(now - self._opened, self.status.size):
            self._rotate()
        if self._recording.rotation.wanted and now >= self._tidy_due:
            self._tidy_due = now + TIDY_S
            files.tidy(
                self._recording.path, self._recording.rotation, time.time_ns(), self._writer.path
            )

    def _count(self, *, last: bool) -> None:
        """Take in by how much counters have moved; events first, since they name the places."""
        moves = self._tracer.moves()
        for event in self._tracer.poll(last=last):
            self._take(event)
        for move in moves:
            key = move.key
            if key.ifindex:
                self._wanted.ask((key,), self._tracer.device)
            if key.site != OVERFLOW and not self._wanted.counts(key):
                continue
            if key.verdict != "none":
                self.status.verdicts[key.verdict] += move.packets
            self._add(move)

    def _add(self, move: Move) -> None:
        key = move.key
        dev = self._wanted.devices.get((key.netns, key.ifindex), "")
        counted = schema.Counted(key, dev, self._tunnels.get(place(key)))
        before = self._pending.get(counted)
        self._pending[counted] = Delta(
            counted,
            move.packets + (before.packets if before else 0),
            move.bytes + (before.bytes if before else 0),
            max(move.max_length, before.max_length if before else 0),
            move.mtu,
            max(move.last, before.last if before else 0),
        )
        if key.netns:
            self._name(key.netns, move.last)

    def _name(self, inode: int, ts: int) -> None:
        """Write down what a namespace is called, while it is still there."""
        name = self._live.of(inode).get(inode)
        if name is not None and self._names.get(inode) != name:
            self._names[inode] = name
            self._writer.state(schema.Space(ts, inode, name))

    def _note_tunnels(self) -> None:
        """Write down the tunnels that are there, and those that are no longer what they were."""
        if not self._look or not self._inventory.wait(0):
            return
        self._look, now = False, time.time_ns()
        there = {(tunnel.netns, tunnel.ifindex): tunnel for tunnel in self._inventory.tunnels()}
        for where, tunnel in there.items():
            if self._known.get(where) != tunnel:
                self._writer.state(schema.TunnelThere(now, tunnel))
        self._known = there

    def _lose(self, losses: dict[str, int]) -> None:
        for kind, number in losses.items():
            self._lost[kind] += number - self._lost_before.get(kind, 0)
        self._lost_before = losses
        self._lost = +self._lost  # only what is above zero

    def _worth_it(self) -> bool:
        return bool(self._writer.pending or self._pending or self._lost or self._writer.states)

    def _commit(self, since: int | None) -> None:
        now = time.time_ns()
        second = Second(
            since,
            now,
            clock.boot_offset(),
            tuple(self._pending.values()),
            self._lost,
            time.process_time_ns(),
            _resident(),
        )
        try:
            self._writer.commit(second)
        except NoRoomError as error:
            self._fail(error)
            return
        if self.status.full:
            self._say(f"{self._writer.path}: there is room again")
        self.status.full = False
        self.status.losses.update(self._lost)
        self._pending.clear()
        self._lost = Tally()
        if since is not None:
            self._counted_at = now

    def _fail(self, error: NoRoomError) -> None:
        """Go on counting: what was counted is written once there is room again."""
        if not self.status.full:
            self._say(f"{self._writer.path}: {error}; counting goes on, events are let go")
        self.status.full = True
        self._lost[UNSTORED] += error.events
        # They are gone, too.
        self._names.clear()
        self._known.clear()
        self._look = True

    def _rotate(self) -> None:
        """Close this session and begin the next one, unless there is no room for it."""
        from pmtutrace.errors import SessionError

        if self._pending or self._writer.pending:
            return  # the disk is full: what is counted still belongs here
        old = self._writer
        try:
            self._writer = self._begin(old.path)
        except SessionError as error:
            if not self.status.full:
                self._say(f"{error.message}; {old.path.name} goes on")
            self.status.full = True
            return
        self._finish(old)
        self._tidy_due = 0.0


def _resident() -> int:
    """Return the octets of memory that this process takes."""
    return int(STATM.read_text().split()[1]) * PAGE
