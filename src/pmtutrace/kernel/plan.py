"""From what a kernel can do to which rungs of each ladder are worth trying. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pmtutrace.kernel.ladder import Attachment, Hook, How, Rung

COLD = "hot, and only cold ones are wanted"


class Support(NamedTuple):
    """The answer to one question about this kernel: yes, no with the reason, or could not tell."""

    works: bool | None
    reason: str = ""


class Features(NamedTuple):
    """What a kernel can do, as far as it matters for attaching.

    Args:
        ways: for each way to attach, whether a program of that type loads at all.
        tracepoints: raw tracepoints to the BTF id of their ``btf_trace_*`` type.
        functions: kernel functions in BTF to their id.
        symbols: exact symbols in kallsyms; a name may be in BTF while its only symbol is
            ``name.constprop.0``, which takes other arguments.
    """

    ways: Mapping[How, Support]
    tracepoints: Mapping[str, int]
    functions: Mapping[str, int]
    symbols: frozenset[str]


class Step(NamedTuple):
    """A hook, the rungs to try in order, and why the others are out.

    ``waits`` says that the hook's function is in a module which is not there now.
    """

    hook: Hook
    rungs: tuple[Rung, ...]
    refused: tuple[tuple[str, str], ...]
    waits: bool = False


def without(features: Features, ways: Collection[str]) -> Features:
    """Return the features of a kernel that lacks these ways to attach."""
    kept = {h: Support(False, "not wanted") if h in ways else s for h, s in features.ways.items()}
    return features._replace(ways=kept)


def obstacle(attachment: Attachment, features: Features) -> str:
    """Return why an attachment cannot work on this kernel, or an empty string."""
    way = features.ways[attachment.how]
    if way.works is False:
        return f"{attachment.how}: {way.reason}"
    target = attachment.target
    if attachment.how == "tracepoint":
        return "" if target in features.tracepoints else f"no tracepoint {target}"
    if target not in features.symbols:
        if attachment.module:
            return f"module {attachment.module} is not loaded"
        return f"no function {target}, or only a part of it"
    # What a module has in its own BTF is looked up when it comes to that.
    by_btf = attachment.how in ("fentry", "fexit") and not attachment.module
    if by_btf and target not in features.functions:
        return f"{target} is not in BTF"
    return ""


def _waits(hook: Hook, features: Features) -> bool:
    targets = {a.target for rung in hook.ladder for a in rung.attachments if a.module}
    return bool(targets) and targets.isdisjoint(features.symbols)


def plan(hooks: Sequence[Hook], features: Features, *, cold: bool = False) -> tuple[Step, ...]:
    """Choose for every hook the rungs that nothing known speaks against, best first.

    Args:
        hooks: the catalogue, or some of it.
        features: what the kernel can do.
        cold: leave out what runs for packets of which nothing is refused.
    """
    steps = []
    for hook in hooks:
        rungs, refused = [], []
        for rung in hook.ladder:
            why = next(filter(None, (obstacle(a, features) for a in rung.attachments)), "")
            if cold and rung.attachments and "hot" in (hook.cost, rung.cost):
                why = COLD
            if why:
                refused.append((rung.name, why))
            else:
                rungs.append(rung)
        steps.append(Step(hook, tuple(rungs), tuple(refused), _waits(hook, features)))
    return tuple(steps)
