"""The facts of tunnels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmtutrace.diagnosis import facts
from pmtutrace.diagnosis.facts import Subject, Sums, Value, path_link, shown, tunnel_link
from pmtutrace.diagnosis.survey import outer
from pmtutrace.pmtu.surroundings import Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmtutrace.diagnosis.case import Case, Path
    from pmtutrace.diagnosis.owners import Index
    from pmtutrace.pmtu.ways import Leg, Way
    from pmtutrace.tunnels.tunnel import Tunnel

TCP = 6
BRIDGED = "skb_tunnel_check_pmtu"
# Those that never ask how long their outer packets may be, and those that do not if `df` is unset.
DEAF = frozenset(("wireguard", "bareudp", "l2tp"))
DEAF_WITHOUT_DF = frozenset(("vxlan", "geneve"))
# Those that copy DF from the inner packet, whatever `pmtudisc` says.
COPIES_DF = frozenset(("gre", "gretap", "erspan", "ipip"))
INNER_TCP = {4: 40, 6: 60}


def subjects(index: Index) -> Iterator[Subject]:
    """Yield all tunnels."""
    for tunnel in index.case.tunnels:
        yield _subject(index, tunnel)


def loop(index: Index, tunnel: Tunnel) -> tuple[Tunnel, ...] | None:
    """Return the tunnels through which a tunnel's own outer packets go back into it.

    Empty where they do not; None where that is not known.
    """
    if _way(index.case, tunnel) is None:
        return None
    ahead: list[tuple[Tunnel, ...]] = [(tunnel,)]
    seen = {tunnel.ifindex}
    while ahead:
        chain = ahead.pop()
        for leg in _legs(index.case, chain[-1]):
            if leg.ifindex == tunnel.ifindex:
                return chain
            below = index.tunnel(tunnel.netns, leg.ifindex)
            if below and below.ifindex not in seen:
                seen.add(below.ifindex)
                ahead.append((*chain, below))
    return ()


def _way(case: Case, tunnel: Tunnel) -> Way | None:
    question, around = outer(tunnel), case.surroundings.get(tunnel.netns)
    return around.ways.get(question) if question and around else None


def _ways(case: Case, tunnel: Tunnel) -> list[Way]:
    """Return the way of outer packets, and that of others to the same address.

    Where policy keeps the tunnel's own packets out of it, others' may still go through it.
    """
    around = case.surroundings.get(tunnel.netns)
    own = _way(case, tunnel)
    other = around.ways.get(Question(tunnel.remote)) if around and tunnel.remote else None
    return [way for way in (own, other) if way]


def _legs(case: Case, tunnel: Tunnel) -> list[Leg]:
    return [leg for way in _ways(case, tunnel) for leg in way.legs]


def _subject(index: Index, tunnel: Tunnel) -> Subject:
    there = None if tunnel.elsewhere or not tunnel.remote else (tunnel.netns, tunnel.remote)
    path = index.paths.get(there) if there else None
    times: dict[str, tuple[int | None, int | None]] = {}
    found: dict[str, Value] = {
        "dev": shown(tunnel.name),
        "type": tunnel.type,
        "mtu": tunnel.mtu,
        "overhead": tunnel.overhead,
        "local": tunnel.local,
        "remote": tunnel.remote,
        "pmtudisc": tunnel.pmtudisc,
        "df": tunnel.df,
        "copies_df": tunnel.type in COPIES_DF,
        "discovers": _discovers(tunnel),
    }
    found |= _route(index, tunnel)
    found |= _learned(tunnel, path, times)
    found |= _traffic(index, tunnel, times)
    links = {tunnel_link(tunnel)}
    if tunnel.remote:
        links.add(path_link(tunnel.netns, tunnel.remote))
    return Subject("tunnel", tunnel.netns, shown(tunnel.name) or "", found, frozenset(links), times)


def _discovers(tunnel: Tunnel) -> bool | None:
    """Say if a tunnel asks how long its outer packets may be."""
    if tunnel.type in DEAF:
        return False
    if tunnel.type in DEAF_WITHOUT_DF:
        return None if tunnel.df is None else tunnel.df != "unset"
    return tunnel.pmtudisc is not False


def _route(index: Index, tunnel: Tunnel) -> dict[str, Value]:
    """Return the facts of the way that outer packets go."""
    way, chain = _way(index.case, tunnel), loop(index, tunnel)
    others = [leg for leg in way.legs if leg.ifindex != tunnel.ifindex] if way else []
    under = way.limit({tunnel.ifindex}) if way else None
    room = None if under is None or tunnel.overhead is None else under - tunnel.overhead
    return {
        "recursive": None if chain is None else bool(chain),
        "loop": " > ".join(shown(t.name) or "" for t in (*chain, chain[0])) if chain else None,
        "under_dev": others[0].dev if others else None,
        "under_gateway": others[0].gateway if others else None,
        "under_mtu": under,
        "route_mtu": way.mtu if way else None,
        "version": None if tunnel.remote is None else facts.version(tunnel.remote),
        "room": room,
        "excess": None if room is None else tunnel.mtu - room,
    }


def _learned(
    tunnel: Tunnel, path: Path | None, times: dict[str, tuple[int | None, int | None]]
) -> dict[str, Value]:
    """Return the facts of what was learned of the path to the far end."""
    if path is None:
        return {"own_exception": False, "falls_by_overhead": 0, "path_mtu": None}
    line = path.timeline
    runs = [0]
    for episode in line.episodes:
        run = 0
        for fall in episode.falls:
            run = run + 1 if fall == tunnel.overhead else 0
            runs.append(run)
    low = [episode for episode in line.episodes if episode.collapse] or list(line.episodes)
    if low:
        times["path"] = low[0].began, low[-1].ended
    floor = line.floor
    return {
        "own_exception": any(leg.ifindex == tunnel.ifindex for leg in path.legs),
        "falls_by_overhead": max(runs),
        "path_mtu": floor,
        "locked": line.now.locked if line.now else False,
    }


def _traffic(
    index: Index, tunnel: Tunnel, times: dict[str, tuple[int | None, int | None]]
) -> dict[str, Value]:
    """Return the facts of what was refused, and of what left as fragments."""
    device = tunnel.netns, tunnel.ifindex
    own = index.drops.get(device, [])
    refused = facts.added(own)
    inner4 = [item for item in own if item[0].outer is None and item[0].family == 4]
    # What is bridged passes no rule that could clamp it.
    routed = [item for item in own if item[0].outer is None and item[0].site != BRIDGED]
    tcp = [item for item in routed if item[0].flow.proto == TCP]
    split = facts.added(index.fragments.get(device, []))
    times["refused"], times["fragments"] = refused.times, split.times
    harmed = [s for s in (refused, split) if s.packets]
    if harmed:
        firsts = [s.first for s in harmed if s.first is not None]
        lasts = [s.last for s in harmed if s.last is not None]
        times["harm"] = min(firsts), max(lasts)
    told = [item for item in own if item[0].verdict == "told"]
    return {
        "refused": refused.packets,
        "refused_df": facts.added(inner4).packets,
        "told": facts.added(told).packets,
        "tcp": facts.added(tcp).packets,
        "longest": refused.longest or None,
        "fragmented": split.packets,
        "fragment_mtu": split.mtu or None,
        "harm": bool(refused.packets or split.packets),
    } | _clamped(index.case, tunnel, refused)


def _clamped(case: Case, tunnel: Tunnel, refused: Sums) -> dict[str, Value]:
    around = case.surroundings.get(tunnel.netns)
    if around is None or around.rules is None:
        return {"clamped": None, "clamp_size": None, "clamp_most": None}
    clamps = [c for c in around.rules.clamps if not c.devs or tunnel.name in c.devs]
    sizes = [c.size for c in clamps if c.size is not None]
    mtu = min(refused.mtu or tunnel.mtu, tunnel.mtu)
    return {
        "clamped": bool(clamps),
        "clamp_size": min(sizes) if sizes and len(sizes) == len(clamps) else None,
        "clamp_most": mtu - INNER_TCP[4],
    }
