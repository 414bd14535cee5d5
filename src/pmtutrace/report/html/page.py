"""The page itself: a template, its style and its script in one file that asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmtutrace import __version__
from pmtutrace.report import text
from pmtutrace.report.html import charts, flows, tables
from pmtutrace.report.html.words import Words, island

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pmtutrace.report.build import Report
    from pmtutrace.report.series import Series

HERE = Path(__file__).parent
SCRIPTS = ("time.js", "plot.js", "tracks.js", "view.js", "flows.js", "page.js")
MSEC, NSEC = 1_000_000, 1_000_000_000


def page(reports: Sequence[Report], series: Sequence[Series]) -> str:
    """Return the page of one or several hosts, on one axis of time.

    Args:
        reports: of each host and boot.
        series: the drops of each, in the same order.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    style, script = static()
    t0 = min(report.case.began for report in reports) // MSEC * MSEC
    words = Words()
    found = _island(reports, series, t0, words)
    template = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template.filters |= {"when": tables.when, "count": count, "ms": lambda ts: (ts - t0) // MSEC}
    # Style and script are ours; the island holds no "<", and is no script.
    return template.get_template("page.html.j2").render(
        policy=policy(style, script),
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        island=Markup(island(found)),  # noqa: S704
        version=__version__,
        made=time.time_ns(),
        began=t0,
        ended=max(report.case.ended for report in reports),
        span=text.span((max(report.case.ended for report in reports) - t0) / NSEC),
        hosts=[tables.host(report, charts.order(report)) for report in reports],
        verdicts=tables.VERDICTS,
    )


def static() -> tuple[str, str]:
    """Return the style and the script of every page."""
    script = "\n".join((HERE / name).read_text() for name in SCRIPTS)
    dark = (HERE / "dark.css").read_text()
    style = (
        f'{(HERE / "page.css").read_text()}\n:root[data-theme="dark"] {{\n{dark}}}\n'
        f'@media (prefers-color-scheme: dark) {{ :root[data-theme="auto"] {{\n{dark}}} }}\n'
    )
    return style, f'"use strict";\n(() => {{\n{script}\n}})();\n'


def policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy: this style, this script, and nothing from anywhere."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _island(
    reports: Sequence[Report], series: Sequence[Series], t0: int, words: Words
) -> dict[str, Any]:
    hosts = [
        charts.host(report, one, t0, words) for report, one in zip(reports, series, strict=True)
    ]
    return {
        "t0": t0 // MSEC,
        "span": max(one["ended"] for one in hosts),
        "verdicts": list(tables.VERDICTS),
        "hosts": hosts,
        "flows": flows.flows(reports, t0, words),
        "words": words.all,
    }


def count(number: int | None) -> str:
    """Return a number in groups of three digits; a dash where it is not known."""
    return "-" if number is None else f"{number:,}".replace(",", "\u202f")
