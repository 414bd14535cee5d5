"""What can be told of ears without packets."""

import pytest

from pmtutrace.pmtu.ears import more


@pytest.mark.parametrize(
    ("before", "now", "moved"), [(0, 0, 0), (5, 9, 4), (2**32 - 1, 0, 1), (2**32 - 5, 7, 12)]
)
def test_a_counter_of_the_kernel_may_begin_anew(before, now, moved):
    assert more(before, now) == moved
