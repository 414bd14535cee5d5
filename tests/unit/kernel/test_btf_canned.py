"""What stock kernels say of themselves: the facts that the hooks' ladders stand on."""

import lzma
import runpy
import tomllib
from functools import cache
from pathlib import Path

import pytest

from pmtutrace.errors import NotSupported
from pmtutrace.kernel import headers, sources
from pmtutrace.kernel.btf import Btf
from pmtutrace.kernel.btf_kinds import COMPOSITE, ENUMERATION, TRANSPARENT, Kind

DATA = Path(__file__).parents[2] / "data" / "btf"
TOOL = runpy.run_path(str(DATA / "prune.py"))
V5, V6, V6_12, V7 = sorted(path.name.removesuffix(".btf.xz") for path in DATA.glob("*.xz"))


@cache
def canned(release):
    return Btf.parse(lzma.decompress((DATA / f"{release}.btf.xz").read_bytes()))


@pytest.mark.parametrize(
    ("release", "name", "arguments"),
    [
        (V5, "kfree_skb", ("skb", "location")),
        (V6, "kfree_skb", ("skb", "location", "reason")),
        (V6_12, "kfree_skb", ("skb", "location", "reason", "rx_sk")),
        (V7, "kfree_skb", ("skb", "location", "reason", "rx_sk")),
        (V5, "icmp_send", None),
        (V6, "icmp_send", ("skb", "type", "code")),  # a stable backport
        (V7, "icmp_send", ("skb", "type", "code")),
        (V5, "net_dev_queue", ("skb",)),
        (V7, "net_dev_queue", ("skb",)),
        (V6, "fib_table_lookup", ("tb_id", "flp", "nhc", "err")),
        (V7, "net_dev_template", None),  # a class of events, not one
    ],
)
def test_tracepoints(release, name, arguments):
    assert canned(release).tracepoint(name) == arguments


@pytest.mark.parametrize(
    ("release", "too_big"), [(V5, None), (V6, 64), (V6_12, 76), (V7, 91)]
)  # each kernel has another number for it
def test_drop_reasons(release, too_big):
    reasons = canned(release).enum("skb_drop_reason") or {}
    assert reasons.get("SKB_DROP_REASON_PKT_TOO_BIG") == too_big


def test_values_beyond_31_bits():
    assert canned(V5).enum("rt_class_t")["RT_TABLE_MAX"] == -1  # not marked by that pahole
    assert canned(V7).enum("rt_class_t")["RT_TABLE_MAX"] == 0xFFFFFFFF
    callchain = canned(V7).enum("perf_callchain_context")
    assert callchain["PERF_CONTEXT_HV"] == 2**64 - 32


@pytest.mark.parametrize("release", [V5, V6, V6_12, V7])
def test_functions(release):
    function = canned(release).function("update_or_create_fnhe")
    assert [(p.type, p.name) for p in function.parameters] == [
        ("struct fib_nh_common *", "nhc"),
        ("__be32", "daddr"),
        ("__be32", "gw"),
        ("u32", "pmtu"),
        ("bool", "lock"),
        ("long unsigned int", "expires"),
    ]
    assert function.returns == "void"
    assert canned(release).function("no_such_function") is None


@pytest.mark.parametrize(
    ("release", "fifth"),
    [(V5, "const struct ip_options *"), (V7, "const struct inet_skb_parm *")],
)
def test_a_changed_parameter(release, fifth):
    assert canned(release).function("__icmp_send").parameters[4].type == fifth


@pytest.mark.parametrize("release", [V5, V6, V6_12, V7])
def test_fields(release):
    btf = canned(release)
    packet_type = btf.field("sk_buff", "pkt_type")
    marker = btf.field("sk_buff", "__pkt_type_offset")  # the kernel's own empty member there
    assert packet_type.bitfield
    assert (packet_type.bit_offset, packet_type.bit_size) == (marker.bit_offset, 3)
    assert btf.field("sk_buff", "cb").bit_size == 48 * 8
    assert btf.field("iphdr", "frag_off").bit_offset == 48
    assert btf.field("iphdr", "version").bit_offset == 4  # little endian: the upper four bits
    assert btf.field("ipv6hdr", "daddr").bit_offset == 24 * 8
    assert btf.field("net_device", "nd_net.net").bit_size == 64
    assert (btf.field("net", "ipv4.ip_rt_min_pmtu") is None) == (release == V5)
    assert btf.field("skb_shared_info", "frags.bv_page" if release in (V5, V6) else "frags.netmem")


