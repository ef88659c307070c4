import pytest

from feedback.intervals import wilson


def test_wilson_is_as_in_the_books():
    """Newcombe 1998, Stat. Med. 17, 857-872, table I: 81 of 263, and 15 of 148."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)


def test_ties_as_half_of_one_leave_it_as_wide_as_it_is_without():
    low, high = wilson(50.0, 100)
    assert (low, high) == wilson(50, 100)
    assert low < wilson(50.5, 100)[0] < wilson(51, 100)[0]


def test_it_stays_within_a_share_and_knows_nothing_of_nothing():
    low, high = wilson(20, 20)
    assert 0.8 < low < high == 1.0
    assert wilson(0, 20)[0] == 0.0
    assert wilson(0, 0) is None
