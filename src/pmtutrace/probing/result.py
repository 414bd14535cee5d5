"""What is reported of one destination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pmtutrace.jsonl import SCHEMA, timestamp
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from pmtutrace.probing.verdict import Judgement, Path, Under


@dataclass(frozen=True, slots=True)
class Result:
    """One destination, probed.

    ``by`` is the transport that it answered over, ``rtt`` the shortest time that took, ``seconds``
    what all of it took; both in seconds. ``at`` is when it began, nanoseconds since 1970. ``path``
    is None where nothing was answered.
    """

    dest: str
    daddr: str | None
    judgement: Judgement
    path: Path | None
    by: str | None
    rtt: float | None
    probes: int
    seconds: float
    under: Under | None
    at: int

    @property
    def verdict(self) -> str:
        """Return the verdict's one word."""
        return self.judgement.verdict

    def json(self) -> dict[str, Any]:
        """Return the line of ``pmtutrace probe -j``; see docs/events.md."""
        path, under = self.path, self.under
        before, after = (path.before, path.after) if path else (None, None)
        news = path.news if path else None
        return {
            "type": "probe",
            "ts": timestamp(self.at),
            "schema": SCHEMA,
            "dest": self.dest,
            "daddr": self.daddr,
            "verdict": self.verdict,
            "mtu": path.mtu if path else None,
            "round_trip": path.round_trip if path else None,
            "settled": bool(path and path.settled),
            "hole": list(path.hole) if path and path.hole else None,
            "dev": printable(before.dev) if before else None,
            "dev_mtu": before.dev_mtu if before else None,
            "believed": before.mtu if before else None,
            "locked": bool(before and before.locked),
            "expires": before.expires if before else None,
            "learned": after.mtu if after else None,
            "told": {"from": news.by, "mtu": news.mtu} if news else None,
            "tunnel": _tunnel(under) if under else None,
            "by": self.by,
            "rtt_ms": None if self.rtt is None else round(self.rtt * 1000, 3),
            "probes": self.probes,
            "seconds": round(self.seconds, 3),
            "found": self.judgement.found,
            "hint": self.judgement.hint or None,
        }


def _tunnel(under: Under) -> dict[str, Any]:
    return {
        "name": printable(under.tunnel),
        "remote": under.remote,
        "overhead": under.overhead,
        "mtu": under.mtu,
        "believed": under.believed.mtu,
        "locked": under.believed.locked,
        "expires": under.believed.expires,
        "recursive": under.recursive,
    }
