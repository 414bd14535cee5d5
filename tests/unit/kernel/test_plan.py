"""Which rung of each ladder a kernel gets: pure, from what kernels say of themselves."""

import lzma
from functools import cache
from pathlib import Path

import pytest

from pmtutrace.kernel import hooks, plan
from pmtutrace.kernel.btf import Btf
from pmtutrace.kernel.btf_kinds import Kind
from pmtutrace.kernel.loader import Attached
from pmtutrace.kernel.plan import Features, Support

DATA = Path(__file__).parents[2] / "data" / "btf"
V5, V6, V6_12, V7 = sorted(path.name.removesuffix(".btf.xz") for path in DATA.glob("*.xz"))
YES = Support(True)
ALL_WAYS = dict.fromkeys(("tracepoint", "kprobe", "kretprobe", "fentry", "fexit"), YES)


@cache
def named(release):
    """Return the tracepoints and functions that a kernel's BTF has, with their ids."""
    btf = Btf.parse(lzma.decompress((DATA / f"{release}.btf.xz").read_bytes()))
    tracepoints = {
        name: id_
        for name in hooks.TRACEPOINTS
        if (id_ := btf.find((Kind.TYPEDEF,), f"btf_trace_{name}"))
    }
    functions = {name: id_ for name in hooks.FUNCTIONS if (id_ := btf.find((Kind.FUNC,), name))}
    return tracepoints, functions


def features(release, *, without=(), symbols=hooks.FUNCTIONS):
    """Return what a kernel can do; ``without`` are ways to attach that it refuses."""
    tracepoints, functions = named(release)
    ways = {how: Support(False, "refused") if how in without else YES for how in ALL_WAYS}
    return Features(ways, tracepoints, functions, frozenset(symbols))


def best(features):
    """Return the best rung of each hook, None where there is none."""
    return {
        step.hook.name: step.rungs[0].name if step.rungs else None
        for step in plan.plan(hooks.HOOKS, features)
    }


NO_FENTRY = ("fentry", "fexit")
NO_KPROBE = ("kprobe", "kretprobe", *NO_FENTRY)
REST = dict.fromkeys(("tunnel_check", "route", "modules", "drop"), "tracepoint")
TUNNELS = {
    **dict.fromkeys(("tunnel4", "tunnel6"), ("fentry", "kprobe")),
    **dict.fromkeys(("vti", "vti6", "xfrm"), ("kprobe", "fentry")),
}


def rest(release, without):
    """Return the rungs of the hooks that hang on little else but the ways to attach."""
    at_the_end = next((way for way in ("fexit", "kretprobe") if way not in without), None)
    waiting = "neighbours" if release == V5 else "tracepoint"
    at_the_start = next((way for way in ("fentry", "kprobe") if way not in without), None)
    return {
        "why": at_the_end or "elimination",
        "waiting": waiting,
        "fragment": at_the_start or "tracepoint",
        "path": at_the_start or "netlink",
        "received": at_the_end or "socket",
        **REST,
    }


@pytest.mark.parametrize(
    ("release", "without", "icmp4", "icmp6"),
    [
        # icmp:icmp_send came with 6.10, and to stable 6.1.
        (V5, (), "kprobe only", "fentry"),
        (V5, NO_FENTRY, "kprobe only", "kprobe"),
        (V5, NO_KPROBE, "predicates", "tracepoint"),
        (V6, (), "fentry", "fentry"),
        (V6, NO_FENTRY, "kprobe", "kprobe"),
        (V6_12, (), "fentry", "fentry"),
        (V6_12, ("kprobe", "kretprobe"), "fentry", "fentry"),
        (V7, (), "fentry", "fentry"),
        (V7, NO_FENTRY, "kprobe", "kprobe"),
        # A cloud kernel of 6.18: raw tracepoints and nothing else.
        (V7, NO_KPROBE, "tracepoint", "tracepoint"),
    ],
)
def test_the_rung_that_a_kernel_gets(release, without, icmp4, icmp6):
    assert best(features(release, without=without)) == {
        "icmp4": icmp4,
        "icmp6": icmp6,
        **dict.fromkeys(
            ("local", "openvswitch"),
            next((how for how in ("kprobe", "fentry") if how not in without), None),
        ),
        **{
            name: next((how for how in ladder if how not in without), "inventory")
            for name, ladder in TUNNELS.items()
        },
        **rest(release, without),
    }


def test_lower_rungs_are_kept_for_when_the_kernel_refuses_after_all():
    (icmp4, *_) = plan.plan(hooks.HOOKS, features(V7))
    assert [rung.name for rung in icmp4.rungs] == [rung.name for rung in icmp4.hook.ladder]
    assert icmp4.refused == ()


def test_a_part_of_a_function_is_not_the_function():
    """In BTF under its plain name, in kallsyms only as __icmp_send.constprop.0: other arguments."""
    symbols = (hooks.FUNCTIONS - {"__icmp_send"}) | {"__icmp_send.constprop.0"}
    steps = plan.plan(hooks.HOOKS, features(V7, symbols=symbols))
    assert steps[0].rungs[0].name == "tracepoint"
    assert dict(steps[0].refused) == dict.fromkeys(
        ("fentry", "kprobe", "kprobe only"),
        "no function __icmp_send, or only a part of it",
    )
    assert steps[1].rungs[0].name == "fentry"


def test_what_is_not_in_btf_can_still_be_probed():
    tracepoints, functions = named(V7)
    functions = {name: id_ for name, id_ in functions.items() if name != "__icmp_send"}
    found = Features(ALL_WAYS, tracepoints, functions, frozenset(hooks.FUNCTIONS))
    (icmp4, *_) = plan.plan(hooks.HOOKS, found)
    assert icmp4.rungs[0].name == "kprobe"
    assert dict(icmp4.refused) == {"fentry": "__icmp_send is not in BTF"}


