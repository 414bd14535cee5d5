"""From what was recorded to what is wrong, why, and what to do.

>>> collector = Collector()
>>> for event in tracer.events(timeout=60):
...     collector.take(event)
>>> case = collector.case(
...     counters=tracer.counters(),
...     fragments=tracer.fragments(),
...     tunnels=tunnels,
...     surroundings=survey(tunnels, destinations=collector.destinations()),
... )
>>> for finding in diagnose(case):
...     print(finding.id, finding.cause)
"""

from pmtutrace.diagnosis.case import Case, Sender
from pmtutrace.diagnosis.collector import Collector
from pmtutrace.diagnosis.engine import Finding, diagnose
from pmtutrace.diagnosis.rhythm import Rhythm
from pmtutrace.diagnosis.survey import survey
from pmtutrace.diagnosis.timeline import Episode, Timeline

__all__ = [
    "Case",
    "Collector",
    "Episode",
    "Finding",
    "Rhythm",
    "Sender",
    "Timeline",
    "diagnose",
    "survey",
]
