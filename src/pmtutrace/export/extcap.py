"""How a program tells Wireshark what it captures and what can be chosen: extcap(4).

Sentences are lines of a word and fields in braces, ``arg {number=0}{call=--netns}…``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmtutrace import __version__
from pmtutrace.export.pcapng import LINKTYPE_RAW

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERFACE = "pmtutrace"
DISPLAY = "Oversize packet drops, with verdicts"


def sentence(word: str, **fields: object) -> str:
    """Return one sentence; what would end a field early is taken out of it."""
    inside = ((name, str(value).translate({123: "(", 125: ")"})) for name, value in fields.items())
    return f"{word} " + "".join(f"{{{name}={value}}}" for name, value in inside)


def interfaces() -> Iterator[str]:
    """Yield who we are, and the interface that there is."""
    yield sentence("extcap", version=__version__, display="pmtutrace")
    yield sentence("interface", value=INTERFACE, display=DISPLAY)


def link_types() -> Iterator[str]:
    """Yield the link type of the interface, that of :mod:`.pcapng`."""
    yield sentence("dlt", number=LINKTYPE_RAW, name="RAW", display="Raw IP")
