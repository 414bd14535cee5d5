"""The diagnosis of the incident, and whether it is what is true of the lab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pmtutrace.jsonl import SCHEMA, timestamp

if TYPE_CHECKING:
    from pmtutrace.diagnosis import Case, Collector, Finding
    from pmtutrace.lab.incident import Incident
    from pmtutrace.lab.net import Node
    from pmtutrace.lab.ruler import Truth
    from pmtutrace.tracing import Tracer
    from pmtutrace.tunnels.inventory import Inventory

MOST_OFF = 0.1
RECURSION, RHYTHM = "recursive_tunnel", "periodic_collapse"
UNITS = {"period_s": "s", "episode_s": "s", "duty": "%"}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, and what is true."""

    findings: list[Finding]
    case: Case
    truth: Truth | None

    @property
    def rhythm(self) -> dict[str, float]:
        """Return period, length and share of the time as found; empty if no rhythm was."""
        for finding in self.findings:
            if finding.id == RHYTHM:
                return {name: float(finding.evidence[name]) for name in UNITS}
        return {}

    @property
    def measured(self) -> dict[str, float]:
        """Return the same as the lab has measured it."""
        if self.truth is None:
            return {}
        return {name: float(getattr(self.truth, name)) for name in UNITS}

    def sender(self, saddr: str) -> str | None:
        """Return what a machine did with what it was told; None if it was told nothing."""
        return next((s.kind for s in self.case.senders if s.saddr == saddr), None)

    @property
    def remedy(self) -> str:
        """Return the first command that is to be typed against the cause of it all."""
        return next(f.remedy[0] for f in self.findings if f.id == RECURSION)

    def json(self) -> dict[str, Any]:
        """Return the line that ends ``demo -j``; see docs/events.md."""
        senders = [
            {"saddr": s.saddr, "daddr": s.daddr, "kind": s.kind, "packets": s.packets}
            for s in self.case.senders
        ]
        findings = [finding.json() for finding in self.findings]
        return {
            "type": "diagnosis",
            "ts": timestamp(self.case.ended),
            "schema": SCHEMA,
            "netns": None,
            "findings": findings,
            "senders": senders,
            "lab": self.measured or None,
        }


def diagnosed(
    tracer: Tracer, collector: Collector, inventory: Inventory, edge: Node, truth: Truth | None
) -> Diagnosis:
    """Make the diagnosis on edge, while the fault is there."""
    from pmtutrace.diagnosis import diagnose
    from pmtutrace.lab import conclude

    case = conclude.case(tracer, collector, inventory, {edge.inum: edge.name})
    return Diagnosis(diagnose(case), case, truth)


def table(found: Diagnosis) -> list[str]:
    """Return the rhythm as found beside that which the lab has measured."""
    rows = [f"{'':20} {'diagnosis':>10} {'lab':>10}"]
    for name, words in (
        ("period_s", "from one to the next"),
        ("episode_s", "each lasts"),
        ("duty", "share of the time"),
    ):
        cells = (_cell(values.get(name), UNITS[name]) for values in (found.rhythm, found.measured))
        rows.append(f"{words:20} " + " ".join(f"{cell:>10}" for cell in cells))
    return rows


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if unit == "%" else f"{value:.2f} {unit}"


def wrong(found: Diagnosis, incident: Incident) -> list[str]:
    """Return in what the diagnosis is not what is true of the lab, a sentence each."""
    from pmtutrace.lab.incident import CUSTOMERS, FOLLOWS, IGNORES, TUNNEL

    out = []
    if not any(f.id == RECURSION and f.subject["name"] == TUNNEL for f in found.findings):
        out.append(f"it does not name the {RECURSION} {TUNNEL}")
    for name, true in found.measured.items():
        value = found.rhythm.get(name)
        if value is None or abs(value - true) > MOST_OFF * true:
            out.append(f"{name} is {value}, and the lab measured {true:.3f}")
    if not found.measured:
        out.append("the lab has measured no rhythm")
    elif abs(found.measured["period_s"] - incident.period_s) > MOST_OFF * incident.period_s:
        out.append("the lab did not keep its own time")
    for name, kind in ((FOLLOWS, "followed"), (IGNORES, "ignored")):
        if (seen := found.sender(CUSTOMERS[name])) != kind:
            out.append(f"{name} {kind} what it was told, and the diagnosis says {seen}")
    return out
