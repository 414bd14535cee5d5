"""The causes that no scenario provokes, and why."""

from __future__ import annotations

UNPROVOKED = {
    "no_device": "a packet that is refused has a route or a device, and a route has a device",
    "bad_header": "whoever refuses a packet has pulled its IP header into the linear part before",
    "not_for_this_host": (
        "forwarding takes only frames for this host; what is left is multicast that is routed into "
        "a tunnel, for which the lab has no multicast router"
    ),
    "unknown": "what a limit is called where the hook why sees nothing: the scenarios of limits",
}
