"""The few calls of libbpf and libbcc_bpf that loading takes, by ctypes. Neither library holds LLVM.

Every function returns a file descriptor or raises OSError with the kernel's errno. Structures are
those of libbpf 1.0 and later (bpf/bpf.h), which are extended at the end only and carry their size.
"""

from __future__ import annotations

import ctypes as ct
import errno
import functools
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from pmtutrace.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable

PROG_KPROBE, PROG_RAW_TRACEPOINT, PROG_TRACING = 2, 17, 26
TRACE_RAW_TP, TRACE_FENTRY, TRACE_FEXIT = 23, 24, 25
MAP_PERCPU_HASH, MAP_PERCPU_ARRAY, MAP_RINGBUF = 5, 6, 27
STATS_RUN_TIME = 0
ENOTSUPP = 524  # linux/errno.h
KPROBE_ENTRY, KPROBE_RETURN = 0, 1
INSTRUCTION = 8


class _MapOptions(ct.Structure):
    _fields_ = (
        ("sz", ct.c_size_t),
        ("btf_fd", ct.c_uint32),
        ("btf_key_type_id", ct.c_uint32),
        ("btf_value_type_id", ct.c_uint32),
        ("btf_vmlinux_value_type_id", ct.c_uint32),
        ("inner_map_fd", ct.c_uint32),
        ("map_flags", ct.c_uint32),
        ("map_extra", ct.c_uint64),
        ("numa_node", ct.c_uint32),
        ("map_ifindex", ct.c_uint32),
    )


class _ProgramOptions(ct.Structure):
    _fields_ = (
        ("sz", ct.c_size_t),
        ("attempts", ct.c_int),
        ("expected_attach_type", ct.c_uint32),
        ("prog_btf_fd", ct.c_uint32),
        ("prog_flags", ct.c_uint32),
        ("prog_ifindex", ct.c_uint32),
        ("kern_version", ct.c_uint32),
        ("attach_btf_id", ct.c_uint32),
        ("attach_prog_fd", ct.c_uint32),
        ("attach_btf_obj_fd", ct.c_uint32),
        ("fd_array", ct.c_void_p),
        ("func_info", ct.c_void_p),
        ("func_info_cnt", ct.c_uint32),
        ("func_info_rec_size", ct.c_uint32),
        ("line_info", ct.c_void_p),
        ("line_info_cnt", ct.c_uint32),
        ("line_info_rec_size", ct.c_uint32),
        ("log_level", ct.c_uint32),
        ("log_size", ct.c_uint32),
        ("log_buf", ct.c_char_p),
    )


class _BatchOptions(ct.Structure):
    _fields_ = (("sz", ct.c_size_t), ("elem_flags", ct.c_uint64), ("flags", ct.c_uint64))


class _BtfInfo(ct.Structure):
    _fields_ = (
        ("btf", ct.c_uint64),
        ("btf_size", ct.c_uint32),
        ("id", ct.c_uint32),
        ("name", ct.c_uint64),
        ("name_len", ct.c_uint32),
        ("kernel_btf", ct.c_uint32),
    )


