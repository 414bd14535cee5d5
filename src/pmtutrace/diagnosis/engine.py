"""From a case to findings: every rule over every subject, root causes first. Pure."""

from __future__ import annotations

import shlex
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pmtutrace.diagnosis import elsewhere, tunnelled
from pmtutrace.diagnosis.rules import SEVERITIES, rules
from pmtutrace.jsonl import timestamp
from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pmtutrace.diagnosis.case import Case
    from pmtutrace.diagnosis.facts import Subject, Value
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
        return self.rule.id in other.rule.follows and bool(
            self.subject.links & other.subject.links or self.subject is other.subject
        )


def diagnose(case: Case) -> list[Finding]:
    """Return all findings: the gravest first, each followed by its consequences."""
    fired = [
        _Fired(rule, subject, _finding(rule, found, subject, case))
        for subject in (*tunnelled.subjects(case), *elsewhere.subjects(case))
        for rule in rules()
        if rule.subject == subject.kind and (found := rule.case(subject.facts))
    ]
    return _in_order(fired)


def _finding(rule: Rule, found: RuleCase, subject: Subject, case: Case) -> Finding:
    name = case.names.get(subject.netns)
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
            "netns": printable(name) if name else subject.netns,
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
    templates: Iterable[str], facts: Mapping[str, Value], *, quote: bool = False
) -> list[str]:
    """Fill facts into templates; one that names a fact that is not known is left out."""
    out = []
    for template in templates:
        names = [name for _, name, _, _ in FIELDS.parse(template) if name]
        values = {name: facts.get(name) for name in names}
        if None not in values.values():
            words = {name: str(value) for name, value in values.items()}
            if quote:
                words = {name: shlex.quote(word) for name, word in words.items()}
            out.append(template.format(**words))
    return out


def _in_order(fired: list[_Fired]) -> list[Finding]:
    """Return findings, roots first and consequences after them, with what they follow from."""
    parents = {
        number: [at for at, other in enumerate(fired) if at != number and other.caused(one)]
        for number, one in enumerate(fired)
    }
    out: list[Finding] = []
    placed: set[int] = set()

    def rank(number: int) -> tuple[object, ...]:
        finding = fired[number].finding
        return (
            SEVERITIES.index(finding.severity),
            finding.since or 0,
            finding.id,
            str(finding.subject),
        )

    def place(number: int) -> None:
        placed.add(number)
        out.append(_following(fired[number].finding, [fired[at] for at in parents[number]]))
        below = [at for at, above in parents.items() if number in above and at not in placed]
        for at in sorted(below, key=rank):
            if at not in placed and all(above in placed for above in parents[at]):
                place(at)

    for number in sorted(parents, key=lambda at: (bool(parents[at]), rank(at))):
        if number not in placed:
            place(number)
    return out


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
