"""`pmtutrace probe`, run on a node of a lab, by root and by an ordinary user."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

COMMAND = (sys.executable, "-m", "pmtutrace.cli.main", "probe")
# Nobody, with no capability but to read this tree wherever it lies.
NOBODY = (
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=+dac_read_search",
    "--bounding-set=-all,+dac_read_search",
)
PING_USERS = (("a", "ipv4.ping_group_range", "0 2147483647"),)
NO_PING_USERS = (("a", "ipv4.ping_group_range", "1 0"),)
WITHIN_S = 5.0  # promised for each destination, on a real CPU


@dataclass(frozen=True)
class User:
    """Who probes: words in front of the command, what the kernel lets him, what he then uses."""

    name: str
    before: tuple[str, ...]
    sysctls: tuple[tuple[str, str, str], ...]
    by: str


USERS = (
    User("root", (), NO_PING_USERS, "icmp"),
    User("user", NOBODY, PING_USERS, "icmp"),
    User("udp-user", NOBODY, NO_PING_USERS, "udp"),
)
as_everybody = pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)


def probe(node, *words, before=(), within=WITHIN_S):
    """Run the command inside a node; return its exit code and its lines."""
    began = time.monotonic()
    done = node.run(
        lambda: subprocess.run(
            [*before, *COMMAND, "-j", *words],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    )
    assert "Traceback" not in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        print(line, f"whole command {time.monotonic() - began:.2f} s", done.stderr)
        assert line["seconds"] < within
    return done.returncode, lines


def longer_dropped(node, length, *more):
    """Return rules by which a node drops what it forwards if it is longer than this."""
    match = " ".join(more)
    return (
        node,
        f"table inet hole {{ chain f {{ type filter hook forward priority 0; "
        f"{match} meta length > {length} drop; }}; }}\n",
    )
