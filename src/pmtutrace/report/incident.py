"""A first draft of the incident report that somebody has to write that day.

It is in the form that providers use: description, analysis with a timeline, impact, actions,
references. It is made of what ``report -j`` says, and of nothing else; what no recording can hold
is marked as a gap, for somebody who knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmtutrace.report import markdown
from pmtutrace.report.incident_parts import (
    FINDINGS,
    ROWS,
    actions,
    counted,
    further,
    impact,
    references,
    unseen,
    whose,
)
from pmtutrace.report.markdown import (
    Block,
    Heading,
    Hole,
    Place,
    Sentence,
    Table,
    cell,
    gap,
    known,
    say,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Report = Mapping[str, Any]

RHYTHM = "periodic_collapse"
GRAVE = ("critical", "warning")
HAPPENED = {
    "recorded": "recorded",
    "blind": "nobody looked",
    "clock_set": "the clock was set",
    "tunnel_appeared": "tunnel {name} appeared in {netns}",
    "tunnel_changed": "tunnel {name} changed in {netns}",
    "tunnel_gone": "tunnel {name} went from {netns}",
    "dropping": "oversize packets were dropped",
    "path_low": "the path MTU to {name} was low in {netns}, {mtu} octets at the least",
}


def draft(reports: Sequence[Report]) -> str:
    """Return the draft as Markdown.

    Args:
        reports: what :func:`pmtutrace.report.json.report` says of each host and boot.
    """
    return markdown.rendered(list(blocks(reports)), reports)


def blocks(reports: Sequence[Report]) -> Iterator[Block]:
    """Yield the parts of a draft."""
    yield Heading(1, "Incident report (draft)")
    yield told(
        Sentence(
            "Drafted by pmtutrace from what was recorded, and from nothing else. Times are those "
            "of each host's clock, as it was set last."
        ),
        gap("Title, author, and who was on duty."),
    )
    yield Heading(2, "Description")
    for at, report in enumerate(reports):
        yield from _description(report, (at,))
    yield told(gap("What customers noticed, who reported it, when, and by what it was found."))
    yield Heading(2, "Analysis")
    yield Heading(3, "Timeline")
    yield from _timeline(reports)
    for at, report in enumerate(reports):
        yield from whose(reports, at)
        yield from _causes(report, (at,))
    yield told(gap("What was changed before it began: a roll-out, a route, a new machine."))
    yield Heading(2, "Impact")
    for at, report in enumerate(reports):
        yield from whose(reports, at)
        yield from impact(report, (at,))
    yield told(gap("What the affected hosts serve, and how many customers stand behind them."))
    yield Heading(2, "Actions")
    yield told(gap("What was done, by whom, and when; whether it held."))
    for at, report in enumerate(reports):
        yield from whose(reports, at)
        yield from actions(report, (at,))
    yield told(gap("Who does what of it, and until when."))
    yield Heading(2, "What was not recorded")
    for at, report in enumerate(reports):
        yield from unseen(report, (at,))
    yield Heading(2, "References")
    for at, report in enumerate(reports):
        yield from references(report, (at,))


def _description(report: Report, base: Place) -> Iterator[Block]:
    host = {"host": ("name", ("host",))}
    findings = report["findings"]
    grave = [at for at, one in enumerate(findings) if one["severity"] in GRAVE][:1]
    said = [
        say("On {host}, {drops} oversize packets were dropped and {left} outer packets of tunnels "
             "left as fragments between {since} and {until}.", base, **host,
             drops=("number", ("totals", "drops")), left=("number", ("totals", "fragmented")),
             since=("moment", ("since",)), until=("moment", ("until",)))
    ]  # fmt: skip
    for at in grave:
        here = ("findings", at)
        said.append(
            say("{title}: {name} ({id}).", base, title=("text", (*here, "title")),
                 name=("name", (*here, "subject", "name")), id=("name", (*here, "id")))
        )  # fmt: skip
    if not findings:
        said.append(say("Nothing was found to be wrong on {host}.", base, **host))
    rhythm = next((at for at, one in enumerate(findings) if one["id"] == RHYTHM), None)
    if rhythm is not None:
        said += _rhythm(report, base, rhythm)
    elif findings:
        said.append(gap("In which rhythm it comes: what was recorded shows none."))
    said += counted(report, base)
    yield told(*said)
    if grave and findings[grave[0]]["since"] is None:
        yield told(gap("When it began: it was there when recording began."))


def _rhythm(report: Report, base: Place, at: int) -> Iterator[Sentence]:
    """Yield what a finding says of a rhythm, and when its path MTU was low first and last."""
    finding, here = report["findings"][at], ("findings", at)
    evidence = (*here, "evidence")
    yield say(
        "The path MTU to {name} fell every {period}, to {floor} octets at the least, for {episode} "
        "each time: {duty} of the time.", base, name=("name", (*here, "subject", "name")),
        period=("span", (*evidence, "period_s")), episode=("span", (*evidence, "episode_s")),
        duty=("share", (*evidence, "duty")), floor=("number", (*evidence, "floor")),
    )  # fmt: skip
    where = finding["subject"]["netns"], finding["subject"]["name"]
    for number, line in enumerate(report["timelines"]):
        if (line["netns"], line["daddr"]) == where and line["first"] is not None:
            there = ("timelines", number)
            yield say(
                "It was low {times} times, first seen so at {first} and last at {last}.", base,
                times=("number", (*there, "episodes")), first=("moment", (*there, "first")),
                last=("moment", (*there, "last")),
            )  # fmt: skip
            return


def _timeline(reports: Sequence[Report]) -> Iterator[Block]:
    places = [
        (one["ts"], (at, "moments", number), one)
        for at, report in enumerate(reports)
        for number, one in enumerate(report["moments"])
    ]
    places.sort(key=lambda place: str(place[0]))
    rows = []
    for _, place, one in places[:ROWS]:
        what = HAPPENED[one["what"]]
        holes = {
            "name": Hole((*place, "name"), "name"),
            "netns": Hole((*place, "netns"), "name"),
            "mtu": Hole((*place, "mtu"), "number"),
        }
        used = {name: hole for name, hole in holes.items() if f"{{{name}}}" in what}
        rows.append(
            (
                cell(place, "moment", "ts"),
                known(one["until"], cell(place, "moment", "until")),
                cell(place[:1], "name", "host"),
                Sentence(what, used),
            )
        )
    yield Table(("from", "until", "host", "what"), tuple(rows))
    left = any(report["moments_left"] for report in reports)
    yield from further(len(places) > ROWS or left, "moments")


def _causes(report: Report, base: Place) -> Iterator[Block]:
    findings = report["findings"]
    for at, one in enumerate(findings[:FINDINGS]):
        here = (*base, "findings", at)
        times = {"since": ("moment", ("since",)), "until": ("moment", ("until",))}
        there = {name: hole for name, hole in times.items() if one[name] is not None}
        since = "from {since}" if "since" in there else "from before it was recorded"
        until = "to {until}" if "until" in there else "until the end of the recording"
        subject = {"name": ("name", ("subject", "name"))} if one["subject"]["name"] else {}
        yield told(
            say(
                f"**{{title}}**{': {name}' if subject else ''} ({{severity}}, {{id}}), {since} "
                f"{until}.", here, title=("text", ("title",)), severity=("text", ("severity",)),
                id=("name", ("id",)), **subject, **there,
            ),
            cell(here, "text", "cause"),
        )  # fmt: skip
        evidence = [name for name, value in one["evidence"].items() if value is not None]
        if evidence:
            yield told(
                Sentence("Evidence:"),
                *(
                    say(f"{name} {{it}}{end}", here, it=("evidence", ("evidence", name)))
                    for name, end in zip(evidence, [*[","] * (len(evidence) - 1), "."], strict=True)
                ),
            )
    yield from further(len(findings) > FINDINGS, "findings")
