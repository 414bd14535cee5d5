"""Carry out a plan: create maps, load programs, attach them rung by rung, and take all of it down.

Thin on purpose: what is to be done is decided in :mod:`plan`; here it is tried, and a rung that
does not hold is let go of as a whole.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from pmtutrace.errors import LoadError, PrivilegeError
from pmtutrace.kernel import cpus, libbpf, module_btf
from pmtutrace.kernel.ahead import Ahead
from pmtutrace.kernel.plan import COLD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmtutrace.kernel.image import Image, Map
    from pmtutrace.kernel.ladder import Attachment, Cost, Hook, Rung
    from pmtutrace.kernel.plan import Step


# Maps that have entries for each CPU, and for how many CPUs at most: who counts a flow has an entry
# of its own in `counts`, and few CPUs see the same flow.
CPUS_AT_MOST = {"cpus": sys.maxsize, "near_counts": sys.maxsize, "counts": 4}


class Attached(NamedTuple):
    """How a hook ended up: the rung that holds, or None, and why better ones do not.

    ``waits`` says that it will be attached once its module is loaded.
    """

    hook: Hook
    rung: Rung | None
    refused: tuple[tuple[str, str], ...]
    waits: bool = False

    @property
    def blind(self) -> str:
        """What is not known because of that, or is inferred; empty if nothing."""
        if self.waits:
            return ""  # what its module makes is not there either
        return self.rung.blind if self.rung else self.hook.blind

    @property
    def cost(self) -> Cost:
        """When its programs run; where nothing is attached, when those of the best rung would."""
        return "hot" if self.rung and self.rung.cost == "hot" else self.hook.cost

    @property
    def left_out(self) -> bool:
        """Whether something better was not tried because it is hot."""
        return any(reason == COLD for _, reason in self.refused)


class Loader:
    """The maps and programs of one image in the kernel. Close it to remove them all.

    Raises:
        PrivilegeError: if this process may not create maps.
        LoadError: if the kernel refuses one for another reason.
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self.maps: dict[str, int] = {}
        self._map_list: list[int] = []
        self._programs: dict[tuple[str, str], int] = {}
        self._ahead = Ahead({})
        self._links: dict[str, list[int]] = {}
        try:
            for entry in image.maps:
                fd = libbpf.map_create(
                    entry.type,
                    entry.name,
                    entry.key_size,
                    entry.leaf_size,
                    _entries(entry),
                    entry.flags,
                )
                self.maps[entry.name] = fd
                self._map_list.append(fd)
        except OSError as error:
            self.close()
            if isinstance(error, PermissionError):
                raise PrivilegeError("BPF maps may not be created", "run as root") from error
            raise LoadError(f"the kernel refused map {entry.name}: {error.strerror}") from error

    def close(self) -> None:
        """Detach and unload everything. Can be called again."""
        for name in reversed(list(self._links)):
            self.release(name)
        self._ahead.close()
        for fd in (*self._programs.values(), *self._map_list):
            os.close(fd)
        self._programs.clear()
        self._map_list.clear()
        self.maps.clear()

    def release(self, name: str) -> None:
        """Detach a hook. Its programs stay loaded: their statistics go on when it is attached."""
        for fd in reversed(self._links.pop(name, [])):
            os.close(fd)

    def load_ahead(self, steps: Iterable[Step]) -> None:
        """Begin to load, in the background, what these steps will attach if nothing is refused.

        The longest first: it decides when all are loaded.
        """
        wanted = {
            _key(attachment): attachment
            for step in steps
            for rung in [rung for rung in step.rungs if self._lacks(rung) is None][:1]
            for attachment in rung.attachments
        }
        programs = self.image.programs
        order = sorted(wanted, key=lambda key: len(programs[key[0]].code), reverse=True)
        self._ahead = Ahead({key: functools.partial(self._load, wanted[key]) for key in order})
        self._ahead.start()

    def let_go(self) -> None:
        """Unload what was loaded ahead and is not attached."""
        self._ahead.close()

    def _program(self, attachment: Attachment) -> int:
        # One fexit program may serve several functions, but is loaded for each of them.
        key = _key(attachment)
        if key not in self._programs:
            ahead = self._ahead.take(key)
            self._programs[key] = self._load(attachment) if ahead is None else ahead
        return self._programs[key]

    def _load(self, attachment: Attachment) -> int:
        program = self.image.programs[attachment.program]
        code = self.image.bytecode(program, self._map_list)
        kind, target = self._type(attachment)
        try:
            return libbpf.prog_load(kind, program.name, code, target)
        finally:
            if target and target.object_fd:
                os.close(target.object_fd)

    def _type(self, attachment: Attachment) -> tuple[int, libbpf.Target | None]:
        image = self.image
        match attachment.how:
            case "tracepoint" if image.tp_btf:
                btf_id = image.tracepoints[attachment.target]
                return libbpf.PROG_TRACING, libbpf.Target(libbpf.TRACE_RAW_TP, btf_id)
            case "tracepoint":
                return libbpf.PROG_RAW_TRACEPOINT, None
            case "fentry" | "fexit":
                way = libbpf.TRACE_FENTRY if attachment.how == "fentry" else libbpf.TRACE_FEXIT
                if attachment.target in image.functions:
                    own = libbpf.Target(way, image.functions[attachment.target])
                    return libbpf.PROG_TRACING, own
                where = (attachment.module, attachment.target)
                return libbpf.PROG_TRACING, module_btf.target(way, *where, image.btf_types)
        return libbpf.PROG_KPROBE, None

    def _attach(self, attachment: Attachment) -> int:
        program = self._program(attachment)
        match attachment.how:
            case "kprobe" | "kretprobe":
                entry = attachment.how == "kprobe"
                return libbpf.attach_kprobe(
                    program,
                    libbpf.KPROBE_ENTRY if entry else libbpf.KPROBE_RETURN,
                    f"pmtutrace_{os.getpid()}_{attachment.program}",
                    attachment.target,
                )
            case "tracepoint" if not self.image.tp_btf:
                return libbpf.raw_tracepoint_open(attachment.target, program)
        return libbpf.raw_tracepoint_open(None, program)

    def _lacks(self, rung: Rung) -> Attachment | None:
        """Return what of a rung could not be compiled for this kernel."""
        return next((a for a in rung.attachments if a.program not in self.image.programs), None)

    def _hold(self, name: str, rung: Rung) -> str:
        """Attach a whole rung; return why it does not hold, or an empty string."""
        links: list[int] = []
        lacking = self._lacks(rung)
        if lacking is not None:
            return f"{lacking.how} {lacking.target} lacks an argument"
        for attachment in rung.attachments:
            try:
                links.append(self._attach(attachment))
            except OSError as error:
                for link in links:
                    os.close(link)
                detail = f": {error.filename}" if error.filename else ""
                return f"{attachment.how} on {attachment.target}: {error.strerror}{detail}"
        self._links[name] = links
        return ""

    def attach(self, step: Step) -> Attached:
        """Attach one hook by the best rung that holds.

        Raises:
            LoadError: if none does and there is no tracing without it.
        """
        refused = list(step.refused)
        for rung in step.rungs:
            why = self._hold(step.hook.name, rung)
            if not why:
                return Attached(step.hook, rung, tuple(refused), step.waits)
            refused.append((rung.name, why))
        if step.hook.needed:
            why = "; ".join(f"{name}: {reason}" for name, reason in refused)
            raise LoadError(f"hook {step.hook.name} cannot be attached: {why}")
        return Attached(step.hook, None, tuple(refused), step.waits)

    def programs(self) -> Iterable[tuple[str, int]]:
        """Return the loaded programs: name and descriptor."""
        return [(name, fd) for (name, _), fd in self._programs.items()]


def _entries(map_: Map) -> int:
    """Return how many entries a map gets on this machine."""
    return map_.max_entries * min(cpus.possible(), CPUS_AT_MOST.get(map_.name, 1))


def _key(attachment: Attachment) -> tuple[str, str]:
    return attachment.program, attachment.target
