"""From a case to findings: every rule over every subject, root causes first. Pure."""

from __future__ import annotations

import shlex
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pmtutrace.diagnosis import elsewhere, tunnelled
from pmtutrace.diagnosis.owners import Index
from pmtutrace.diagnosis.rules import SEVERITIES, rules
from pmtutrace.jsonl import timestamp
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pmtutrace.diagnosis.case import Case
    from pmtutrace.diagnosis.facts import Link, Subject, Value
    from pmtutrace.diagnosis.owners import Index
from pmtutrace.diagnosis.rules import Rule, RuleCase

FIELDS = string.Formatter()


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that fired.

    ``severity`` is ``critical``, ``warning`` or ``info``. ``subject`` has ``kind``, ``netns`` and
    ``name``. ``since`` and ``until`` are nanoseconds since 1970; None where the beginning was not
    seen, or where it goes on. ``evidence`` are the facts that the rule rests on, and ``follows``,
    the ids of what it is a consequence of. ``remedy`` and ``check`` are commands to type.
    """

    id: str
    severity: str
    title: str
    subject: Mapping[str, str | int]
    since: int | None
    until: int | None
    evidence: Mapping[str, Any]
    cause: str
    remedy: tuple[str, ...]
    check: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """Return it as an object; see docs/findings.md."""
        return {
            "id": self.id,
            "severity": self.severity,
            "title": self.title,
            "subject": dict(self.subject),
            "since": None if self.since is None else timestamp(self.since),
            "until": None if self.until is None else timestamp(self.until),
            "evidence": dict(self.evidence),
            "cause": self.cause,
            "remedy": list(self.remedy),
            "check": list(self.check),
        }


@dataclass(frozen=True, slots=True)
class _Fired:
    """A rule, what it fired for, and the finding that this makes."""

    rule: Rule
    subject: Subject
    finding: Finding

    def caused(self, other: _Fired) -> bool:
        """Say if another one follows from this one."""
        return self.rule.id in other.rule.follows and bool(self.subject.links & other.subject.links)


def diagnose(case: Case) -> list[Finding]:
    """Return all findings: the gravest first, each followed by its consequences."""
    index = Index(case)
    fired = [
        _Fired(rule, subject, _finding(rule, found, subject, case))
        for subject in (*tunnelled.subjects(index), *elsewhere.subjects(index))
        for rule in rules()
        if rule.subject == subject.kind and (found := rule.case(subject.facts))
    ]
    return _in_order(fired)


def _finding(rule: Rule, found: RuleCase, subject: Subject, case: Case) -> Finding:
    name = printable(case.names.get(subject.netns, ""))
    within = f"ip netns exec {shlex.quote(name)} " if name else ""
    since, until = subject.times.get(found.times, (None, None))
    if until is not None and until >= case.ended:
        until = None
    return Finding(
        id=rule.id,
        severity=rule.severity,
        title=rule.title,
        subject={
            "kind": subject.kind,
            "netns": name or subject.netns,
            "name": subject.name,
        },
        since=since,
        until=until,
        evidence={fact: subject.facts.get(fact) for fact in found.evidence},
        cause=" ".join(_filled(found.cause, subject.facts)),
        remedy=tuple(within + line for line in _filled(found.remedy, subject.facts, quote=True)),
        check=tuple(within + line for line in _filled(found.check, subject.facts, quote=True)),
    )


def _filled(
    texts: Iterable[tuple[str, ...]], facts: Mapping[str, Value], *, quote: bool = False
) -> list[str]:
    """Fill facts into texts: of each, the first form that names nothing that is not known."""
    out = []
    for forms in texts:
        for form in forms:
            names = [name for _, name, _, _ in FIELDS.parse(form) if name]
            values = {name: facts.get(name) for name in names}
            if None not in values.values():
                words = {name: printable(str(value)) for name, value in values.items()}
                if quote:
                    words = {name: shlex.quote(word) for name, word in words.items()}
                out.append(form.format(**words))
                break
    return out


def _in_order(fired: list[_Fired]) -> list[Finding]:
    """Return findings, roots first and consequences after them, with what they follow from."""
    parents = _parents(fired)
    below: dict[int, list[int]] = {}
    for number, above in parents.items():
        for at in above:
            below.setdefault(at, []).append(number)
    ranked = sorted(parents, key=lambda at: (bool(parents[at]), _rank(fired[at].finding)))
    out: list[Finding] = []
    waiting, placed = ranked[::-1], set()
    while waiting:
        number = waiting.pop()
        if number in placed:
            continue
        placed.add(number)
        out.append(_following(fired[number].finding, [fired[at] for at in parents[number]]))
        ready = [at for at in below.get(number, ()) if placed.issuperset(parents[at])]
        waiting += sorted(ready, key=lambda at: _rank(fired[at].finding), reverse=True)
    return out


def _parents(fired: list[_Fired]) -> dict[int, list[int]]:
    """Return for each finding those that it follows from."""
    linked: dict[tuple[str, Link], set[int]] = {}
    for number, one in enumerate(fired):
        for link in one.subject.links:
            linked.setdefault((one.rule.id, link), set()).add(number)
    return {
        number: sorted(
            set().union(
                *(
                    linked.get((name, link), ())
                    for name in one.rule.follows
                    for link in one.subject.links
                )
            )
        )
        for number, one in enumerate(fired)
    }


def _rank(finding: Finding) -> tuple[object, ...]:
    severity = SEVERITIES.index(finding.severity)
    return severity, finding.since or 0, finding.id, str(finding.subject)


def _following(finding: Finding, parents: list[_Fired]) -> Finding:
    """Return a finding that names what it follows from."""
    if not parents:
        return finding
    roots = [one for one in parents if not any(other.caused(one) for other in parents)]
    names = [
        f"{one.rule.id} ({one.finding.subject['name']})"
        if one.finding.subject["name"]
        else one.rule.id
        for one in roots
    ]
    return replace(
        finding,
        cause=f"{finding.cause} It follows from {', '.join(dict.fromkeys(names))}.",
        evidence={**finding.evidence, "follows": sorted({one.rule.id for one in parents})},
    )
