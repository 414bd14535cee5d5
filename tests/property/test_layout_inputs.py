"""Whatever is given as a header is read, or refused with ImageError; never anything else."""

from hypothesis import example, given
from hypothesis import strategies as st

from pmtutrace.errors import ImageError
from pmtutrace.kernel import sources
from pmtutrace.layout import Layout

SOURCE = sources.layout_source()
WORDS = st.sampled_from(
    [
        *(
            "struct",
            "enum",
            "a",
            "b",
            "{",
            "}",
            "};",
            ";",
            "[",
            "]",
            "[16]",
            "=",
            "==",
            "1",
            "0x10",
        ),
        *("__u8", "__u16", "__u32", "__u64", "__s64", "x", "y", ",", "/*", "*/", "//", "\n", " "),
        *("_Static_assert", "(", ")", "sizeof", "(sizeof(struct a) == 8", "4294967296", "[0]"),
    ]
)


def read(text):
    try:
        layout = Layout(text)
        for name in layout.structs:
            layout.codec(name)
            layout.names(name)
    except ImageError:
        pass


@given(st.text())
def test_any_text(text):
    read(text)


@given(st.lists(WORDS, max_size=40))
def test_any_words(words):
    read(" ".join(words))


@given(st.integers(0, len(SOURCE) - 1), st.integers(0, 200), st.text(max_size=8))
@example(SOURCE.index("= 0,") + 3, 0, "8")
@example(SOURCE.index("= 0,") + 2, 1, "\u0661")
def test_any_damage_to_the_real_one(at, length, instead):
    read(SOURCE[:at] + instead + SOURCE[at + length :])


INTEGERS = {"__u8": 1, "__u16": 2, "__u32": 4, "__u64": 8}


@given(st.lists(st.tuples(st.sampled_from(sorted(INTEGERS)), st.none() | st.integers(1, 9))))
def test_members_are_where_c_puts_them_or_the_struct_is_refused(members):
    lines, at, padded, widest = [], 0, False, 1
    for number, (kind, count) in enumerate(members):
        lines.append(f"{kind} m{number}" + (f"[{count}]" if count else "") + ";")
        padded |= at % INTEGERS[kind] > 0
        at += INTEGERS[kind] * (count or 1)
        widest = max(widest, INTEGERS[kind])
    text = "struct a { " + " ".join(lines) + " };"
    try:
        layout = Layout(text)
    except ImageError:
        assert padded or at % widest or not members
        return
    assert not padded
    assert at % widest == 0
    assert layout.structs["a"].size == at
