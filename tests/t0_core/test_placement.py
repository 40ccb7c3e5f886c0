"""How many acknowledgements a root needs, for every code up to seven suppliers (promise 3)."""

import pytest

from bitdustfs.cache.rows import CLOSED, BlockRow
from bitdustfs.core.placement import (
    acknowledgements_least,
    acknowledgements_wanted,
    majority,
    metadata_k,
)

CODES = [(k, n) for n in range(1, 8) for k in range(1, n + 1)]


@pytest.mark.parametrize(("k", "n"), CODES)
def test_what_is_wanted_bears_a_loss_and_what_is_least_can_be_read(k, n):
    for meta, own in ((False, k), (True, metadata_k(k))):
        least, wanted = acknowledgements_least(own, n, meta), acknowledgements_wanted(own, n)
        assert own <= least <= wanted <= n
        assert wanted == n or wanted > own
        # metadata never waits for more than those without whom nothing is published anyway
        seat = n % 2 == 0
        assert least <= max(k, majority(n + seat) - seat)


@pytest.mark.parametrize(
    ("code", "wanted", "least", "meta_least"),
    [
        ((1, 2), 2, 1, 1), ((1, 3), 2, 1, 2), ((2, 3), 3, 2, 2), ((2, 4), 3, 2, 2),
        ((4, 7), 5, 4, 3), ((6, 10), 7, 6, 4), ((1, 1), 1, 1, 1),
    ],
)  # fmt: skip
def test_the_table_of_the_documentation(code, wanted, least, meta_least):
    k, n = code
    assert acknowledgements_wanted(k, n) == wanted
    assert acknowledgements_least(k, n, False) == least
    assert acknowledgements_least(metadata_k(k), n, True) == meta_least


def row(k, n, **changes):
    return BlockRow(CLOSED, False, 0, k, n, 100, **changes)


def test_copies_at_reserves_count_once_a_position():
    assert row(2, 3, acked=(1, 2), copies=((0, b"r"),)).enough
    assert not row(2, 3, acked=(1, 2), copies=((1, b"r"),)).enough
    assert row(2, 3, acked=(1, 2), copies=((0, b"r"),)).owed == (0,)  # its own gets it all the same


def test_promise_2_an_acknowledgement_on_this_machine_does_not_count():
    alone = row(1, 2, acked=(0,), beside=(0,))
    assert not alone.enough and len(alone.holders) < alone.least
    assert row(1, 2, acked=(0, 1), beside=(0,)).enough  # more is not to be had
    assert not row(2, 4, acked=(0, 1), beside=(0,)).enough
