"""Many words at once: whatever they are, as one after the other."""

import re

from hypothesis import given
from hypothesis import strategies as st

from pmtutrace.kernel.words import any_of

WORD = st.binary(min_size=1, max_size=6).filter(lambda word: b"\0" not in word)
FEW = st.text("ab_.", min_size=1, max_size=5).map(str.encode)


def whole(words, text):
    """Return the words that are whole strings of a text of NUL-terminated ones, and where."""
    pattern = re.compile(rb"\0(" + any_of(words) + rb")(?=\0)")
    return [(found[1], found.start(1)) for found in pattern.finditer(text)]


@given(st.lists(WORD | FEW, min_size=1, unique=True), st.lists(WORD | FEW))
def test_as_one_after_the_other(words, others):
    text = b"\0" + b"".join(word + b"\0" for word in others)
    expected, at = [], 1
    for other in others:
        if other in words:
            expected.append((other, at))
        at += len(other) + 1
    assert whole(words, text) == expected


@given(st.lists(FEW, min_size=1, unique=True), FEW)
def test_matches_what_is_one_of_them_and_nothing_else(words, other):
    assert bool(re.fullmatch(any_of(words), other)) == (other in words)


def test_of_none():
    assert any_of([]) == b""
