"""The layout as Python reads it is the layout as a C compiler sees it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pmtutrace.errors import ImageError
from pmtutrace.kernel import sources
from pmtutrace.layout import Layout

SOURCE = sources.layout_source()
EVENTS = Layout(SOURCE)


def test_every_struct_is_there_and_asserted():
    assert {"flow_key", "flow_count", "event", "site_range", "site_table", "config"} <= set(
        EVENTS.structs
    )
    asserted = set(re.findall(r"sizeof\(struct (\w+)\)", SOURCE))
    assert asserted == set(EVENTS.structs)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What gcc says: size of each struct, and offset and size of each member, by dotted name."""
    compiler = shutil.which("gcc")
    assert compiler, "gcc is not installed: make setup-test"
    folder = tmp_path_factory.mktemp("layout")
    kinds = "".join(
        f"typedef {sign}{c} __{letter}{bits};\n"
        for c, bits in (("char", 8), ("short", 16), ("int", 32), ("long long", 64))
        for sign, letter in (("unsigned ", "u"), ("signed ", "s"))
    )
    lines = []
    for struct in EVENTS.structs.values():
        lines.append(f'printf("{struct.name} 0 %zu\\n", sizeof(struct {struct.name}));')
        for member in struct.members:
            path = f"{struct.name}.{member.name}"
            lines.append(
                f'printf("{path} %zu %zu\\n", offsetof(struct {struct.name}, {member.name}),'
                f" sizeof(((struct {struct.name} *)0)->{member.name}));"
            )
    for enum, values in EVENTS.enums.items():
        lines += [f'printf("{enum}:{name} %d 0\\n", {name});' for name in values]
    program = folder / "measure.c"
    program.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n{kinds}#include "events.h"\n'
        f"int main(void) {{ {' '.join(lines)} return 0; }}\n"
    )
    include = sources.folder() / "include"
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-o", folder / "measure", f"-I{include}", program],
        check=True,
    )
    said = subprocess.run([folder / "measure"], check=True, capture_output=True, text=True).stdout
    rows = (line.split() for line in said.splitlines())
    return {name: (int(at), int(size)) for name, at, size in rows}


def test_offsets_and_sizes_are_those_of_gcc(measured):
    checked = 0
    for struct in EVENTS.structs.values():
        assert measured[struct.name] == (0, struct.size)
        assert EVENTS.codec(struct.name).size == struct.size
        for member in struct.members:
            one = (
                EVENTS.structs[member.type].size
                if member.type in EVENTS.structs
                else EVENTS.alignment(member.type)
            )
            size = one * (1 if member.number is None else member.number)
            assert measured[f"{struct.name}.{member.name}"] == (member.offset, size)
            checked += 1
    assert checked > 60


def test_enumerators_are_those_of_gcc(measured):
    for enum, values in EVENTS.enums.items():
        for name, value in values.items():
            assert measured[f"{enum}:{name}"][0] == value


def test_verdicts_and_causes_are_spelled_as_documented():
    assert set(EVENTS.words("verdict", "VERDICT_").values()) == {
        *("none", "told", "suppressed", "lost", "never_attempted", "local"),
    }
    assert set(EVENTS.words("cause", "CAUSE_").values()) == {
        *("none", "no_route_on_skb", "no_device", "bad_header", "not_for_this_host"),
        *("broadcast_or_multicast", "non_first_fragment", "icmp_error_inside"),
        *("rate_limited_global", "rate_limited_host", "icmp_socket_busy", "options_invalid"),
        *("no_route_back", "no_room", "append_failed", "unknown"),
    }
    # The overflow entry is found by 3 bits of verdict and 5 of cause.
    assert max(EVENTS.enums["verdict"].values()) < 8
    assert max(EVENTS.enums["cause"].values()) < 32


def test_pack_and_unpack():
    values = {"saddr": bytes(range(16)), "netns": 4026531840, "be_sport": 0x0908, "verdict": 2}
    octets = EVENTS.pack("flow_key", values)
    assert len(octets) == EVENTS.structs["flow_key"].size
    back = dict(zip(EVENTS.names("flow_key"), EVENTS.codec("flow_key").unpack(octets), strict=True))
    assert {name: back[name] for name in values} == values
    assert all(not back[name] or set(back[name]) == {0} for name in back if name not in values)


def test_nested_structs_are_dissolved():
    names = EVENTS.names("event")
    assert "key.saddr" in names
    assert EVENTS.names("site_table")[7] == "range[1].start"


GOOD = "struct a {\n\t__u32 x;\n\t__u16 y;\n\t__u8 z[2];\n};\n"


def test_the_smallest_header():
    layout = Layout(GOOD + '_Static_assert(sizeof(struct a) == 8, "a");')
    assert layout.structs["a"].size == 8


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("struct a {\n\t__u8 x;\n\t__u32 y;\n};", "y needs padding"),
        ("struct a {\n};", "struct a is empty"),
        ("struct a {\n\tint x;\n};", "cannot read 'int x'"),
        ("struct a {\n\t__u32 x : 3;\n};", "cannot read"),
        ("struct a {\n\t__u32 *x;\n};", "cannot read"),
        ("struct a {\n\t__u32 x, y;\n};", "cannot read"),
        ("struct a {\n\t__u8 x[2][2];\n};", "cannot read"),
        ("struct a {\n\tstruct b inner;\n};", "struct b is not defined"),
        (GOOD + '_Static_assert(sizeof(struct a) == 12, "a");', "not 12 octets"),
        ('_Static_assert(sizeof(struct b) == 12, "b");', "struct b"),
        ("enum e {\n\tA,\n};", "cannot read 'A'"),
        ("enum e {\n\tA = 1 << 3,\n};", "cannot read"),
    ],
)
def test_what_breaks_the_rules_is_refused(text, why):
    with pytest.raises(ImageError, match=re.escape(why)):
        Layout(text)


def test_arrays_of_more_than_octets_are_refused():
    layout = Layout("struct a {\n\t__u32 x[2];\n};")
    with pytest.raises(ImageError, match="only octets"):
        layout.codec("a")


def test_comments_hold_no_members():
    layout = Layout("struct a {\n\t/* __u8 not; */\n\t__u32 x; // __u8 nor_this;\n};")
    assert layout.names("a") == ["x"]


def test_a_header_that_ends_before_its_padding_has_no_size():
    """C pads a struct to its alignment: what is not written out would be hidden."""
    with pytest.raises(ImageError, match="needs padding at its end"):
        Layout("struct a {\n\t__u64 x;\n\t__u8 y;\n};")


def test_the_source_is_kept():
    assert EVENTS.source == SOURCE
    assert Path(sources.folder() / "include" / "events.h").read_text() == SOURCE
