"""What a session says of itself: where, when, how and by what it was recorded."""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmtutrace import __version__
from pmtutrace.tracing import clock

if TYPE_CHECKING:
    from pmtutrace.tracing import Tracer

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# name -> what it is; docs/session.md has the same.
NAMES = {
    "session": "a random name of its own",
    "series": "the name that was asked for, to which files of a rotation add the time",
    "previous": "the session of the series before this one, null for the first",
    "host": "host name",
    "boot_id": "random name of the boot, as `/proc/sys/kernel/random/boot_id` has it",
    "kernel": "release",
    "architecture": "machine, as by uname(2)",
    "pmtutrace": "version of the recorder",
    "began": "when recording began, nanoseconds since 1970",
    "offset": "nanoseconds from CLOCK_BOOTTIME to 1970 at that time",
    "command": "the command that was recorded, null for none",
    "options": "what the recorder was asked for; `paths` says if path MTUs could be followed",
    "hooks": "for each hook its rung, null for none, and what is not known because of that",
    "losses": "the kinds of losses that are counted",
    "reasons": "the kernel's drop reasons by number",
    "layout": "the text of events.h that the kernel side was built from",
    "ended": "when the recorder closed the session; not there before, nor if it was killed",
}


def manifest(
    tracer: Tracer,
    *,
    series: str,
    previous: str | None,
    command: list[str] | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Return the manifest of a session that begins now.

    Args:
        tracer: that runs.
        series: the name that was asked for.
        previous: name of the session before.
        command: what is recorded.
        options: of the recorder, as JSON has it.
    """
    offset = clock.boot_offset()
    system = os.uname()
    return {
        "session": uuid.uuid4().hex,
        "series": series,
        "previous": previous,
        "host": socket.gethostname(),
        "boot_id": BOOT_ID.read_text().strip(),
        "kernel": system.release,
        "architecture": system.machine,
        "pmtutrace": __version__,
        "began": time.time_ns(),
        "offset": offset,
        "command": command,
        "options": options,
        "hooks": [
            {
                "hook": attached.hook.name,
                "rung": attached.rung.name if attached.rung else None,
                "blind": attached.blind or None,
            }
            for attached in tracer.attached
        ],
        "losses": [*tracer.losses()],
        "reasons": tracer.image.reasons,
        "layout": tracer.image.layout.source,
    }
