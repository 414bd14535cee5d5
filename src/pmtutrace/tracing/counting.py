"""The counters as they lie in the kernel's maps: by key, the values of all CPUs in a row."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from pmtutrace.kernel import libbpf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmtutrace.kernel.image import Image

POSSIBLE_CPUS = Path("/sys/devices/system/cpu/possible")
ONLY = bytes(4)  # the key of a map of one value


class Counting:
    """Reads ``counts``, ``near_counts`` and ``keys`` of bpf/maps.bpf.c.

    Args:
        image: whose programs count.
        maps: file descriptors of its maps by name.
    """

    def __init__(self, image: Image, maps: dict[str, int]) -> None:
        structs = image.layout.structs
        self._maps = maps
        self._cpus = possible_cpus()
        self._digest = structs["digest"].size
        self._key = structs["flow_key"].size
        self._near = structs["near_count"].size
        self._count = structs["flow_count"].size
        self._unused = 64 - (image.entries("near_counts").bit_length() - 1)
        self._entries = image.entries("overflow")
        self._keys: dict[bytes, bytes] = {}  # by digest

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return of each counter its ``struct flow_key`` and one ``struct flow_count`` or more.

        There may be two for a CPU, and none for one that has not counted; their sums count.
        """
        far = dict(libbpf.map_items(self._maps["counts"], self._digest, self._count * self._cpus))
        # Read after those counters: the number says that a key is there, and comes before them.
        number = libbpf.map_lookup(self._maps["number_of_keys"], ONLY, 8)
        if int.from_bytes(number, "little") > len(self._keys):
            self._keys = dict(libbpf.map_items(self._maps["keys"], self._digest, self._key))
        near = self._nearby()
        return [
            (key, octets)
            for digest, key in self._keys.items()
            if (octets := far.get(digest, b"") + b"".join(near.get(digest, ())))
        ]

    def _nearby(self) -> dict[bytes, list[bytes]]:
        """Return by digest what is counted in places of their own, by CPU."""
        found = defaultdict(list)
        places = {int.from_bytes(digest[:8], "little") >> self._unused for digest in self._keys}
        for place in sorted(places):
            for digest, octets in self._place(place):
                found[digest].append(octets)
        return found

    def _place(self, place: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield digest and ``struct flow_count`` of each CPU."""
        size, digest = self._near, self._digest
        octets = libbpf.map_lookup(
            self._maps["near_counts"], place.to_bytes(4, "little"), size * self._cpus
        )
        for at in range(0, len(octets), size):
            yield octets[at : at + digest], octets[at + digest : at + size]

    def overflow(self) -> list[bytes]:
        """Return by index the values of all CPUs of what found no room."""
        return [
            libbpf.map_lookup(
                self._maps["overflow"], index.to_bytes(4, "little"), self._count * self._cpus
            )
            for index in range(self._entries)
        ]


def possible_cpus() -> int:
    """Return how many CPUs the kernel keeps per-CPU values for."""
    last = POSSIBLE_CPUS.read_text().strip().split(",")[-1]
    return int(last.rpartition("-")[2]) + 1
