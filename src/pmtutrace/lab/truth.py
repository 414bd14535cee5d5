"""The truth table: what every scenario declares, and what each kernel made of it, as one page.

Rows come from the declarations, results from the last full run on each kernel. A test makes the
page again and compares, so it can say nothing that the lab does not hold.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pmtutrace.lab.scenario import Expected, Scenario

    Results = Mapping[str, Mapping[str, Any]]

NOT_RUN, OK, FAILED, SKIP = "not run", "ok", "failed", "skip"
HEAD = """# Truth table

Every scenario of the lab: who refuses which packets, what becomes of the news to the sender, and
whether each kernel bears it out. *ok* means that the expected number of drops (23 where
the scenario does not say otherwise), the number that pmtutrace counted and the kernel's own
counters were the same, and that nothing else was counted. *skip* is one: that kernel has no such
device or hook, as `tests/kernel/features.toml` allows. Made by `tools/truth-table` from the
declarations in `src/pmtutrace/lab/scenarios/`; do not edit.
"""


def condensed(results: Iterable[Mapping[str, Any]], release: str) -> dict[str, Any]:
    """Keep of the lines of ``lab run -j`` what the table shows.

    Returns:
        ``{"release", "results": {scenario: "ok" | "failed" | reason of the skip}}``.
    """
    kept = {
        line["scenario"]: line["reason"] if line["result"] == "skipped" else line["result"]
        for line in results
    }
    return {"release": release, "results": dict(sorted(kept.items()))}


def tunnel(scenario: Scenario) -> str:
    """Return the types of the tunnels in a scenario, with the version of their outer header."""
    found = []
    for item in scenario.topology.tunnels:
        version = ip_address(item.endpoints[0]).version
        found.append(f"{item.type} over IPv{version}")
    return ", ".join(dict.fromkeys(found)) or "no tunnel"


def origin(scenario: Scenario) -> str:
    """Return how the packets come to the node that refuses them."""
    node = scenario.expected.node if scenario.expected else "r"
    if scenario.traffic.node == node:
        return "local"
    bridged = any(bridge.node == node for bridge in scenario.topology.bridges)
    return "bridged" if bridged else "forwarded"


def _traffic(scenario: Scenario) -> str:
    version = ip_address(scenario.traffic.daddr).version
    df = "" if scenario.traffic.df else ", no DF"
    return f"IPv{version} {scenario.traffic.what}{df}"


def _dropped(scenario: Scenario, drop: Expected, results: Results) -> list[str]:
    where = " (outer packet)" if drop.outer else ""
    cause = f"`{drop.cause}`" if drop.cause else ""
    return [
        *_packets(scenario),
        str(drop.count),
        f"`{drop.site}`{where}",
        str(drop.mtu),
        f"`{drop.verdict}`",
        cause,
        *_outcomes(scenario, results),
    ]


def _control(scenario: Scenario, results: Results) -> list[str]:
    said = scenario.title
    if scenario.fragments:
        said += f"; {scenario.fragments.count} leave in outer fragments"
    return [*_packets(scenario), said, *_outcomes(scenario, results)]


def _packets(scenario: Scenario) -> list[str]:
    return [f"`{scenario.name}`", origin(scenario), _traffic(scenario)]


def _outcomes(scenario: Scenario, results: Results) -> list[str]:
    return [_outcome(kernel, scenario.name) for kernel in results.values()]


def _outcome(kernel: Mapping[str, Any], name: str) -> str:
    outcome = kernel["results"].get(name, NOT_RUN)
    return outcome if outcome in (OK, FAILED, NOT_RUN) else SKIP


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _groups(scenarios: Iterable[Scenario]) -> dict[str, list[Scenario]]:
    groups: dict[str, list[Scenario]] = {}
    for scenario in scenarios:
        groups.setdefault(tunnel(scenario), []).append(scenario)
    return groups


def _kernels(results: Results, scenarios: Sequence[Scenario]) -> list[str]:
    rows = []
    for name, kernel in results.items():
        outcomes = [_outcome(kernel, scenario.name) for scenario in scenarios]
        counts = [str(outcomes.count(kind)) for kind in (OK, SKIP, FAILED, NOT_RUN)]
        rows.append([name, f"`{kernel['release']}`", *counts])
    head = ["kernel", "release", "ok", "allowed skips", "failed", "not run"]
    return _rows(head, rows)


def markdown(scenarios: Sequence[Scenario], results: Results, unprovoked: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        scenarios: all of the lab.
        results: by kernel, as :func:`condensed` makes them.
        unprovoked: causes that no real packet can provoke, and why not.
    """
    lines = [HEAD, *_kernels(results, scenarios), ""]
    fixed = ["scenario", "origin", "traffic"]
    for group, members in _groups(scenarios).items():
        lines += [f"## {group[0].upper()}{group[1:]}", ""]
        drops = [_dropped(s, drop, results) for s in members for drop in s.drops]
        controls = [_control(s, results) for s in members if not s.expected]
        if drops:
            head = [*fixed, "drops", "site", "mtu", "verdict", "cause", *results]
            lines += [*_rows(head, drops), ""]
        if controls:
            head = [*fixed, "nothing is dropped for its size", *results]
            lines += [*_rows(head, controls), ""]
    lines += ["## Causes that no scenario provokes", ""]
    lines += _rows(["cause", "why"], [[f"`{cause}`", why] for cause, why in unprovoked.items()])
    return "\n".join(lines) + "\n"
