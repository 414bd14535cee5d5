"""Whose packets counters count, looked up once for all of a case."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pmtutrace.diagnosis.case import Arrived, Case, Path
    from pmtutrace.events import Counter, CounterKey, Outer
    from pmtutrace.tunnels.tunnel import Tunnel

    Counters = Mapping[CounterKey, Counter]

Items = list[tuple["CounterKey", "Counter"]]


class Index:
    """A case by tunnel, by namespace and by destination."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.paths: dict[tuple[int, str], Path] = {
            (path.timeline.netns, path.timeline.daddr): path for path in case.paths
        }
        self._tunnels = {(t.netns, t.ifindex): t for t in case.tunnels}
        self._fits: dict[tuple[int, Outer], Tunnel | None] = {}
        self.drops = self._by_tunnel(case.counters)
        self.fragments = self._by_tunnel(case.fragments)
        self.arrived: dict[tuple[int, str], list[Arrived]] = {}
        for one in case.arrived:
            self.arrived.setdefault((one.netns, one.daddr), []).append(one)
        self.by_netns: dict[int, Items] = {}
        for item in case.counters.items():
            self.by_netns.setdefault(item[0].netns, []).append(item)

    def tunnel(self, netns: int, ifindex: int) -> Tunnel | None:
        """Return the tunnel that is this device; None where it is none."""
        return self._tunnels.get((netns, ifindex))

    def ending(self, netns: int, daddr: str) -> list[Tunnel]:
        """Return the tunnels of a namespace whose far end this is."""
        return [t for t in self.case.tunnels if (t.netns, t.remote) == (netns, daddr)]

    def _by_tunnel(self, counters: Counters) -> dict[tuple[int, int], Items]:
        found: dict[tuple[int, int], Items] = {}
        for key, counter in counters.items():
            if owner := self._owner(key):
                found.setdefault((owner.netns, owner.ifindex), []).append((key, counter))
        return found

    def _owner(self, key: CounterKey) -> Tunnel | None:
        """Return the tunnel whose packets a counter counts; None where there is none.

        It is that which made the outer header, else that of the outer addresses, else the device.
        """
        if key.maker and (made := self.tunnel(*key.maker)):
            return made
        if key.outer is None:
            return self.tunnel(key.netns, key.ifindex)
        asked = key.netns, key.outer
        if asked not in self._fits:
            self._fits[asked] = self._fitting(*asked)
        return self._fits[asked]

    def _fitting(self, netns: int, outer: Outer) -> Tunnel | None:
        ends = outer.saddr, outer.daddr, outer.proto
        best, most = None, -1
        for item in self.case.tunnels:
            fit = item.fit(*ends, None, item.port) if item.netns == netns else None
            if fit is not None and fit > most:
                best, most = item, fit
        return best
