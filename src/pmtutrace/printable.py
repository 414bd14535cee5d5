"""Names that somebody else chose: of devices, namespaces, files."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Escape what is not printable, as ``\x1b``: a terminal must not obey a name.

    Octets that are no UTF-8 are expected as lone surrogates (PEP 383), and come out as those.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