def comparable(btf, type_id, depth=3):
    """Return a type without its ids: what two files of the same kernel must agree on."""
    type_ = btf[type_id]
    if type_.kind in COMPOSITE and type_.name and depth == 0:
        return type_.name
    if type_.kind in COMPOSITE:
        members = btf.members(type_id)
        inner = [(m[0], comparable(btf, m[1], max(depth - 1, 0)), *m[2:]) for m in members]
        return (type_.kind, type_.name, type_.word, inner)
    if type_.kind in ENUMERATION:
        return (type_.name, type_.word, btf.enumerators(type_id))
    if type_.kind is Kind.ARRAY:
        element, count = btf.array(type_id)
        return (count, comparable(btf, element, depth))
    if type_.kind is Kind.INT:
        return (type_.name, type_.word, btf.integer(type_id))
    if type_.kind in TRANSPARENT:
        target = btf.resolve(type_.word)
        behind = btf.spell(type_.word) if target.name else comparable(btf, type_.word, depth)
        return (type_.kind, type_.name, behind)
    return btf.spell(type_id)


def facts(btf, name):
    kinds = (*COMPOSITE, *ENUMERATION, Kind.TYPEDEF, Kind.INT, Kind.FUNC)
    return [list(btf.named((kind,), name)) for kind in kinds], list(btf.named(kinds, name))


@pytest.mark.parametrize("release", [V5, V6, V6_12, V7])
def test_names_are_found_at_once_as_they_are_found_one_by_one(release):
    names = headers.names(headers.Wanted.read(sources.folder() / "kernel.toml"))
    one_by_one, at_once = (Btf.parse(canned(release).data) for _ in range(2))
    at_once.expect(names)
    assert [facts(at_once, name) for name in names] == [facts(one_by_one, name) for name in names]
    assert not at_once._named  # nobody had to look through a kind
    # What was not expected is found all the same, and another time what is expected then.
    assert facts(at_once, "sk_buff_head") == facts(one_by_one, "sk_buff_head")
    at_once.expect(["sk_buff_head"])
    assert facts(at_once, "sk_buff_head") == facts(one_by_one, "sk_buff_head")
    assert facts(at_once, "sk_buff") == facts(one_by_one, "sk_buff")


def test_names_of_the_running_kernel_are_found_at_once():
    try:
        whole, at_once = Btf.load(), Btf.load()
    except NotSupported as error:
        pytest.skip(error.message)
    names = sorted({whole[i].name for i in range(1, len(whole), 97)} - {""})
    assert len(names) > 300
    at_once.expect(names)
    assert [facts(at_once, name) for name in names] == [facts(whole, name) for name in names]


def test_a_pruned_file_says_what_the_whole_one_says():
    try:
        whole = Btf.load()
    except NotSupported as error:
        pytest.skip(error.message)
    keep = tomllib.loads((DATA / "keep.toml").read_text())
    small = Btf.parse(TOOL["prune"](whole.data, keep))
    assert 3000 < len(small) < len(whole) / 4
    compared = 0
    for kind in (*COMPOSITE, *ENUMERATION, Kind.TYPEDEF):
        for type_id in small.ids(kind):
            name = small[type_id].name
            if name:
                same = [comparable(whole, i) for i in whole.named((kind,), name)]
                assert comparable(small, type_id) in same, name
                compared += 1
    assert compared > 1000
    for type_id in small.ids(Kind.FUNC):
        name = small[type_id].name
        assert small.function(name) == whole.function(name)
    for name in ("kfree_skb", "icmp_send", "net_dev_queue", "neigh_event_send_done"):
        assert small.tracepoint(name) == whole.tracepoint(name)
    assert small.enum("skb_drop_reason") == whole.enum("skb_drop_reason")
