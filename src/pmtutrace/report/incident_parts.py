"""Parts of a draft of an incident report: impact, actions, what was not recorded, references."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmtutrace.report.markdown import (
    Block,
    Commands,
    Hole,
    Place,
    Sentence,
    Table,
    cell,
    known,
    say,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Report = Mapping[str, Any]

FINDINGS = 20  # that are told in full
ROWS = 50  # of a table
KINDS = {
    "ignored": "told, and went on all the same",
    "never_told": "never told",
    "followed": "told, and followed",
}


def whose(reports: Sequence[Report], at: int) -> Iterator[Block]:
    """Say which host the following is about, where there are several."""
    if len(reports) > 1:
        yield told(say("On {host}, boot {boot}:", (at,), host=("name", ("host",)),
                         boot=("name", ("boot_id",))))  # fmt: skip


def counted(report: Report, base: Place) -> Iterator[Sentence]:
    """Yield how many hosts were affected, by kind."""
    if report["hosts"]["total"]:
        kinds = ("hosts", "kinds")
        yield say(
            "Affected hosts: {total} (told, and followed: {followed}; told, and went on all the "
            "same: {ignored}; never told: {never}).", base,
            total=("number", ("hosts", "total")), followed=("number", (*kinds, "followed")),
            ignored=("number", (*kinds, "ignored")), never=("number", (*kinds, "never_told")),
        )  # fmt: skip


def further(more: bool, what: str) -> Iterator[Block]:
    """Say that there is more than is shown."""
    if more:
        yield told(Sentence(f"There are further {what}: `pmtutrace report -j` lists them."))


def impact(report: Report, base: Place) -> Iterator[Block]:
    """Yield who and what was affected, how much, and for which share of the time."""
    said = list(counted(report, base))
    yield (
        told(*said)
        if said
        else told(say("On {host}, no host's packets were dropped.", base, host=("name", ("host",))))
    )
    yield from _hosts(report, base)
    yield from _low(report, base)
    rows = tuple(
        (
            cell((*base, "refusals", at), "name", "site"),
            cell((*base, "refusals", at), "text", "verdict"),
            known(one["cause"], cell((*base, "refusals", at), "text", "cause")),
            cell((*base, "refusals", at), "number", "packets"),
        )
        for at, one in enumerate(report["refusals"][:ROWS])
    )
    if rows:
        yield Table(("refused by", "verdict", "cause", "packets"), rows)


def _hosts(report: Report, base: Place) -> Iterator[Block]:
    named = report["hosts"]["named"]
    rows = []
    for at, one in enumerate(named[:ROWS]):
        here = (*base, "hosts", "named", at)
        rows.append(
            (
                cell(here, "name", "saddr"),
                cell(here, "name", "netns"),
                Sentence(KINDS[one["kind"]]),
                *(cell(here, "number", name) for name in ("packets", "told")),
                *(cell(here, "moment", name) for name in ("first", "last")),
            )
        )
    if rows:
        columns = ("host", "dropped in", "kind", "packets", "told of", "first", "last")
        yield Table(columns, tuple(rows))
    yield from further(report["hosts"]["total"] > ROWS, "hosts")


def _low(report: Report, base: Place) -> Iterator[Block]:
    """Yield for which share of the time path MTUs were low."""
    lines = [at for at, one in enumerate(report["timelines"]) if one["floor"] is not None]
    lines.sort(key=lambda at: report["timelines"][at]["floor"])
    rows = []
    for at in lines[:ROWS]:
        one, here = report["timelines"][at], (*base, "timelines", at)
        rows.append(
            (
                cell(here, "name", "daddr"),
                cell(here, "name", "netns"),
                known(one["base"], cell(here, "number", "base")),
                *(cell(here, "number", name) for name in ("floor", "episodes")),
                cell(here, "span", "low_s"),
                known(one["share"], cell(here, "share", "share")),
            )
        )
    if rows:
        columns = ("path to", "from", "route MTU", "lowest", "times", "low for", "of the time")
        yield Table(columns, tuple(rows))
    yield from further(len(lines) > ROWS, "path MTUs")


def actions(report: Report, base: Place) -> Iterator[Block]:
    """Yield commands that are proposed, and those that show whether it is so."""
    for at, one in enumerate(report["findings"][:FINDINGS]):
        for what, text in (("remedy", "proposed"), ("check", "to see whether it is so")):
            if one[what]:
                here = (*base, "findings", at)
                holes: dict[str, tuple[str, Place]] = {"id": ("name", ("id",))}
                if one["subject"]["name"]:
                    holes["name"] = ("name", ("subject", "name"))
                about = " of {name}" if "name" in holes else ""
                yield told(say(f"{{id}}{about}, {text}:", here, **holes))
                yield Commands(tuple(Hole((*here, what, n)) for n in range(len(one[what]))))


def unseen(report: Report, base: Place) -> Iterator[Block]:
    """Yield what the recording could not see."""
    recording = report["recording"]
    here = (*base, "recording")
    host = Hole((*base, "host"), "name")
    said = []
    for kind, number in recording["losses"].items():
        if number:
            said.append(say(f"lost ({kind}): {{it}}.", here, it=("number", ("losses", kind))))
    for at in range(len(recording["gaps"])):
        gap = ("gaps", at)
        said.append(
            say("nobody looked from {since} to {until}.", here,
                 since=("moment", (*gap, "since")), until=("moment", (*gap, "until")))
        )  # fmt: skip
    for at in range(len(recording["blind"])):
        hook = ("blind", at)
        said.append(
            say("hook {hook}, not known: {what}.", here, hook=("name", (*hook, "hook")),
                 what=("text", (*hook, "unknown")))
        )  # fmt: skip
    if recording["unfinished"]:
        said.append(
            say("recordings that were cut off, or go on: {it}. What came in the last second is "
                 "missing.", here, it=("number", ("unfinished",)))
        )  # fmt: skip
    if recording["events_read"] < 1:
        said.append(
            say("who went on all the same was looked for in {it} of the events of drops.", here,
                 it=("share", ("events_read",)))
        )  # fmt: skip
    if recording["damaged"]:
        said.append(
            say("rows that are damaged and were left out: {it}.", here,
                 it=("number", ("damaged",)))
        )  # fmt: skip
    for one in said:
        yield told(
            Sentence(f"{{host}}: {one.text}", {"host": host, **one.holes}, gap=True), item=True
        )
    if not said:
        yield told(Sentence("{host}: nothing was lost.", {"host": host}), item=True)


def references(report: Report, base: Place) -> Iterator[Block]:
    """Yield what was recorded where."""
    recording = ("recording",)
    yield told(
        say("{host}, kernel {kernel}, boot {boot}, recorded from {since} to {until}:", base,
             host=("name", ("host",)), kernel=("name", ("kernel",)), boot=("name", ("boot_id",)),
             since=("moment", ("since",)), until=("moment", ("until",))),
        item=True,
    )  # fmt: skip
    for at in range(len(report["recording"]["files"])):
        yield told(
            say("session {session} in {file}.", base,
                 session=("name", (*recording, "sessions", at)),
                 file=("name", (*recording, "files", at))),
            item=True,
        )  # fmt: skip
