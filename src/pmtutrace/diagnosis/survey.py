"""What has to be asked of namespaces before a diagnosis, and asking it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmtutrace.pmtu import surroundings
from pmtutrace.pmtu.surroundings import Question

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pmtutrace.pmtu.surroundings import Surroundings
    from pmtutrace.tunnels.tunnel import Tunnel


def survey(
    tunnels: Iterable[Tunnel],
    only: Collection[int] | None = None,
    destinations: Iterable[tuple[int, str]] = (),
) -> dict[int, Surroundings]:
    """Read the ways, sysctls and rules of all namespaces, by inode. Best while the fault is there.

    Args:
        tunnels: whose far ends' ways are asked for.
        only: inodes of the namespaces that are wanted; None for all.
        destinations: inodes and addresses whose ways are asked for besides.
    """
    return surroundings.read_all(_questions(tunnels, destinations), only)


def outer(tunnel: Tunnel) -> Question | None:
    """Return how a tunnel asks for the way of its outer packets; None where nobody can tell.

    That of a tunnel whose packets leave from another namespace than its device's is not known.
    """
    if tunnel.remote is None or tunnel.elsewhere:
        return None
    return Question(tunnel.remote, tunnel.local, tunnel.link)


def _questions(
    tunnels: Iterable[Tunnel], destinations: Iterable[tuple[int, str]]
) -> Iterator[tuple[int, Question]]:
    for item in tunnels:
        if question := outer(item):
            yield item.netns, question
            yield item.netns, Question(question.daddr)
    for inum, daddr in destinations:
        yield inum, Question(daddr)
