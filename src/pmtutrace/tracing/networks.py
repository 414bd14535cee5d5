"""Addresses and prefixes, as somebody writes them who wants to see only what is to or from them."""

from __future__ import annotations

import ipaddress

from pmtutrace.errors import UsageError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(text: str) -> Network:
    """Read an address or prefix; raise UsageError where it is neither."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not an address or prefix", "give one like 192.0.2.7 or 2001:db8::/32"
        ) from error
