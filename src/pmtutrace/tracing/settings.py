"""What a tracer is asked to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


class Settings(NamedTuple):
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
        without: ways to attach that are not used (``fentry``, ``kprobe`` …), as on a kernel that
            does not have them.
        cold: attach nothing that runs for packets of which none is refused.
    """

    netns: Collection[int] | None = None
    rate: int = 10
    every: bool = False
    snaplen: int = 128
    btf: Path | None = None
    image_file: Path | None = None
    flows: int = 65536
    plain: bool = False
    without: frozenset[str] = frozenset()
    cold: bool = False
