"""Tracing: the public API.

>>> from pmtutrace.tracing import Tracer
>>> with Tracer() as tracer:
...     for event in tracer.events(timeout=10):
...         print(event)
"""

from pmtutrace.tracing.tracer import Tracer

__all__ = ["Tracer"]
