"""The counters as they lie in the kernel's maps: by key, the values of all CPUs in a row."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pmtutrace.kernel import cpus, libbpf

if TYPE_CHECKING:
    from pmtutrace.kernel.image import Image

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
        self._cpus = cpus.possible()
        self._digest = structs["digest"].size
        self._far_digest = structs["far_digest"].size
        self._key = structs["flow_key"].size
        self._near = structs["near_count"].size
        self._count = structs["flow_count"].size
        (places,) = structs["near_counts"].members
        self._unused = 64 - ((places.number or 0).bit_length() - 1)
        self._nearby_size = structs["near_counts"].size
        self._entries = image.entries("overflow")
        self._keys: dict[bytes, bytes] = {}  # by digest

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return of each counter its ``struct flow_key`` and one ``struct flow_count`` or more.

        There may be two for a CPU, and none for one that has not counted; their sums count.
        """
        far = self._far()
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

    def _far(self) -> dict[bytes, bytes]:
        """Return by digest what is in the table, of all CPUs in a row."""
        found: dict[bytes, bytes] = {}
        for key, octets in libbpf.map_items(self._maps["counts"], self._far_digest, self._count):
            digest = key[: self._digest]
            found[digest] = found[digest] + octets if digest in found else octets
        return found

    def _nearby(self) -> dict[bytes, list[bytes]]:
        """Return by digest what is counted in places of their own, by CPU."""
        found = defaultdict(list)
        size, digest = self._near, self._digest
        places = {int.from_bytes(digest[:8], "little") >> self._unused for digest in self._keys}
        for cpu in range(self._cpus) if places else ():
            octets = libbpf.map_lookup(
                self._maps["near_counts"], cpu.to_bytes(4, "little"), self._nearby_size
            )
            for place in places:
                at = place * size
                found[octets[at : at + digest]].append(octets[at + digest : at + size])
        return found

    def overflow(self) -> list[bytes]:
        """Return by index the values of all CPUs of what found no room."""
        return [
            libbpf.map_lookup(
                self._maps["overflow"], index.to_bytes(4, "little"), self._count * self._cpus
            )
            for index in range(self._entries)
        ]
