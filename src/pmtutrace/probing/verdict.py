"""From what was measured and believed to a verdict, in words and with advice; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pmtutrace.probing.belief import Belief

# No link is narrower: RFC 791 has every host take 576 octets, RFC 8200 every IPv6 link carry 1280.
NARROWEST = {4: 576, 6: 1280}
VERDICTS = ("fine", "reduced", "black_hole", "collapsed", "asymmetric", "no_answer")


@dataclass(frozen=True, slots=True)
class News:
    """A message that a packet was too big: from whom (None: this kernel), and the MTU it named."""

    by: str | None
    mtu: int | None


@dataclass(frozen=True, slots=True)
class Under:
    """The path below a tunnel, between its endpoints.

    ``mtu`` is what was measured, None where it was not asked for or the far end did not answer;
    ``believed`` is what the kernel believes. ``recursive`` says that its route leads into the
    tunnel itself.
    """

    tunnel: str
    remote: str
    overhead: int | None
    mtu: int | None
    believed: Belief
    recursive: bool = False

    @property
    def fits(self) -> int | None:
        """Return the longest packet for which the tunnel has room, as the kernel believes."""
        return None if self.overhead is None else self.believed.mtu - self.overhead


@dataclass(frozen=True, slots=True)
class Path:
    """All that is known of a path.

    Args:
        family: 4 or 6.
        mtu: the longest packet that reaches the destination.
        round_trip: the longest one whose answer of the same length came back; None where no such
            answers were asked for, or the far end cuts them.
        silent: whether longer packets vanish without a message.
        news: the message about the shortest packet that was refused.
        before: what the kernel believed before packets were sent.
        after: what it believes now, having heard the news.
        under: the path below, where it leads into a tunnel.
        fails: the shortest packet known not to arrive; not of interest where all do.
        settled: False where it is not known what becomes of the lengths between these two.
    """

    family: int
    mtu: int
    round_trip: int | None
    silent: bool
    news: News | None
    before: Belief
    after: Belief
    fails: int
    under: Under | None = None
    settled: bool = True

    @property
    def belief(self) -> Belief:
        """Return the narrower of what the kernel believed before and believes now."""
        return min(self.before, self.after, key=lambda belief: belief.mtu)

    @property
    def hole(self) -> tuple[int, int] | None:
        """Return the lengths that vanish although this kernel would send them: first and last."""
        if self.silent and self.fails <= self.after.mtu:
            return self.fails, self.after.mtu
        return None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, what it rests on in one line, and what to do, empty where nothing is."""

    verdict: str
    found: str
    hint: str = ""


def judge(path: Path) -> Judgement:
    """Judge a path; the worst that is true of it counts."""
    if path.round_trip is not None and path.mtu > path.round_trip:
        return Judgement(
            "asymmetric",
            f"{path.mtu} octets get there, answers of more than {path.round_trip} do not come back",
            "look for a narrow link on the way back (run `pmtutrace probe` at the far end), or "
            "for a filter that drops long pings",
        )
    if path.hole:
        first, last = path.hole
        found = f"{first} to {last} octets vanish, and no message comes"
        if path.under and path.under.fits == path.mtu:
            return Judgement("black_hole", found, _advice(path))
        return Judgement(
            "black_hole",
            found,
            "find the hop that is silent (`tracepath`), let ICMP through there; until then lower "
            f"the route's MTU to {path.mtu}, or clamp the MSS to {path.mtu - _headers(path)}",
        )
    return _collapsed(path) or _reduced(path) or Judgement("fine", "")


