"""The facts of destinations, senders, sites and namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmtutrace.diagnosis import facts, rhythm
from pmtutrace.diagnosis.facts import Link, Subject, Value, path_link, shown, tunnel_link
from pmtutrace.diagnosis.senders import TOLD
from pmtutrace.diagnosis.timeline import NARROWEST
from pmtutrace.pmtu.surroundings import Question
from pmtutrace.pmtu.ways import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pmtutrace.diagnosis.case import Arrived, Case, Path, Sender
    from pmtutrace.diagnosis.owners import Index, Items
    from pmtutrace.events import CounterKey
    from pmtutrace.pmtu.ways import Leg, Way

NSEC = 1_000_000_000
NETFILTER = ("NETFILTER_DROP", "nft_do_chain", "ipt_do_table", "nf_hook_slow")
# Not answered for good reasons: RFC 1122 and RFC 4443 forbid it, or another fragment is.
RIGHTLY_SILENT = frozenset(
    ("not_for_this_host", "broadcast_or_multicast", "non_first_fragment", "icmp_error_inside")
)
LIMITED = frozenset(("rate_limited_global", "rate_limited_host"))
HEEDED = frozenset(("applied", "clamped"))
REFUSED_NEWS = frozenset(("locked", "not_lower"))


def subjects(index: Index) -> Iterator[Subject]:
    """Yield all that are no tunnels."""
    case = index.case
    for path in case.paths:
        yield _destination(index, path)
    for netns, daddr in _unlearned(case):
        links = frozenset({path_link(netns, daddr)})
        yield Subject("destination", netns, daddr, _asked(case, netns, daddr), links)
    for sender in case.senders:
        yield _sender(index, sender)
    yield from _sites(index)
    for netns in sorted(_namespaces(case)):
        yield _namespace(index, netns)


def _destination(index: Index, path: Path) -> Subject:
    case, line = index.case, path.timeline
    netns, daddr = line.netns, line.daddr
    owners = index.ending(netns, daddr)
    through = [t for leg in path.legs if (t := index.tunnel(netns, leg.ifindex))]
    episodes = line.episodes
    collapses = [episode for episode in episodes if episode.collapse]
    found: dict[str, Value] = {
        "daddr": daddr,
        "family": line.family,
        "version": facts.version(daddr),
        "base": line.base,
        "floor": line.floor,
        "now": line.now.mtu if line.now else None,
        "locked": any(episode.locked for episode in episodes),
        "collapsed": bool(collapses),
        "standing": line.now is not None,
        "narrowest": NARROWEST[line.family],
        "below_route": line.floor is not None and (line.base is None or line.floor < line.base),
        "expires": next((leg.expires for leg in path.legs if leg.mtu is not None), None),
        "far_end_of": ", ".join(shown(t.name) or "" for t in owners) or None,
        "through": shown(through[0].name) if through else None,
        "by_tunnel": _by_tunnel(index, path),
        "dev": path.legs[0].dev if path.legs else None,
    }
    found |= _rhythm(path) | _legs(case, netns, daddr) | _news(index, netns, daddr)
    found |= _probed(case, netns, daddr)
    around = case.surroundings.get(netns)
    found["min_pmtu"] = around.sysctls.get("min_pmtu") if around else None
    low = collapses or list(episodes)
    times = {"path": (low[0].began, low[-1].ended)} if low else {}
    links: set[Link] = {path_link(netns, daddr)}
    links |= {tunnel_link(t) for t in (*owners, *through)}
    return Subject("destination", netns, daddr, found, frozenset(links), times)


def _by_tunnel(index: Index, path: Path) -> bool:
    """Say if all that was learned of a path was what is left inside the tunnels that it takes."""
    line = path.timeline
    for leg in path.legs:
        tunnel = index.tunnel(line.netns, leg.ifindex)
        if tunnel is None or tunnel.remote == line.daddr:
            return False
        if "tunnel" in leg.via and len(leg.via) == 1:
            continue
        if "icmp" in leg.via:
            return False
    return bool(path.legs)


def _rhythm(path: Path) -> dict[str, Value]:
    collapses = [episode for episode in path.timeline.episodes if episode.collapse]
    found = rhythm.find(collapses, path.timeline.gaps)
    complete = [episode.length for episode in collapses if episode.length is not None]
    return {
        "episodes": len(collapses),
        "period_s": found.period_s if found else None,
        "episode_s": found.episode_s if found else None,
        "duty": found.duty if found else None,
        "cycles": found.cycles if found else None,
        "confidence": found.confidence if found else None,
        "lasted": round(sum(complete) / NSEC, 3) if complete else None,
    }


def _legs(case: Case, netns: int, daddr: str) -> dict[str, Value]:
    """Return how many nexthops the route has, and on how many of them the path MTU is in force."""
    way = _way(case, netns, daddr)
    known = [leg for leg in way.legs if leg.now is not None] if way else []
    if way is None or len(known) < len(way.legs):
        return dict.fromkeys(("nexthops", "learned", "leg", "others"))
    low = _low(way)
    return {
        "nexthops": len(known),
        "learned": len(low),
        "leg": _hop(low[0]) if low else None,
        "others": ", ".join(_hop(leg) for leg in known if leg not in low) or None,
    }


def _way(case: Case, netns: int, daddr: str) -> Way | None:
    around = case.surroundings.get(netns)
    return around.ways.get(Question(daddr)) if around else None


def _low(way: Way | None) -> list[Leg]:
    """Return the nexthops by which less is in force than the route says."""
    legs = way.legs if way else ()
    mtu = (way.mtu if way else None) or LONGEST
    return [leg for leg in legs if leg.now is not None and leg.now < min(leg.mtu, mtu)]


def _hop(leg: Leg) -> str:
    return f"{leg.dev} {leg.gateway or ''}".strip()


def _news(index: Index, netns: int, daddr: str) -> dict[str, Value]:
    """Return the facts of messages about packets to a destination."""
    about = index.arrived.get((netns, daddr), [])
    heeded = [one for one in about if one.outcome in HEEDED]
    refused = [one for one in about if one.outcome in REFUSED_NEWS and _pins(one)]
    last = max(heeded, key=lambda one: one.tally.last, default=None)
    pinned = max(refused, key=lambda one: one.tally.last, default=None)
    return {
        "router": last.router if last else None,
        "told_mtu": last.mtu if last else None,
        "news": sum(one.tally.count for one in heeded) if about else None,
        "refused_router": pinned.router if pinned else None,
        "news_mtu": pinned.most if pinned else None,
        "effective": pinned.effective if pinned else None,
    }


def _pins(one: Arrived) -> bool:
    """Say if a message that was not heeded named more than what is in force."""
    return one.effective is not None and one.most > one.effective


def _probed(case: Case, netns: int, daddr: str) -> dict[str, Value]:
    found: dict[str, Value] = dict.fromkeys(
        ("probed", "probe_mtu", "believed", "hole_first", "hole_last", "pinned"), None
    )
    for inum, result in case.probes:
        if (inum, result.daddr) != (netns, daddr) or result.path is None:
            continue
        path = result.path
        first, last = path.hole or (None, None)
        belief = path.after
        way = _way(case, netns, daddr)
        hop = way.legs[0] if way and len(way.legs) == 1 else None
        found |= {
            "hop_dev": hop.dev if hop else None,
            "hop_gateway": hop.gateway if hop else None,
            "daddr": daddr,
            "family": path.family,
            "version": facts.version(daddr),
            "probed": result.verdict,
            "probe_mtu": path.mtu,
            "believed": belief.mtu,
            "hole_first": first,
            "hole_last": last,
            "pinned": belief.learned and path.settled and belief.mtu < path.mtu,
        }
    return found


def _unlearned(case: Case) -> list[tuple[int, str]]:
    """Return destinations of which no exception was seen, but that were probed, or were told of."""
    known = {(path.timeline.netns, path.timeline.daddr) for path in case.paths}
    asked = {(inum, result.daddr) for inum, result in case.probes if result.daddr}
    asked |= {(one.netns, one.daddr) for one in case.arrived if one.ours}
    return sorted((inum, daddr) for inum, daddr in asked - known if daddr)


def _asked(case: Case, netns: int, daddr: str) -> dict[str, Value]:
    """Return the facts of a destination as far as routes and probes say."""
    way = _way(case, netns, daddr)
    low = _low(way)
    found: dict[str, Value] = {
        "daddr": daddr,
        "version": facts.version(daddr),
        "collapsed": False,
        "base": way.limit() if way else None,
        "now": min((leg.now for leg in low if leg.now), default=None),
    }
    return found | _legs(case, netns, daddr) | _probed(case, netns, daddr)


def _sender(index: Index, sender: Sender) -> Subject:
    tunnel = index.tunnel(sender.netns, sender.ifindex)
    found: dict[str, Value] = {
        "saddr": sender.saddr,
        "daddr": sender.daddr,
        "packets": sender.packets,
        "told": sender.told,
        "late": sender.late,
        "told_mtu": sender.mtu or None,
        "longest": sender.longest or None,
        "listens": sender.kind,
        "lasted": round((sender.last - sender.first) / NSEC, 3),
        "dev": shown(tunnel.name) if tunnel else None,
    }
    links: set[Link] = {path_link(sender.netns, sender.daddr)}
    if tunnel:
        links.add(tunnel_link(tunnel))
        if tunnel.remote:
            links.add(path_link(sender.netns, tunnel.remote))
    name = f"{sender.saddr} > {sender.daddr}"
    times = {"drops": (sender.first, sender.last)}
    return Subject("sender", sender.netns, name, found, frozenset(links), times)


def _sites(index: Index) -> Iterator[Subject]:
    """Yield where senders are not told although they should be, by cause."""
    by_place: dict[tuple[int, str, str, str], Items] = {}
    for key, counter in index.case.counters.items():
        silent = key.verdict in ("suppressed", "never_attempted")
        cause = key.cause or key.verdict
        if silent and cause not in RIGHTLY_SILENT | LIMITED:
            place = key.netns, key.site, cause, _device(index, key)
            by_place.setdefault(place, []).append((key, counter))
    for (netns, site, cause, dev), items in by_place.items():
        sums = facts.added(items)
        around = index.case.surroundings.get(netns)
        limit = cause == "unknown" and items[0][0].family == 6
        found: dict[str, Value] = {
            "site": site,
            "reason": cause,
            "dev": dev or None,
            "packets": sums.packets,
            "longest": sums.longest or None,
            "told_mtu": sums.mtu or None,
            "saddr": items[0][0].flow.saddr or None,
            "ptb_limited": (around.ptb_limited if around else None) if limit else False,
        }
        name = f"{site} {dev}".strip()
        yield Subject("site", netns, name, found, times={"drops": sums.times})


def _device(index: Index, key: CounterKey) -> str:
    tunnel = index.tunnel(key.netns, key.ifindex)
    return shown(tunnel.name) or "" if tunnel else ""


def _namespaces(case: Case) -> set[int]:
    found = {key.netns for key in case.counters} | {lost.netns for lost in case.lost}
    return (found | {one.netns for one in case.arrived} | set(case.surroundings)) - {0}


def _namespace(index: Index, netns: int) -> Subject:
    case, own = index.case, index.by_netns.get(netns, [])
    times: dict[str, tuple[int | None, int | None]] = {}
    found = _filtered(case, netns, own, times) | _limited(case, netns, own, times)
    stray = [one for one in case.arrived if one.netns == netns and one.outcome == "not_sent_here"]
    if stray:
        times["stray"] = min(s.tally.first for s in stray), max(s.tally.last for s in stray)
    found |= {
        "unsent": sum(one.tally.count for one in stray),
        "router": stray[0].router if stray else None,
        "saddr": stray[0].saddr if stray else None,
        "daddr": stray[0].daddr if stray else None,
    }
    return Subject("namespace", netns, "", found, times=times)


def _filtered(
    case: Case, netns: int, own: Items, times: dict[str, tuple[int | None, int | None]]
) -> dict[str, Value]:
    """Return the facts of messages that netfilter dropped."""
    dropped = {
        lost: tally
        for lost, tally in case.lost.items()
        if lost.netns == netns and (lost.reason or lost.site) in NETFILTER
    }
    if not dropped:
        return {"lost": 0}
    exact = facts.added(item for item in own if item[0].verdict == "lost").packets
    first = min(tally.first for tally in dropped.values())
    times["lost"] = first, max(tally.last for tally in dropped.values())
    most = max(dropped, key=lambda lost: dropped[lost].count)
    around = case.surroundings.get(netns)
    blocks = around.rules.blocks if around and around.rules else ()
    hook = (most.hook or "").lower()
    fitting = [b.place for b in blocks if not hook or b.hook == hook]
    told = facts.added(item for item in own if item[0].verdict in TOLD).packets
    return {
        "lost": max(exact, sum(tally.count for tally in dropped.values())),
        "told": told,
        "site": most.site,
        "hook": most.hook,
        "place": fitting[0] if fitting else None,
        "family": most.family,
    }


def _limited(
    case: Case, netns: int, own: Items, times: dict[str, tuple[int | None, int | None]]
) -> dict[str, Value]:
    """Return the facts of IPv6 messages that a limit held back."""
    around = case.surroundings.get(netns)
    six = [item for item in own if item[0].family == 6 and item[0].verdict == "suppressed"]
    limited = facts.added(item for item in six if item[0].cause in LIMITED)
    likely = facts.added(item for item in six if item[0].cause == "unknown")
    if limited.packets or likely.packets:
        times["limited"] = limited.times if limited.packets else likely.times
    return {
        "limited": limited.packets,
        "likely_limited": likely.packets,
        "ptb_limited": around.ptb_limited if around else None,
    }
