"""Findings as text for people."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from pmtutrace.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmtutrace.diagnosis import Finding

WIDTH = 96


def lines(findings: Iterable[Finding]) -> list[str]:
    """Return all findings, numbered, with cause, what to do and what to check."""
    out: list[str] = []
    for number, finding in enumerate(findings, 1):
        out += _lines(number, finding)
    return out


def _lines(number: int, finding: Finding) -> list[str]:
    subject = finding.subject
    where = " ".join(
        printable(str(word))
        for word in (subject["kind"], subject["name"], "on", subject["netns"])
        if word
    )
    head = f"{number:2} {finding.severity:8} {finding.id}: {where}"
    cause = textwrap.wrap(printable(finding.cause), WIDTH - 3)
    remedy = [f"do:    {printable(command)}" for command in finding.remedy]
    check = [f"check: {printable(command)}" for command in finding.check]
    return [head, *(f"   {line}" for line in (*cause, *remedy, *check))]