def _collapsed(path: Path) -> Judgement | None:
    """Judge a path that is kept narrower than it is, or than any link is."""
    under, belief, news = path.under, path.belief, path.news
    if under and under.recursive:
        return recursive(under)
    if under and under.mtu and under.believed.learned and under.believed.mtu < under.mtu:
        return Judgement(
            "collapsed",
            f"{under.tunnel} takes {path.mtu}: this host believes {_mtu(under.believed)} to its "
            f"far end {under.remote}, but {under.mtu} get there",
            f"find out who says so; to forget it: {_flush(6 if ':' in under.remote else 4)}",
        )
    if belief.learned and belief.mtu < path.mtu and not (under and under.fits == belief.mtu):
        return Judgement(
            "collapsed",
            f"this host believes {_mtu(belief)}, but {path.mtu} get there",
            f"find out who says so{_said(path)}; to forget it: {_flush(path.family)}",
        )
    if news and news.mtu and news.mtu < path.mtu:
        return Judgement(
            "collapsed",
            f"{news.by} says {news.mtu}, but {path.mtu} get there",
            f"look at {news.by}: its message is wrong",
        )
    if path.mtu < NARROWEST[path.family]:
        return Judgement(
            "collapsed",
            f"no link is as narrow as {path.mtu}{_said(path)}",
            f"look at {news.by if news and news.by else 'the tunnels on the way'}: a tunnel there "
            "believes in a path MTU that is too low, or is routed into itself",
        )
    return None


def recursive(under: Under) -> Judgement:
    """Return the judgement on a tunnel whose far end is reached through itself."""
    return Judgement(
        "collapsed",
        f"the route to {under.tunnel}'s far end {under.remote} leads into {under.tunnel} itself",
        f"give {under.remote} a route of its own by the device below the tunnel",
    )


def _reduced(path: Path) -> Judgement | None:
    under, belief = path.under, path.belief
    if path.mtu < path.before.dev_mtu:
        if under and under.fits == path.mtu:
            found = f"this host believes {_mtu(under.believed)} to the far end {under.remote}"
        elif path.silent:
            found = f"this host knows, and believes {_mtu(belief)}"
        else:
            found = f"narrower than {path.before.dev}, and senders are told{_said(path)}"
        return Judgement("reduced", found, _advice(path))
    if belief.mtu < path.mtu:
        if under and under.fits == belief.mtu:
            found = f"more than {belief.mtu} octets travel as fragments in {under.tunnel}"
            return Judgement("reduced", found, _advice(path))
        return Judgement(
            "reduced",
            f"the route's own MTU is {belief.mtu}, but {path.mtu} get there",
            f"if that is not meant so, change the MTU of the route or of {path.before.dev}",
        )
    return None


def _advice(path: Path) -> str:
    """Return what to do about a narrow path, or a tunnel that promises more than fits below."""
    under = path.under
    if under and under.fits is not None and under.fits < path.before.dev_mtu:
        if path.family == 6 and under.fits < NARROWEST[6]:
            need = NARROWEST[6] + (under.overhead or 0)
            return f"IPv6 in {under.tunnel} needs {need} octets to {under.remote}: widen that path"
        return (
            f"{under.overhead} of {under.believed.mtu} octets are overhead: "
            f"ip link set {under.tunnel} mtu {under.fits}"
        )
    return f"TCP that ignores such messages needs an MSS of {path.mtu - _headers(path)}"


def _headers(path: Path) -> int:
    """Return the octets of an IP and a TCP header without options."""
    return 40 if path.family == 4 else 60


def _said(path: Path) -> str:
    """Return who sent the news, and which MTU it named."""
    news = path.news
    if news is None:
        return ""
    by = "this host" if news.by in (None, path.before.source) else news.by
    mtu = f", naming {news.mtu}" if news.mtu else ""
    return f" (by {by}{mtu})"


def _mtu(belief: Belief) -> str:
    """Return an MTU that is believed, and how long it will be."""
    locked = " (locked)" if belief.locked else ""
    until = f" for {belief.expires:.0f} s more" if belief.expires is not None else ""
    return f"{belief.mtu}{locked}{until}"


def _flush(family: int) -> str:
    return f"ip {'-6 ' if family == 6 else ''}route flush cache"
