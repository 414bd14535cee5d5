"""Sessions made up for tests, written by the writer itself."""

import dataclasses

from golden.test_lines import EVENTS
from pmtutrace.events import CounterKey
from pmtutrace.pmtu.exceptions import PathMtu
from pmtutrace.session import schema
from pmtutrace.session.writer import Delta, Second, Writer
from pmtutrace.tunnels.tunnel import Tunnel
from samples import FLOW, TS, drop

NSEC = 1_000_000_000
NETNS = 4026532001
MANIFEST = {"host": "edge7", "series": "s.pmtu", "began": TS - NSEC, "losses": ["ring_full"]}
STATES = (
    schema.Space(TS, NETNS, "edge"),
    schema.TunnelThere(TS, Tunnel(NETNS, 7, "gre1", "gre", 1476, "192.0.2.1", overhead=24)),
    schema.ExceptionThere(
        TS, NETNS, "eth0", PathMtu(4, "192.0.2.2", None, 2, "192.0.2.9", 254, 552, True, 12.5)
    ),
)
# A program that reads the session that it is given, and holds on to it until it is ended.
HOLDS = """
import signal, sqlite3, sys
sql = sqlite3.connect(sys.argv[-1])
sql.execute("BEGIN")
sql.execute("SELECT * FROM manifest").fetchall()
print("held", flush=True)
signal.alarm(60)  # should nobody end it
signal.pause()
"""


def counted(verdict="told", flow=FLOW, **changes):
    """Return what counts drops of the sample flow."""
    key = CounterKey(NETNS, 3, "ip_forward", verdict, None, 4, flow, None)
    return schema.Counted(dataclasses.replace(key, **changes), "eth1", None)


def moved(packets, of=None, last=TS):
    """Return by how much a counter moved, 1500 octets a packet."""
    return Delta(of or counted(), packets, packets * 1500, 1500, 1400, last)


def second(number, *deltas, **losses):
    """Return the second that ends so many seconds after the first event."""
    end = TS + number * NSEC
    return Second(end - NSEC, end, 17, deltas, losses, 23, 42)


def write(path, seconds=3, *, close=True, **manifest):
    """Write a session: all kinds of events each second, 7 drops told, and a loss in the first."""
    writer = Writer(path, MANIFEST | manifest)
    for state in STATES:
        writer.state(state)
    for number in range(seconds):
        for at, event in enumerate(EVENTS.values()):
            writer.add(dataclasses.replace(event, ts=TS + number * NSEC + at))
        writer.add(drop(ts=TS + number * NSEC + len(EVENTS), packet=b"\x45" * 128))
        losses = {} if number else {"ring_full": 5}
        writer.commit(second(number + 1, moved(7, last=TS + number * NSEC), **losses))
    if close:
        writer.close(ended=TS + seconds * NSEC)
    return writer
