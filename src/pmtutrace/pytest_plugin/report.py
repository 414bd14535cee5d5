"""What a failed expectation says: expected, counted and the kernel's own counters side by side."""

from __future__ import annotations

import re
from collections import Counter as Tally
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pmtutrace.pytest_plugin.drops import Dropped, Value

# They move with every packet, or say once more what another says.
DULL = re.compile(
    r"(Octets|bytes|ECTPkts|InReceives|InDelivers|OutRequests|OutTransmits|InMsgs|OutMsgs"
    r"|(In|Out)Type\d+)$"
)
HEADINGS = ("", "", "expected", "counted", "the kernel's own counters")
# Of keys, and of different values in one place.
MOST_LINES, MOST_VALUES = 20, 4


def failure(
    drops: int,
    expected: Mapping[str, Value],
    matched: Sequence[Dropped],
    others: Sequence[Dropped],
    kernel: Mapping[str, int],
    *,
    allowed: bool = False,
) -> str:
    """Return the text of a failure; an exclamation mark is before all that was not expected.

    Args:
        drops: how many were expected.
        expected: of what kind.
        matched: what was counted of that kind.
        others: what else was counted.
        kernel: by how much the kernel's counters moved, by ``NODE COUNTER``.
        allowed: whether something else may have been.
    """
    counted, besides = packets(matched), packets(others)
    left = [("" if counted == drops else "!", "drops", str(drops), str(counted))]
    shown = matched if matched and allowed else [*matched, *others]
    for name, value in expected.items():
        values = tally(shown, name)
        left.append(("" if [*values] == [value] else "!", name, word(value), told(values)))
    right = [f"{name} {by:+}" for name, by in kernel.items() if by and not DULL.search(name)]
    right = right or ["none moved"]
    height = max(len(left), len(right))
    left += [("", "", "", "")] * (height - len(left))
    right += [""] * (height - len(right))
    head = f"expected {drops} drops, counted {counted}"
    if besides:
        head += f", and {besides} {'others' if allowed else 'that were not expected'}"
    rows = [HEADINGS, *((*row, moved) for row, moved in zip(left, right, strict=True))]
    keys = [(row, "" if drops else "!") for row in matched]
    keys += [(row, "" if allowed else "!") for row in others]
    return "\n".join([head, *columns(rows), *_by_key(keys)])


def packets(rows: Iterable[Dropped]) -> int:
    """Return how many packets these are."""
    return sum(row.counter.packets for row in rows)


def tally(rows: Iterable[Dropped], name: str) -> Tally[Value]:
    """Return how many packets there are of each value of a word."""
    found: Tally[Value] = Tally()
    for row in rows:
        found[row.words[name]] += row.counter.packets
    return found


def told(values: Tally[Value]) -> str:
    """Return one value as it is; of several, how many packets there are of each."""
    if len(values) < 2:
        return word(next(iter(values))) if values else "-"
    said = [f"{word(value)} ({number})" for value, number in values.most_common(MOST_VALUES)]
    return ", ".join(said + ["…"] * (len(values) > MOST_VALUES))


def word(value: Value) -> str:
    """Return a value as text."""
    if value is None:
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows as lines whose columns begin where the others' do."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _by_key(rows: Sequence[tuple[Dropped, str]]) -> list[str]:
    """Return a line for each key and its mark: what was not expected first, then by packets."""
    if not rows:
        return []
    rows = sorted(rows, key=lambda marked: (not marked[1], -marked[0].counter.packets))
    lines = columns([(mark, *_line(row)) for row, mark in rows[:MOST_LINES]])
    more = [f"and {len(rows) - MOST_LINES} more"] * (len(rows) > MOST_LINES)
    return ["counted, key by key:", *lines, *more]


def _line(row: Dropped) -> tuple[str, ...]:
    words, flow = row.words, row.key.flow
    verdict = f"{words['verdict']}/{words['cause']}" if words["cause"] else word(words["verdict"])
    ends = [
        f"{address} {port}" if port is not None else address
        for address, port in ((flow.saddr, flow.sport), (flow.daddr, flow.dport))
    ]
    outer = row.key.outer
    return (
        str(row.counter.packets),
        word(words["node"]),
        word(words["dev"]),
        word(words["site"]),
        verdict,
        f"mtu {words['mtu']}",
        # What found no room in the table has no flow.
        f"{words['proto']} {' > '.join(ends)}" if flow.saddr else "",
        f"in {words['tunnel'] or ''} {outer.saddr} > {outer.daddr}" if outer else "",
    )