def test_reasons_say_which_way_and_why():
    (icmp4, *_) = plan.plan(hooks.HOOKS, features(V5, without=NO_KPROBE))
    (left,) = icmp4.rungs
    assert (left.name, left.attachments) == ("predicates", ())
    assert left.blind
    assert dict(icmp4.refused) == {
        "fentry": "fentry: refused",
        "kprobe": "kprobe: refused",
        "kprobe only": "kprobe: refused",
        "tracepoint": "no tracepoint icmp_send",
    }


def test_what_could_not_be_told_is_tried():
    found = features(V7)
    ways = {**ALL_WAYS, "fentry": Support(None, "no descriptors left")}
    found = Features(ways, found.tracepoints, found.functions, found.symbols)
    assert best(found)["icmp4"] == "fentry"


def test_a_kernel_with_nothing_still_has_a_step_for_every_hook():
    nothing = Features(dict.fromkeys(ALL_WAYS, Support(False, "no")), {}, {}, frozenset())
    steps = plan.plan(hooks.HOOKS, nothing)
    assert [step.hook for step in steps] == list(hooks.HOOKS)
    for step in steps:
        assert len(step.refused) + len(step.rungs) == len(step.hook.ladder)
        assert all(rung.attachments == () for rung in step.rungs)
    assert steps[-1].hook.needed
    assert steps[-1].rungs == ()


def test_ways_that_are_not_wanted_are_as_if_refused():
    lowered = plan.without(features(V7), {"fentry", "fexit"})
    assert best(lowered) == best(features(V7, without=NO_FENTRY))
    assert dict(plan.plan(hooks.HOOKS, lowered)[0].refused) == {"fentry": "fentry: not wanted"}
    assert plan.without(features(V7), ()) == features(V7)


def test_a_function_of_a_module_is_waited_for():
    functions = {"vti_tunnel_xmit", "xfrmi_xmit"}
    steps = plan.plan(hooks.HOOKS, features(V7, symbols=hooks.FUNCTIONS - functions))
    waiting = {step.hook.name: step for step in steps if step.waits}
    assert waiting.keys() == {"vti", "xfrm"}
    assert [rung.attachments for rung in waiting["vti"].rungs] == [()]
    assert dict(waiting["vti"].refused) == dict.fromkeys(
        ("kprobe", "fentry"), "module ip_vti is not loaded"
    )


def test_a_module_has_its_own_btf():
    found = features(V7)
    assert "xfrmi_xmit" not in found.functions
    (step,) = (s for s in plan.plan(hooks.HOOKS, found) if s.hook.name == "xfrm")
    assert [rung.name for rung in step.rungs] == ["kprobe", "fentry", "inventory"]


def test_cold_leaves_out_what_is_hot():
    for release, without in ((V5, ()), (V7, ()), (V7, NO_KPROBE)):
        for step in plan.plan(hooks.HOOKS, features(release, without=without), cold=True):
            for rung in step.rungs:
                assert not rung.attachments or {step.hook.cost, rung.cost} == {"cold"}
    found = {s.hook.name: s for s in plan.plan(hooks.HOOKS, features(V7), cold=True)}
    assert found["icmp6"].rungs[0].name == "fentry"
    assert found["icmp6"].rungs[-1].name == "predicates"
    assert found["tunnel4"].rungs[0].name == "inventory"
    assert found["route"].rungs == ()
    assert dict(found["route"].refused) == {"tracepoint": plan.COLD}
    assert found["drop"].rungs


def test_what_an_attached_hook_does_not_know():
    steps = {s.hook.name: s for s in plan.plan(hooks.HOOKS, features(V7), cold=True)}
    hook = steps["route"].hook
    nothing = Attached(hook, None, steps["route"].refused)
    assert (nothing.blind, nothing.left_out, nothing.cost) == (hook.blind, True, "hot")
    xfrm = steps["xfrm"].hook
    assert Attached(xfrm, xfrm.ladder[-1], (), waits=True).blind == ""
    assert Attached(xfrm, xfrm.ladder[-1], ()).blind == xfrm.ladder[-1].blind
    icmp6 = steps["icmp6"].hook
    costs = {rung.name: Attached(icmp6, rung, ()).cost for rung in icmp6.ladder}
    assert costs.pop("tracepoint") == "hot"
    assert set(costs.values()) == {"cold"}


class TestCatalogue:
    """What the planner takes for granted of the hooks."""

    def test_the_hook_that_is_needed_comes_last(self):
        """So that no drop is seen before what its verdict hangs on is in place."""
        assert [hook.name for hook in hooks.HOOKS if hook.needed] == ["drop"]
        assert hooks.HOOKS[-1].name == "drop"

    def test_names_are_unique(self):
        assert len({hook.name for hook in hooks.HOOKS}) == len(hooks.HOOKS)
        for hook in hooks.HOOKS:
            names = [rung.name for rung in hook.ladder]
            assert len(set(names)) == len(names)

    def test_every_program_is_in_bpf(self):
        from pmtutrace.kernel import sources

        text = sources.text()
        for hook in hooks.HOOKS:
            for rung in hook.ladder:
                for attachment in rung.attachments:
                    assert f"\nint {attachment.program}(" in text

    def test_every_setting_is_a_member_of_config(self):
        from pmtutrace.kernel import sources
        from pmtutrace.layout import Layout

        members = Layout(sources.layout_source()).names("config")
        for hook in hooks.HOOKS:
            for rung in hook.ladder:
                assert set(rung.settings) <= set(members)
