"""All scenarios. One more is one more declaration in one of the modules here."""

from __future__ import annotations

import difflib
import fnmatch
from typing import TYPE_CHECKING

from pmtutrace.errors import UsageError
from pmtutrace.lab.scenarios import (
    astray,
    bridged,
    controls,
    external,
    frames,
    geneve,
    gre,
    gretap,
    ip6,
    ipip,
    ipsec,
    l2tp,
    learned,
    local,
    nested,
    news,
    routed,
    sit,
    switched,
    vxlan,
    wireguard,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pmtutrace.lab.scenario import Scenario

ALL: tuple[Scenario, ...] = (
    *routed.SCENARIOS,
    *news.SCENARIOS,
    *local.SCENARIOS,
    *bridged.SCENARIOS,
    *vxlan.SCENARIOS,
    *gre.SCENARIOS,
    *gretap.SCENARIOS,
    *ipip.SCENARIOS,
    *sit.SCENARIOS,
    *learned.SCENARIOS,
    *astray.SCENARIOS,
    *frames.SCENARIOS,
    *geneve.SCENARIOS,
    *ip6.SCENARIOS,
    *ipsec.SCENARIOS,
    *wireguard.SCENARIOS,
    *l2tp.SCENARIOS,
    *nested.SCENARIOS,
    *external.SCENARIOS,
    *switched.SCENARIOS,
    *controls.SCENARIOS,
)
BY_NAME = {scenario.name: scenario for scenario in ALL}


def named(name: str) -> Scenario:
    """Return the scenario of that name.

    Raises:
        UsageError: there is none; the hint names those that look like it.
    """
    if name in BY_NAME:
        return BY_NAME[name]
    close = difflib.get_close_matches(name, BY_NAME, n=3, cutoff=0.5)
    raise UsageError(
        f"no scenario is called {name!r}",
        f"did you mean {' or '.join(close)}?" if close else "`pmtutrace lab list` lists them",
    )


def chosen(patterns: Iterable[str]) -> tuple[Scenario, ...]:
    """Return the scenarios with these names, or that match these shell patterns, each once.

    Raises:
        UsageError: one of them fits none.
    """
    found: dict[str, Scenario] = {}
    for pattern in patterns:
        matching = fnmatch.filter(BY_NAME, pattern) or [named(pattern).name]
        found.update((name, BY_NAME[name]) for name in matching)
    return tuple(found.values())
