"""What netfilter does about sizes: MSS clamps, and rules that drop the news.

Read from ``nft -j list ruleset``, which shows the rules of iptables-nft as well.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

LEGACY = tuple(Path(f"/proc/thread-self/net/ip{six}_tables_names") for six in ("", "6"))
ICMP = frozenset(("icmp", "icmpv6", "ipv6-icmp"))
OUTGOING = frozenset(("output", "postrouting"))
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Clamp:
    """A rule that writes the MSS of TCP handshakes.

    ``devs`` are the devices that it is for, none for all. ``size`` is the MSS in octets that it
    sets, None for one that follows the MTU of the route.
    """

    devs: tuple[str, ...] = ()
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A rule that drops outgoing ICMP; ``place`` names it as `nft delete rule` wants it."""

    place: str
    hook: str


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a namespace that are about sizes."""

    clamps: tuple[Clamp, ...] = ()
    blocks: tuple[Block, ...] = ()


def rules() -> Rules | None:
    """Read the rules of the calling thread's namespace; None where they cannot all be read."""
    if _legacy():
        return None
    try:
        done = subprocess.run(
            ["nft", "-j", "list", "ruleset"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=TIMEOUT_S,
        )
        return read(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError, AttributeError):
        return None


def read(ruleset: dict[str, Any]) -> Rules:
    """Take what is about sizes from a ruleset as libnftables-json(5) writes it."""
    items = ruleset["nftables"]
    hooks = {
        (chain["family"], chain["table"], chain["name"]): chain.get("hook", "")
        for item in items
        if (chain := item.get("chain"))
    }
    clamps: list[Clamp] = []
    blocks: list[Block] = []
    for item in items:
        if not (rule := item.get("rule")):
            continue
        place = rule["family"], rule["table"], rule["chain"]
        expressions = rule.get("expr", [])
        clamps += _clamps(expressions)
        if hooks.get(place) in OUTGOING and _drops_icmp(expressions):
            words = f"{' '.join(place)} handle {rule['handle']}"
            blocks.append(Block(words, hooks[place]))
    return Rules(tuple(clamps), tuple(blocks))


def _clamps(expressions: list[dict[str, Any]]) -> Iterator[Clamp]:
    devs: tuple[str, ...] = ()
    for expression in expressions:
        match = expression.get("match", {})
        if isinstance(match.get("left"), dict) and match["left"].get("meta") == {"key": "oifname"}:
            right = match["right"]
            devs = tuple(right["set"]) if isinstance(right, dict) else (right,)
        mangle = expression.get("mangle", {})
        if mangle.get("key", {}).get("tcp option", {}).get("name") == "maxseg":
            yield Clamp(devs, mangle["value"] if isinstance(mangle["value"], int) else None)
        if expression.get("xt", {}).get("name") == "TCPMSS":
            yield Clamp(devs)


def _drops_icmp(expressions: list[dict[str, Any]]) -> bool:
    """Say if a rule drops ICMP errors, as far as its matches can be read."""
    if not any({"drop", "reject"} & expression.keys() for expression in expressions):
        return False
    for expression in expressions:
        left, right = (expression.get("match", {}).get(side) for side in ("left", "right"))
        if not isinstance(left, dict):
            continue
        payload, meta = left.get("payload", {}), left.get("meta", {})
        wanted = {right} if isinstance(right, str) else set()
        if isinstance(right, dict) and isinstance(right.get("set"), list):
            wanted = {one for one in right["set"] if isinstance(one, str)}
        if payload.get("protocol") in ICMP and payload.get("field") == "type":
            return bool(wanted & {"destination-unreachable", "packet-too-big"})
        if "l4proto" in (meta.get("key"), payload.get("field")) or (
            payload.get("field") in ("protocol", "nexthdr")
        ):
            return bool(wanted & ICMP)
    return False


def _legacy() -> bool:
    """Say if there are rules that nft does not see: those of iptables-legacy."""
    for path in LEGACY:
        try:
            if path.read_text().strip():
                return True
        except OSError:
            continue
    return False
