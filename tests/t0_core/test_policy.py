"""A policy out of the words of a family, whatever whoever signed it wrote there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.core.policy import Policy, Refounding, read_policy

NUMBERS = st.integers(-(2**63), 2**64 - 1)


@given(st.dictionaries(st.text(max_size=20) | st.sampled_from(["patience", "bandwidth"]), NUMBERS))
def test_any_words_are_read(words):
    read_policy(words)


@pytest.mark.parametrize("number", ["\u00b2", "\u0663", "-1", "", "1_0", " 1", "9" * 5000])
def test_what_no_program_writes_as_a_number_is_not_heeded(number):
    """A stranger's family with such a word was an error of the supplier's own at each look."""
    assert read_policy({f"lineage:{number}": 1, f"refounded:{number}": 2}) == Policy()


def test_numbers_are_read():
    words = {"lineage:18446744073709551615": 7, "refounded:0": 5, "patience": 60}
    founded = (Refounding(0, 0, 5), Refounding(2**64 - 1, 0, 7))
    assert read_policy(words) == Policy(patience=60.0, refoundings=founded)
