"""The kernel's half of a tracer: its image, loaded, set up and attached, until it is closed."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING, Any

from pmtutrace.errors import CompilerError, LoadError, PrivilegeError
from pmtutrace.kernel import cpus, hooks, image, libbpf, plan, privileges, rcu, sites, symbols
from pmtutrace.kernel.loader import Attached
from pmtutrace.tracing import usual
from pmtutrace.tracing.clock import HZ

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pmtutrace.kernel.ladder import Hook
    from pmtutrace.kernel.plan import Step
    from pmtutrace.tracing.settings import Settings

MOST = 2**32 - 1  # of a __u32


class KernelSide:
    """Everything of a tracer that is in the kernel.

    It begins to load the programs; there is time for other things until :meth:`attach`, and then
    again until :meth:`count`.

    Args:
        settings: what the tracer is to do.
        meanwhile: called while the compiler is at work, if it has to be.

    Raises:
        PmtutraceError: of the kind that fits, if the kernel, BCC or our rights do not suffice;
            nothing is left behind then.
    """

    def __init__(self, settings: Settings, meanwhile: Callable[[], None] | None = None) -> None:
        privileges.require()
        self.settings = settings
        self._meanwhile = meanwhile
        self.attached: tuple[Attached, ...] = ()
        self._modules: dict[str, int | None] = {}
        self._moves = b""
        self._config: dict[str, Any] = {}
        self._tables: list[bytes] = []
        self._waiter = threading.Thread(target=rcu.wait_for_packets, daemon=True)
        self._boot = usual.look(settings)
        self.image = self._choose_image()
        with self._closed_on_error():
            self._begin()

    def attach(self) -> None:
        """Attach everything, and begin to take notes of what is said of packets.

        Raises:
            PmtutraceError: as for the class; nothing is left behind then either.
        """
        with self._closed_on_error():
            try:
                self._attach()
            except LoadError as refused:
                if self.settings.image_file or not self.image.tp_btf:
                    raise
                # The kernel refused direct loads: once more with helper calls.
                self.loader.close()
                try:
                    self.image = self._obtain(plain=True)
                except CompilerError:
                    raise refused from None
                self._begin()
                self._attach()

    def count(self) -> None:
        """Begin to count, once the kernel is done with the packets that it had in hand.

        Raises:
            PmtutraceError: as for the class; nothing is left behind then either.
        """
        with self._closed_on_error():
            self._join()
            self._configure(counting=1)

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.close()
            if error.errno in (errno.EPERM, errno.EACCES):
                raise PrivilegeError("BPF may not be used", "run as root") from error
            raise LoadError(f"the kernel refused the tracer: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Detach and unload everything. Can be called again."""
        if hasattr(self, "loader"):
            self.loader.close()
        self._join()

    def _join(self) -> None:
        if self._waiter.is_alive():
            self._waiter.join()

    def refresh(self) -> bool:
        """Take in what modules have brought, or taken along, since last looked; True if so."""
        now = self._boot.again()
        if now.key == self._boot.key:
            return False
        self._boot = now
        version = self._config["site_table"] + 1
        self._write_sites(version)
        self._configure(site_table=version)
        self._follow_modules()
        return True

    def modules_moved(self) -> bool:
        """Say whether a module has come or gone since last asked, where the kernel tells of it."""
        before = self._moves
        self._moves = libbpf.map_lookup(self.loader.maps["module_moves"], bytes(4), 8)
        return self._moves != before

    def location(self, address: int) -> str:
        """Return ``function+0xoffset`` for a kernel address, an empty string for none."""
        for piece in self._boot.ranges:
            if piece.start <= address < piece.end:
                return f"{piece.symbol}+{address - piece.start:#x}"
        return symbols.resolve(address) if address else ""

    def function(self, address: int) -> str:
        """Return the function at a kernel address, if it is one that matters; else nothing."""
        for piece in self._boot.ranges:
            if piece.start <= address < piece.end:
                return piece.name
        return ""

    def losses(self, kinds: Mapping[int, str]) -> dict[str, int]:
        """Return what was lost, by kind; runs that the kernel has left out are ``recursion``."""
        out = {}
        for index, kind in sorted(kinds.items()):
            key, size = index.to_bytes(4, "little"), 8 * cpus.possible()
            value = libbpf.map_lookup(self.loader.maps["losses"], key, size)
            out[kind] = sum(memoryview(value).cast("Q"))
        infos = [libbpf.program_info(fd) for _, fd in self.loader.programs()]
        out["recursion"] = sum(info.recursion_misses for info in infos)
        return out

    def run_times(self) -> dict[str, tuple[int, int]]:
        """Return the kernel's run_time_ns and run_cnt by program."""
        out: dict[str, tuple[int, int]] = {}
        for name, fd in self.loader.programs():
            info, (ns, runs) = libbpf.program_info(fd), out.get(name, (0, 0))
            out[name] = ns + info.run_time_ns, runs + info.run_cnt
        return out

    def watch(self, inum: int) -> None:
        """Add a network namespace, by inode, to those looked at (where only some are)."""
        libbpf.map_update(self.loader.maps["watched_netns"], inum.to_bytes(4, "little"), b"\1")

    def _obtain(self, *, plain: bool) -> image.Image:
        with usual.wanted(self._boot, self.settings, plain=plain) as wanted:
            _ = self._boot.ranges  # looked up while the compiler works
            if wanted.building and self._meanwhile:
                self._meanwhile()
            return wanted.get()

    def _choose_image(self) -> image.Image:
        named = self.settings.image_file
        if named is None:
            return self._obtain(plain=self.settings.plain)
        hint = "build one for this kernel with `pmtutrace compile -o FILE`"
        try:
            chosen = image.unseal(named.read_bytes())
        except OSError as error:
            raise LoadError(f"cannot read {named}: {error.strerror}", hint) from error
        if chosen.key["btf"] != self._boot.btf:
            raise LoadError(f"{named} was built for another kernel", hint)
        options = image.Options(**chosen.key["options"])
        if chosen.key != image.key_of(self._boot.btf, options):
            raise LoadError(f"{named} was built by another version of pmtutrace", hint)
        return chosen

    def _begin(self) -> None:
        """Create the maps, and have loaded in the background what will probably be attached."""
        self.loader, self._features = usual.loaded(self.image, self._boot, self.settings)

    def _plan(self, wanted: Iterable[Hook]) -> tuple[Step, ...]:
        return plan.plan(tuple(wanted), self._features, cold=self.settings.cold)

    def _attach(self) -> None:
        self._tables = [bytes(self.image.layout.structs["site_table"].size)] * 2
        self._write_sites(0)
        self._config = {
            "every": int(self.settings.every),
            "rate": min(max(1, self.settings.rate), MOST),
            "second": HZ,
            "caplen": self.settings.snaplen,
            "site_other": sites.NUMBERS[sites.OTHER],
            "site_tunnel_check": sites.NUMBERS["skb_tunnel_check_pmtu"],
            "site_table": 0,
            "filter_netns": int(self.settings.netns is not None),
            **self._place("fragment4", "ip_do_fragment"),
            **self._place("fragment6", "ip6_fragment"),
            "factors": os.urandom(self.image.layout.structs["config"].size),  # cut to what it holds
        }
        for inum in self.settings.netns or ():
            self.watch(inum)
        self._configure()
        self.attached = tuple(self._attached(hooks.HOOKS))
        self.loader.let_go()
        # What is said of a packet from now on will be claimed by its drop. Drops of packets that
        # may have been spoken of before are not counted.
        self._configure(recording=1)
        try:
            self._waiter.start()
        except RuntimeError:  # there is no room for a thread
            rcu.wait_for_packets()

    def _attached(self, wanted: Iterable[Hook]) -> Iterator[Attached]:
        """Attach hooks one by one, each with what it settles for the programs."""
        for step in self._plan(wanted):
            if step.hook.module:
                self._modules[step.hook.name] = symbols.module(step.hook.module)
            result = self.loader.attach(step)
            if result.rung and result.rung.settings:
                self._configure(**dict.fromkeys(result.rung.settings, 1))
            yield result

    def _follow_modules(self) -> None:
        """Attach to what modules have brought, and let go of what went with them.

        A kprobe on a module that has gone is dead for good: it is made anew when it comes back.
        """
        self._features = self._features._replace(symbols=self._symbols())
        moved = [
            a.hook
            for a in self.attached
            if a.hook.module and self._modules[a.hook.name] != symbols.module(a.hook.module)
        ]
        for hook in moved:
            self.loader.release(hook.name)
        anew = {result.hook: result for result in self._attached(moved)}
        self.attached = tuple(anew.get(old.hook, old) for old in self.attached)

    def _symbols(self) -> frozenset[str]:
        return frozenset(piece.symbol for piece in self._boot.ranges)

    def _configure(self, **changes: int) -> None:
        self._config.update(changes)
        value = self.image.layout.pack("config", dict(self._config))
        libbpf.map_update(self.loader.maps["settings"], bytes(4), value)

    def _place(self, member: str, function: str) -> dict[str, int]:
        """Return where a function is, as two members of the programs' settings."""
        for piece in self._boot.ranges:
            if piece.symbol == function:
                return {member: piece.start, f"{member}_size": piece.end - piece.start}
        return {}

    def _write_sites(self, version: int) -> None:
        layout = self.image.layout
        checks = layout.enums["site_check"]
        room = layout.structs["site_table"].members[0].number or 0
        owners = sites.owners()
        rows = []
        for piece in self._boot.ranges:
            if piece.name not in owners:
                continue
            site, site6 = owners[piece.name]
            row = {
                "start": piece.start,
                "end": piece.end,
                "site": sites.NUMBERS[site.name],
                "site6": sites.NUMBERS[site6.name],
                "check": checks[site.check],
                "silent": int(site.silent),
            }
            rows.append(layout.pack("site_range", row))
        if len(rows) >= room:
            raise LoadError(f"more than {room - 1} pieces of sites in kallsyms")
        # The search never looks left of the first entry, so that one is kept empty.
        empty = layout.pack("site_range", {})
        last = layout.pack("site_range", {"start": 2**64 - 1, "end": 2**64 - 1})
        octets = b"".join([empty, *rows, *[last] * (room - 1 - len(rows))])
        self._tables[version & 1] = octets
        # The one that is being read is written, too, as it is.
        libbpf.map_update(self.loader.maps["sites"], bytes(4), b"".join(self._tables))
