"""Rules as data: one TOML file for each finding.

A file has ``id``, ``title``, ``severity``, ``subject``, ``follows`` and one or more ``[[case]]``:
the first case whose conditions all hold makes the finding. A condition compares a fact with a
value, or with another fact, whose name is given as ``"@name"``.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from pmtutrace.errors import PmtutraceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pmtutrace.diagnosis.facts import Value

SEVERITIES = ("critical", "warning", "info")
TESTS: dict[str, Callable[[Any, Any], object]] = {
    "is": lambda fact, value: fact == value,
    "not": lambda fact, value: fact != value,
    "least": lambda fact, value: fact >= value,
    "most": lambda fact, value: fact <= value,
    "above": lambda fact, value: fact > value,
    "below": lambda fact, value: fact < value,
    "in": lambda fact, value: fact in value,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison. ``test`` is one of :data:`TESTS`, or ``known``: yes, or no."""

    fact: str
    test: str
    value: Any

    def holds(self, facts: Mapping[str, Value]) -> bool:
        """Say if it holds; of what is not known nothing does, but that it is not known."""
        found = facts.get(self.fact)
        if self.test == "known":
            return (found is not None) is bool(self.value)
        value = self.value
        if isinstance(value, str) and value.startswith("@"):
            value = facts.get(value[1:])
        if found is None or value is None:
            return False
        return bool(TESTS[self.test](found, value))


@dataclass(frozen=True, slots=True)
class RuleCase:
    """One way in which a rule's finding shows.

    ``times`` says which of the subject's times are those of the finding. ``cause`` are sentences,
    ``remedy`` and ``check`` commands, with names of facts in braces. Each has one form or several:
    the first that names only what is known is taken, and where there is none, nothing.
    """

    when: tuple[Condition, ...]
    times: str
    evidence: tuple[str, ...]
    cause: tuple[tuple[str, ...], ...]
    remedy: tuple[tuple[str, ...], ...]
    check: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """What makes a finding. ``follows`` are findings that it may be a consequence of."""

    id: str
    title: str
    severity: str
    subject: str
    follows: tuple[str, ...]
    cases: tuple[RuleCase, ...]

    def case(self, facts: Mapping[str, Value]) -> RuleCase | None:
        """Return the first case that holds; None where none does."""
        fits = (c for c in self.cases if all(when.holds(facts) for when in c.when))
        return next(fits, None)


@functools.cache
def rules() -> tuple[Rule, ...]:
    """Return all rules, in order of their ids.

    Raises:
        PmtutraceError: a file of rules is damaged.
    """
    folder = resources.files("pmtutrace.diagnosis") / "rules"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    found = []
    for file in files:
        try:
            found.append(read(file.read_text(encoding="utf-8")))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PmtutraceError(f"the rule {file.name} cannot be read: {error}") from error
    return tuple(found)


def read(text: str) -> Rule:
    """Read one file.

    Raises:
        KeyError: it lacks something, or has an unknown test.
        ValueError: it is no TOML, or names a severity that there is not.
    """
    table = tomllib.loads(text)
    if table["severity"] not in SEVERITIES:
        raise ValueError(table["severity"])
    return Rule(
        table["id"],
        table["title"],
        table["severity"],
        table["subject"],
        tuple(table.get("follows", ())),
        tuple(_case(case) for case in table["case"]),
    )


def _case(table: dict[str, Any]) -> RuleCase:
    conditions = [
        Condition(fact, test, value)
        for fact, tests in table["when"].items()
        for test, value in tests.items()
    ]
    for condition in conditions:
        if condition.test not in TESTS.keys() | {"known"}:
            raise KeyError(condition.test)
    return RuleCase(
        tuple(conditions),
        table.get("times", ""),
        tuple(table["evidence"]),
        *(_forms(table.get(name, ())) for name in ("cause", "remedy", "check")),
    )


def _forms(texts: Sequence[str | list[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple((text,) if isinstance(text, str) else tuple(text) for text in texts)
