"""The tracer: one image, loaded and attached, as an iterator of events and a table of counters."""

from __future__ import annotations

import contextlib
import ctypes as ct
import errno
import os
import queue
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pmtutrace.errors import LoadError, NotSupported, PrivilegeError
from pmtutrace.events import Drop, IcmpLost, TunnelRef
from pmtutrace.kernel import build, features, hooks, image, libbpf, plan, sites, symbols
from pmtutrace.kernel.loader import Attached, Loader
from pmtutrace.tracing import clock, decode
from pmtutrace.tracing.devices import Devices

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import TracebackType

    from pmtutrace.events import Counter, CounterKey, Event
    from pmtutrace.tunnels.inventory import Inventory

BTF = Path("/sys/kernel/btf/vmlinux")
POSSIBLE_CPUS = Path("/sys/devices/system/cpu/possible")
POLL_S = 0.05
MOST = 2**32 - 1  # of a __u32
FLAG_DF = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What a tracer does.

    Args:
        netns: inodes of the network namespaces to look at; None for all.
        rate: events per key and second.
        every: stream every drop, without limit.
        snaplen: octets of each packet in events, at most 128.
        btf: a BTF file for this kernel where it has none of its own.
        image_file: a tracer image built ahead of time, so that no compiler is needed.
        flows: entries of the counter table.
        plain: read kernel memory by helper calls only, as on a kernel that knows nothing better.
    """

    netns: Collection[int] | None = None
    rate: int = 10
    every: bool = False
    snaplen: int = 128
    btf: Path | None = None
    image_file: Path | None = None
    flows: int = 65536
    plain: bool = False


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
        self.attached: tuple[Attached, ...] = ()
        self._devices = Devices()
        self._ticks = clock.Ticks()
        self.streamed = 0
        self._loader: Loader | None = None
        self._ring: libbpf.Ring | None = None
        self._raw: deque[bytes] = deque()
        self._locations: dict[int, str] = {}
        self._inventory: Inventory | None = None
        # A queue and not an Event: a signal handler that sets an Event may wait for itself.
        self._stops: queue.SimpleQueue[None] = queue.SimpleQueue()

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

    def start(self) -> None:
        """Load and attach everything, or nothing."""
        require_privilege()
        names = hooks.FUNCTIONS | _site_symbols()
        self.boot = symbols.Boot(names, self.settings.btf or BTF)
        self.image = self._choose_image()
        self._decoder = decode.Decoder(self.image.layout, sites.NAMES)
        self._event = self.image.layout.codec("event")
        self._event_names = self.image.layout.names("event")
        try:
            self._load()
            self._ring = libbpf.Ring(self._running().maps["ring"], self._take)
        except OSError as error:
            self.close()
            if error.errno in (errno.EPERM, errno.EACCES):
                raise PrivilegeError("BPF may not be used", "run as root") from error
            raise LoadError(f"the kernel refused the tracer: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        """Load and attach; if the kernel refuses direct loads, once more with helper calls."""
        self._loader = Loader(self.image)
        try:
            self._attach(self._loader)
        except LoadError:
            if self.settings.image_file or not self.image.tp_btf:
                raise
            self._loader.close()
            self.image = self._obtain(plain=True)
            self._loader = Loader(self.image)
            self._attach(self._loader)

    def _obtain(self, *, plain: bool) -> image.Image:
        options = image.Options(plain=plain, flows=self.settings.flows)
        with build.Wanted(self.boot.btf, self.settings.btf, options) as wanted:
            _ = self.boot.ranges  # looked up while the compiler works
            return wanted.get()

    def close(self) -> None:
        """Detach everything. Counters cannot be read after it. Can be called again."""
        self.stop()
        if self._inventory is not None:
            self._inventory.close()
            self._inventory = None
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._loader is not None:
            self._loader.close()
            self._loader = None

    def _choose_image(self) -> image.Image:
        if self.settings.image_file:
            try:
                chosen = image.unseal(self.settings.image_file.read_bytes())
            except OSError as error:
                raise LoadError(
                    f"cannot read {self.settings.image_file}: {error.strerror}",
                    "build one with `pmtutrace compile -o FILE`",
                ) from error
            if chosen.key["btf"] != self.boot.btf:
                raise LoadError(
                    f"{self.settings.image_file} was built for another kernel",
                    "build one for this kernel with `pmtutrace compile -o FILE`",
                )
            return chosen
        return self._obtain(plain=self.settings.plain)

    def _attach(self, loader: Loader) -> None:
        available = features.probe(
            self.image.tracepoints,
            self.image.functions,
            frozenset(piece.symbol for piece in self.boot.ranges),
        )
        self._write_sites(loader)
        config = {
            "every": int(self.settings.every),
            "rate": min(max(1, self.settings.rate), MOST),
            "second": clock.HZ,
            "caplen": self.settings.snaplen,
            "site_other": sites.NUMBERS[sites.OTHER],
            "site_tunnel_check": sites.NUMBERS["skb_tunnel_check_pmtu"],
            "filter_netns": int(self.settings.netns is not None),
        }
        for inum in self.settings.netns or ():
            self.watch(inum)
        attached = []
        for step in plan.plan(hooks.HOOKS, available):
            if step.hook.needed:
                self._configure(loader, config)
            result = loader.attach(step)
            attached.append(result)
            if result.rung:
                config.update(dict.fromkeys(result.rung.settings, 1))
        self.attached = tuple(attached)

    def _configure(self, loader: Loader, config: dict[str, int]) -> None:
        value = self.image.layout.pack("config", dict(config))
        libbpf.map_update(loader.maps["settings"], bytes(4), value)

    def _write_sites(self, loader: Loader) -> None:
        layout = self.image.layout
        checks = layout.enums["site_check"]
        room = layout.structs["site_table"].members[0].count or 0
        owners = {name: site for site in sites.SITES for name in (site.name, *site.inlined_into)}
        rows = []
        for piece in self.boot.ranges:
            site = owners.get(piece.name)
            if site is None:
                continue
            row = {
                "start": piece.start,
                "end": piece.end,
                "site": sites.NUMBERS[site.name],
                "check": checks[site.check],
                "silent": int(site.silent),
            }
            rows.append(layout.pack("site_range", row))
        if len(rows) >= room:
            raise LoadError(f"more than {room - 1} pieces of sites in kallsyms")
        # The search never looks left of the first entry, so that one is kept empty.
        empty = layout.pack("site_range", {})
        last = layout.pack("site_range", {"start": 2**64 - 1, "end": 2**64 - 1})
        table = b"".join([empty, *rows, *[last] * (room - 1 - len(rows))])
        libbpf.map_update(loader.maps["sites"], bytes(4), table)

    def watch(self, inum: int) -> None:
        """Add a network namespace, by inode, to those looked at (where only some are)."""
        if self._loader is not None:
            key = inum.to_bytes(4, "little")
            libbpf.map_update(self._loader.maps["watched_netns"], key, b"\1")

    def use(self, inventory: Inventory) -> None:
        """Name tunnels by this inventory; the tracer closes it."""
        self._inventory = inventory

    def _take(self, data: int, size: int) -> None:
        self._raw.append(ct.string_at(data, size))

    def poll(self) -> list[Event]:
        """Return the events that have come in since last asked, in order."""
        if self._ring is None:
            return []
        self._ring.consume()
        out: list[Event] = []
        offset = clock.boot_offset()
        while self._raw:
            out.append(self._decode(self._raw.popleft(), offset))
        self.streamed += len(out)
        if self._inventory is not None:
            out.extend(self._inventory.changes())
        return out

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Yield events as they come, for ``timeout`` seconds or until stopped."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            stopped = self.stopped
            late = end is not None and time.monotonic() >= end
            yield from self.poll()
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
        """Return the exact counters since start, by key.

        What found no room in the table is there too, under keys whose site is ``overflow``.
        """
        loader = self._running()
        cpus = possible_cpus()
        size = self.image.layout.structs["flow_count"].size * cpus
        key_size = self.image.layout.structs["flow_key"].size
        items = libbpf.map_items(loader.maps["counts"], key_size, size)
        out = self._decoder.counters(items, self._ticks)
        entries = next(m.max_entries for m in self.image.maps if m.name == "overflow")
        if self.losses()["counters_full"]:
            for index in range(entries):
                value = libbpf.map_lookup(
                    loader.maps["overflow"], index.to_bytes(4, "little"), size
                )
                sums = self._decoder.sums(value)
                decode.add(out, self._decoder.overflow_key(index), sums, self._ticks)
        return out

    def losses(self) -> dict[str, int]:
        """Return what was lost, by kind.

        ``ring_full``: events (their packets are counted); ``counters_full``: packets counted in the
        overflow entry; ``news_full``: messages whose drop may show a wrong verdict; ``nested``,
        ``recursion``: runs of a program that the kernel, or we, had no room for.
        """
        loader = self._running()
        out = {}
        for index, kind in sorted(self._decoder.losses.items()):
            value = libbpf.map_lookup(
                loader.maps["losses"], index.to_bytes(4, "little"), 8 * possible_cpus()
            )
            out[kind] = sum(memoryview(value).cast("Q"))
        infos = [libbpf.program_info(fd) for _, fd in loader.programs()]
        out["recursion"] = sum(info.recursion_misses for info in infos)
        return out

    def run_times(self) -> dict[str, tuple[int, int]]:
        """Return the kernel's run_time_ns and run_cnt of each program (needs its statistics on)."""
        infos = ((n, libbpf.program_info(fd)) for n, fd in self._running().programs())
        return {name: (info.run_time_ns, info.run_cnt) for name, info in infos}

    def device(self, netns: int, ifindex: int) -> str:
        """Return a device's name by namespace inode and ifindex, or an empty string."""
        return self._devices.name(netns, ifindex)

    def location(self, address: int) -> str:
        """Return ``function+0xoffset`` for a kernel address."""
        if address not in self._locations:
            for piece in self.boot.ranges:
                if piece.start <= address < piece.end:
                    self._locations[address] = f"{piece.symbol}+{address - piece.start:#x}"
                    break
            else:
                self._locations[address] = symbols.resolve(address) if address else ""
        return self._locations[address]

    def _running(self) -> Loader:
        if self._loader is None:
            raise NotSupported("the tracer is not running", "use it as a context manager")
        return self._loader

    def _decode(self, octets: bytes, offset: int) -> Event:
        f = dict(zip(self._event_names, self._event.unpack(octets), strict=True))
        event_type = self.image.layout.enums["event_type"]
        key_size = self.image.layout.structs["flow_key"].size
        at = next(m.offset for m in self.image.layout.structs["event"].members if m.name == "key")
        if f["type"] == event_type["EVENT_ICMP_LOST"]:
            return self._decode_lost(f, offset)
        key, tunnel_id, outer_port = self._decoder.key(octets[at : at + key_size])
        dev = decode.name(f["dev"])
        self._ticks.learn(f["jiffies"], f["ts_ns"])
        self._devices.learn(key.netns, key.ifindex, dev)
        indev = decode.name(f["indev"]) or self._devices.name(key.netns, f["in_ifindex"])
        return Drop(
            ts=f["ts_ns"] + offset,
            netns=key.netns,
            cpu=f["cpu"],
            site=key.site,
            location=self.location(f["location"]) or key.site,
            reason=self.image.reasons.get(f["reason"]),
            verdict=key.verdict,
            cause=self._cause(key, f),
            length=f["length"],
            mtu=f["mtu"],
            gso=f["gso"],
            df=bool(f["flags"] & FLAG_DF),
            family=key.family,
            dev=dev,
            ifindex=key.ifindex,
            indev=indev if f["in_ifindex"] else "",
            tunnel=self._tunnel(key, dev, decode.name(f["kind"]), tunnel_id, outer_port),
            flow=key.flow,
            outer=key.outer,
            count=f["count"],
            packet=f["packet"][: f["caplen"]],
        )

    def _cause(self, key: CounterKey, f: dict[str, Any]) -> str | None:
        """Return the cause; of a lost message, the reason and the site of its own death."""
        if not f["news_location"]:
            return key.cause
        site = function(self.location(f["news_location"]))
        reason = self.image.reasons.get(f["news_reason"])
        return f"{reason} {site}" if reason else site

    def _tunnel(
        self, key: CounterKey, dev: str, kind: str, tunnel_id: int, port: int
    ) -> TunnelRef | None:
        from pmtutrace.tunnels import kinds

        if kind in kinds.KINDS:
            return TunnelRef(dev, kind)
        if key.outer is None or self._inventory is None:
            return None
        self._inventory.wait(2)
        found = self._inventory.by_outer(
            key.netns,
            key.outer.saddr,
            key.outer.daddr,
            key.outer.proto,
            tunnel_id or None,
            port or None,
        )
        return TunnelRef(found.name, found.type) if found else None

    def _decode_lost(self, f: dict[str, Any], offset: int) -> IcmpLost:
        from pmtutrace.tracing.icmp import read_message

        message = read_message(f["packet"][: f["caplen"]])
        location = self.location(f["location"])
        return IcmpLost(
            ts=f["ts_ns"] + offset,
            netns=f["key.netns"],
            cpu=f["cpu"],
            site=function(location),
            location=location,
            reason=self.image.reasons.get(f["reason"]),
            family=message.family,
            to=message.to,
            mtu=message.mtu,
            flow=message.quoted,
        )


def function(location: str) -> str:
    """Return the function of a location, without offset and what the compiler appended."""
    return location.partition("+")[0].partition(".")[0]


def possible_cpus() -> int:
    """Return the number of CPUs that per-CPU maps have room for."""
    last = POSSIBLE_CPUS.read_text().strip().rpartition(",")[2].rpartition("-")[2]
    return int(last) + 1


def _site_symbols() -> frozenset[str]:
    return frozenset(n for site in sites.SITES for n in (site.name, *site.inlined_into))


def require_privilege() -> None:
    """Raise PrivilegeError unless we are root or CAP_BPF (39) is effective."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff"))
    if os.geteuid() and not int(effective.split()[1], 16) >> 39 & 1:
        raise PrivilegeError("tracing needs root", "run it with sudo")
