"""What a hook is made of: a ladder of rungs, each of programs and where they are attached."""

from __future__ import annotations

from typing import Literal, NamedTuple

Cost = Literal["cold", "hot"]
How = Literal["tracepoint", "kprobe", "kretprobe", "fentry", "fexit"]


class Attachment(NamedTuple):
    """One program of bpf/ on one tracepoint or kernel function, in a module or in none."""

    how: How
    program: str
    target: str
    module: str = ""


class Rung(NamedTuple):
    """One way to attach a hook.

    Args:
        name: one or two words.
        attachments: all of them, or the rung does not hold.
        settings: members of ``struct config`` that it sets to 1.
        blind: what a better rung would tell and this one does not.
        cost: ``hot`` where that is so of this rung only, and not of the whole hook.
    """

    name: str
    attachments: tuple[Attachment, ...]
    settings: tuple[str, ...] = ()
    blind: str = ""
    cost: Cost = "cold"


class Hook(NamedTuple):
    """A hook with its ladder.

    Args:
        name: one word.
        tells: what is known because of it.
        cost: ``cold`` (only when something is refused) or ``hot`` (for every packet of some kind).
        ladder: rungs, best first.
        blind: what is not known if no rung holds, or what is inferred instead.
        needed: True if there is no tracing without it.
    """

    name: str
    tells: str
    cost: Cost
    ladder: tuple[Rung, ...]
    blind: str
    needed: bool = False

    @property
    def module(self) -> str:
        """The module that has its function: attached while that is loaded. Often there is none."""
        return next((a.module for rung in self.ladder for a in rung.attachments if a.module), "")
