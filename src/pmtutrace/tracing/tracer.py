"""The tracer: an iterator of events and a table of exact counters.

What names events is imported where it is first needed, and not here: the kernel can be loading the
programs meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import queue
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from pmtutrace.errors import LoadError, NotSupported
from pmtutrace.kernel import libbpf
from pmtutrace.tracing import clock
from pmtutrace.tracing.kernelside import KernelSide
from pmtutrace.tracing.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from pmtutrace.events import Counter, CounterKey, Event
    from pmtutrace.kernel.image import Image
    from pmtutrace.kernel.loader import Attached
    from pmtutrace.pmtu.watch import Watch
    from pmtutrace.tracing.counting import Counting
    from pmtutrace.tracing.moves import Move, Moves
    from pmtutrace.tracing.paths import Paths
    from pmtutrace.tunnels.inventory import Inventory

NOT_DROPPED = "none"  # the verdict of what left as fragments
POLL_S = 0.05
REFRESH_S = 0.5

__all__ = ["Settings", "Tracer"]


class Tracer:
    """Trace oversize packets until closed. Everything is attached once the context is entered.

    >>> with Tracer(Settings(rate=1)) as tracer:
    ...     for event in tracer.events(timeout=10):
    ...         print(event.site, event.verdict, event.flow)

    Raises:
        PmtutraceError: of the kind that fits, if the kernel, BCC or our rights do not suffice.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.streamed = 0
        self._begun: KernelSide | None = None
        self._kernel: KernelSide | None = None  # the same, once it runs
        self._ring: libbpf.Ring | None = None
        self._raw: deque[bytes] = deque()
        self._refreshed = 0.0
        self._moves: Moves | None = None
        # A queue and not an Event: a signal handler that sets an Event may wait for itself.
        self._stops: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._paths: Paths | None = None
        self._unheard = 0  # by watches that are closed
        self._counting: Counting | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Have the kernel load the programs, in the background, until :meth:`start` attaches them.

        For who has other things to do meanwhile, and closes the tracer whatever comes of them.

        Args:
            meanwhile: called while the compiler is at work, if it has to be.

        Raises:
            PmtutraceError: as for the class; nothing is left behind then.
        """
        self._begun = self._begun or KernelSide(self.settings, meanwhile)

    def attach(self) -> None:
        """Load and attach everything, or nothing; no drop is counted before :meth:`start`.

        For who has other things to do while the kernel ends what it had in hand, and closes the
        tracer whatever comes of them.
        """
        if self._kernel is not None:
            return
        self._begun = kernel = self._begun or KernelSide(self.settings)
        with self._closed_on_error():
            kernel.attach()
            from pmtutrace.tracing.naming import Namer

            self._namer = Namer(kernel.image, kernel.location)
            self._path_size = kernel.image.layout.structs["path_event"].size
            room = kernel.image.entries("ring")
            self._ring = libbpf.Ring(kernel.loader.maps["ring"], room, self._take)
            self._kernel = kernel

    def start(self) -> None:
        """Attach everything, or nothing, and begin to count."""
        self.attach()
        with self._closed_on_error():
            self._running().count()

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.close()
            raise LoadError(f"the event ring cannot be read: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Detach everything. Counters cannot be read after it. Can be called again."""
        self.stop()
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._paths is not None:
            self._paths.close()
            self._paths = None
        if self._begun is not None:
            self._begun.close()
            self._begun = None
        if self._kernel is not None:
            self._kernel = self._counting = None
            if self._namer.inventory is not None:
                self._namer.inventory.close()

    @property
    def attached(self) -> tuple[Attached, ...]:
        """How each hook is attached, and why not better."""
        return self._running().attached

    def holds(self, hook: str) -> bool:
        """Return whether a hook of the catalogue is attached, by whichever rung."""
        return any(a.hook.name == hook and a.rung is not None for a in self.attached)

    def tells(self, hook: str) -> bool:
        """Return whether programs tell of what a hook is for."""
        held = (a.rung for a in self.attached if a.hook.name == hook)
        return any(rung is not None and rung.attachments for rung in held)

    @property
    def image(self) -> Image:
        """What is loaded."""
        return self._running().image

    def use(self, inventory: Inventory) -> None:
        """Name tunnels by this inventory; the tracer closes it."""
        self._namer.inventory = inventory

    def follow(self, watch: Watch) -> None:
        """Give events of path MTUs too: how they change, and messages that arrive.

        Args:
            watch: reads path MTUs, and listens where :meth:`tells` of no message that arrives; it
                is asked for a first look, and the tracer closes it. One that it was given before
                is closed now.

        Raises:
            OSError: no network namespace at all could be read.
        """
        from pmtutrace.kernel.sites import ORIGINS
        from pmtutrace.tracing import paths, told

        watch.look()
        if self._paths is not None:
            self._unheard += self._paths.watch.unheard
            self._paths.close()
        kernel = self._running()
        self._path_reader = told.Reader(kernel.image.layout, kernel.function, ORIGINS)
        self._paths = paths.Paths(
            watch,
            tunnel=self._namer.tunnel_of,
            inside=self._namer.inside,
            device=self._namer.devices.name,
        )

    def watch(self, inum: int) -> None:
        """Add a network namespace, by inode, to those looked at (where only some are)."""
        self._running().watch(inum)

    def refresh(self) -> None:
        """Take in the sites and functions of modules that have been loaded since last looked.

        :meth:`poll` does so when the kernel says that a module has come or gone, and twice a second
        in any case; call this before counting on a module just loaded.
        """
        self._refreshed = time.monotonic()
        self._running().refresh()

    def device(self, netns: int, ifindex: int) -> str:
        """Return a device's name by namespace inode and ifindex, or an empty string."""
        return self._namer.devices.name(netns, ifindex)

    def _take(self, data: int, size: int) -> None:
        self._raw.append(ct.string_at(data, size))

    def poll(self, *, last: bool = False) -> list[Event]:
        """Return the events that have come in since last asked, in order; tunnels come last.

        What became of a message that arrived is known a moment later, and told then; ``last`` says
        that nobody will ask again.
        """
        if self._ring is None:
            return []
        if self._running().modules_moved() or time.monotonic() - self._refreshed > REFRESH_S:
            self.refresh()
        dumps = self._paths.read() if self._paths else []
        out = self.drain()
        if self._paths is not None:
            out.extend(self._paths.events(dumps, time.time_ns(), last=last))
            out.sort(key=lambda event: event.ts)
        if self._namer.inventory is not None:
            out.extend(self._namer.inventory.changes())
        return out

    def drain(self) -> list[Event]:
        """Return the events that programs have sent since last asked, and nothing that is read."""
        if self._ring is None:
            return []
        self._ring.consume()
        out: list[Event] = []
        offset = clock.boot_offset()
        while self._raw:
            octets = self._raw.popleft()
            if len(octets) == self._path_size:
                if self._paths is not None:
                    self._paths.tell(self._path_reader.read(octets, offset))
            else:
                out.append(self._namer.event(octets, offset))
        self.streamed += len(out)
        return out

    def events(self, timeout: float | None = None, *, more: bool = False) -> Iterator[Event]:
        """Yield events as they come, for ``timeout`` seconds or until stopped.

        Where ``more`` will be asked for, what became of the latest messages may be told then.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            stopped = self.stopped
            late = end is not None and time.monotonic() >= end
            yield from self.poll(last=stopped or (late and not more))
            if stopped or late:
                return
            self._wait(POLL_S if end is None else min(POLL_S, end - time.monotonic()))

    def _wait(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._stops.get(timeout=max(0.0, seconds))
            self.stop()

    @property
    def stopped(self) -> bool:
        """Whether somebody has asked to stop."""
        return not self._stops.empty()

    def stop(self) -> None:
        """Let :meth:`events` end once it has yielded what is there. Safe in a signal handler."""
        self._stops.put(None)

    def counters(self) -> dict[CounterKey, Counter]:
        """Return the exact counters of drops since start, by key.

        What found no room in the table is there too, under keys whose site is ``overflow``.
        """
        return {key: sums for key, sums in self._counted().items() if key.verdict != NOT_DROPPED}

    def fragments(self) -> dict[CounterKey, Counter]:
        """Return the same of outer packets that left as fragments: none of them was dropped."""
        return {key: sums for key, sums in self._counted().items() if key.verdict == NOT_DROPPED}

    def moves(self) -> list[Move]:
        """Return by how much counters have moved since last asked; sums of all are the counters.

        Those of outer packets that left as fragments are among them, under the verdict ``none``.
        """
        from pmtutrace.tracing.moves import Moves

        if self._moves is None:
            self._moves = Moves(self._namer.decoder, self._namer.ticks)
        return self._moves.of(self._running_counting().items(), self._overflow())

    def _counted(self) -> dict[CounterKey, Counter]:
        from pmtutrace.tracing import decode

        items = self._running_counting().items()
        decoder, ticks = self._namer.decoder, self._namer.ticks
        out = decoder.counters(items, ticks)
        for index, value in enumerate(self._overflow()):
            decode.add(out, decoder.overflow_key(index), decoder.sums(value), ticks)
        return out

    def _overflow(self) -> list[bytes]:
        """Return the per-CPU values of the overflow entries; none while all found room."""
        return self._running_counting().overflow() if self.losses()["counters_full"] else []

    def losses(self) -> dict[str, int]:
        """Return what was lost, by kind.

        ``ring_full``: events (their packets are counted); ``counters_full``: packets counted in the
        overflow entry; ``news_full``: messages whose drop may show a wrong verdict; ``received``:
        messages without an event; ``nested``, ``recursion``: runs that had no room.
        """
        out = self._running().losses(self._namer.decoder.losses)
        out["received"] += self._unheard + (self._paths.watch.unheard if self._paths else 0)
        return out

    def run_times(self) -> dict[str, tuple[int, int]]:
        """Return the kernel's run_time_ns and run_cnt of each program (needs its statistics on).

        One that is attached to several functions is loaded as often; these are added up.
        """
        return self._running().run_times()

    def _running_counting(self) -> Counting:
        if self._counting is None:
            from pmtutrace.tracing.counting import Counting

            kernel = self._running()
            self._counting = Counting(kernel.image, kernel.loader.maps)
        return self._counting

    def _running(self) -> KernelSide:
        if self._kernel is None:
            raise NotSupported("the tracer is not running", "use it as a context manager")
        return self._kernel