class ProgramInfo(ct.Structure):
    """``struct bpf_prog_info`` of linux/bpf.h as far as kernel 6.18 has it."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("unused", ct.c_uint8 * 184),
        ("run_time_ns", ct.c_uint64),
        ("run_cnt", ct.c_uint64),
        ("recursion_misses", ct.c_uint64),
        ("verified_insns", ct.c_uint32),
        ("padding", ct.c_uint32 * 5),
    )


RING_CALLBACK = ct.CFUNCTYPE(ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_size_t)
_PRINT = ct.CFUNCTYPE(ct.c_int, ct.c_int, ct.c_char_p, ct.c_void_p)
# libbpf would write warnings to stderr by itself; what matters comes back as errno.
_QUIET = _PRINT(lambda _level, _format, _arguments: 0)


RECORD_HEADER, RECORD_ALIGNED = 8, 8  # linux/bpf.h: BPF_RINGBUF_HDR_SZ, kernel/bpf/ringbuf.c


def _open(*names: str) -> ct.CDLL:
    for name in names:
        try:
            return ct.CDLL(name, use_errno=True)
        except OSError:
            continue
    raise LoadError(
        f"{names[0]} is not installed",
        "install the distribution's bcc: apt install python3-bpfcc, or dnf install python3-bcc",
    )


@functools.cache
def _bpf() -> ct.CDLL:
    lib = _open("libbpf.so.1")
    lib.libbpf_set_print(_QUIET)
    lib.ring_buffer__new.restype = ct.c_void_p
    lib.ring_buffer__new.argtypes = (ct.c_int, RING_CALLBACK, ct.c_void_p, ct.c_void_p)
    for name in ("ring_buffer__consume", "ring_buffer__free", "ring_buffer__epoll_fd"):
        getattr(lib, name).argtypes = (ct.c_void_p,)
    return lib


@functools.cache
def _bcc_bpf() -> ct.CDLL:
    lib = _open("libbcc_bpf.so.0", "libbcc_bpf.so")
    lib.bpf_attach_kprobe.argtypes = (
        ct.c_int,
        ct.c_int,
        ct.c_char_p,
        ct.c_char_p,
        ct.c_uint64,
        ct.c_int,
    )
    return lib


def versions() -> str:
    """Return which libraries there are.

    Raises:
        LoadError: if one is missing.
    """
    lib = _bpf()
    _bcc_bpf()
    lib.libbpf_version_string.restype = ct.c_char_p
    return f"libbpf {lib.libbpf_version_string().decode().removeprefix('v')}, libbcc_bpf"


def _checked(value: int) -> int:
    if value < 0:
        number = ct.get_errno() or -value
        # The kernel's own word for what it cannot do, which user space has no text for.
        said = "not supported by the kernel" if number == ENOTSUPP else os.strerror(number)
        raise OSError(number, said)
    return value


class Target(NamedTuple):
    """What a program of type TRACING is for: BTF type id, object file descriptor (0: vmlinux)."""

    attach_type: int
    btf_id: int
    object_fd: int = 0


def map_create(kind: int, name: str, key: int, value: int, entries: int, flags: int) -> int:
    """Create a map; sizes are in octets."""
    options = _MapOptions(sz=ct.sizeof(_MapOptions), map_flags=flags)
    return _checked(
        _bpf().bpf_map_create(kind, name.encode()[:15], key, value, entries, ct.byref(options))
    )


def prog_load(
    kind: int, name: str, code: bytes, target: Target | None = None, *, explain: bool = True
) -> int:
    """Load a program.

    Raises:
        OSError: the kernel's errno; its ``filename`` is the last line of the verifier's log, unless
            nothing is to be explained.
    """
    options = _ProgramOptions(sz=ct.sizeof(_ProgramOptions), attempts=1)
    if target:
        options.expected_attach_type = target.attach_type
        options.attach_btf_id = target.btf_id
        options.attach_btf_obj_fd = target.object_fd
    count = ct.c_size_t(len(code) // INSTRUCTION)
    text, log = ct.create_string_buffer(code, len(code)), ct.create_string_buffer(1)
    load: Callable[[], int] = functools.partial(
        _bpf().bpf_prog_load, kind, name.encode()[:15], b"GPL", text, count, ct.byref(options)
    )
    for _ in range(100):  # the verifier gives up where a signal is pending; Python handles that
        fd, number = load(), ct.get_errno()
        if fd >= 0 or number != errno.EAGAIN:
            break
    if fd < 0 and explain:
        log = ct.create_string_buffer(1 << 20)
        options.log_level, options.log_size, options.log_buf = 1, len(log), ct.addressof(log)
        fd = load()  # there may be room for it now
    if fd >= 0:
        return fd
    lines = [line for line in log.value.decode(errors="replace").splitlines() if line.strip()]
    # The verifier ends with its statistics; the complaint is the line before.
    said = [line for line in lines if not line.startswith("processed ")]
    raise OSError(number, os.strerror(number), said[-1] if said else "")


def raw_tracepoint_open(name: str | None, program: int) -> int:
    """Attach to a raw tracepoint by name, or, with None, to what the program was loaded for."""
    return _checked(_bpf().bpf_raw_tracepoint_open(name.encode() if name else None, program))


def attach_kprobe(program: int, where: int, event: str, function: str) -> int:
    """Attach to a kernel function's entry or return; closing the descriptor detaches."""
    return _checked(
        _bcc_bpf().bpf_attach_kprobe(program, where, event.encode(), function.encode(), 0, 0)
    )


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Set one entry."""
    _checked(_bpf().bpf_map_update_elem(fd, key, value, ct.c_uint64(0)))


def map_lookup(fd: int, key: bytes, size: int) -> bytes:
    """Return one value; ``size`` counts all CPUs of a per-CPU map."""
    value = ct.create_string_buffer(size)
    _checked(_bpf().bpf_map_lookup_elem(fd, key, value))
    return value.raw


def map_items(fd: int, key_size: int, value_size: int) -> list[tuple[bytes, bytes]]:
    """Return every entry of a hash, 512 at a system call (kernel 5.6, cb4d03ab499d)."""
    step = 512
    keys = ct.create_string_buffer(key_size * step)
    values = ct.create_string_buffer(value_size * step)
    options = _BatchOptions(sz=ct.sizeof(_BatchOptions))
    # The cursor of a hash is a bucket number, but the kernel copies a whole key.
    here, there = ct.create_string_buffer(key_size), ct.create_string_buffer(key_size)
    out: list[tuple[bytes, bytes]] = []
    first = True
    while True:
        count = ct.c_uint32(step)
        result = _bpf().bpf_map_lookup_batch(
            fd, None if first else here, there, keys, values, ct.byref(count), ct.byref(options)
        )
        number = ct.get_errno() if result < 0 else 0
        if number == 28:  # ENOSPC: one bucket holds more than `step`
            step *= 2
            keys = ct.create_string_buffer(key_size * step)
            values = ct.create_string_buffer(value_size * step)
            continue
        if number not in (0, 2):  # ENOENT marks the end, and may come with entries
            raise OSError(number, os.strerror(number))
        raw_keys, raw_values = keys.raw, values.raw
        out.extend(
            (
                raw_keys[i * key_size : (i + 1) * key_size],
                raw_values[i * value_size : (i + 1) * value_size],
            )
            for i in range(count.value)
        )
        if number == 2:
            return out
        first = False
        here, there = there, here


def program_info(fd: int) -> ProgramInfo:
    """Return what the kernel knows of a program, its run time and count included."""
    info = ProgramInfo()
    size = ct.c_uint32(ct.sizeof(info))
    _checked(_bpf().bpf_obj_get_info_by_fd(fd, ct.byref(info), ct.byref(size)))
    return info


def btf_object(name: str) -> int:
    """Return a descriptor of the kernel's own BTF of a module (5.11).

    Raises:
        OSError: if there is none of this name.
    """
    lib, found = _bpf(), ct.c_uint32(0)
    while not lib.bpf_btf_get_next_id(found, ct.byref(found)):
        fd = lib.bpf_btf_get_fd_by_id(found)
        if fd < 0:
            continue  # gone meanwhile
        text = ct.create_string_buffer(64)
        info = _BtfInfo(name=ct.addressof(text), name_len=len(text))
        size = ct.c_uint32(ct.sizeof(info))
        failed = lib.bpf_obj_get_info_by_fd(fd, ct.byref(info), ct.byref(size))
        if not failed and info.kernel_btf and text.value == name.encode():
            return int(fd)
        os.close(fd)
    raise OSError(errno.ENOENT, f"the kernel has no BTF of {name}")


def enable_stats() -> int:
    """Have the kernel measure run times for as long as the descriptor is open (5.8)."""
    return _checked(_bpf().bpf_enable_stats(STATS_RUN_TIME))


class Ring:
    """A ring buffer and the function that takes each record, as a pointer and a size in octets.

    The function runs inside a C callback, where exceptions would vanish: it must not raise.
    ``room`` is the size of the ring in octets.
    """

    def __init__(self, fd: int, room: int, take: Callable[[int, int], None]) -> None:
        self._room = self._left = room

        def callback(_context: int | None, data: int, size: int) -> int:
            take(data, size)
            self._left -= size + RECORD_HEADER + -size % RECORD_ALIGNED
            # What is below zero ends ring_buffer__consume(), and this record stays taken.
            return 0 if self._left > 0 else -errno.EAGAIN

        self._callback = RING_CALLBACK(callback)
        self._ring: Any = _bpf().ring_buffer__new(fd, self._callback, None, None)
        if not self._ring:
            number = ct.get_errno()
            raise OSError(number, os.strerror(number))

    def consume(self) -> None:
        """Take everything that is there now.

        What comes meanwhile is taken too, but no more than the ring has room for: it may come
        faster than it is taken.
        """
        self._left = self._room
        result = _bpf().ring_buffer__consume(self._ring)
        if self._left > 0:
            _checked(result)

    def close(self) -> None:
        """Unmap the ring."""
        if self._ring:
            _bpf().ring_buffer__free(self._ring)
            self._ring = None
