"""How many acknowledgements a root needs, for every code up to seven suppliers (promise 3)."""

import re
from pathlib import Path

import pytest

from bitdustfs.cache.rows import CLOSED, BlockRow
from bitdustfs.core.placement import (
    acknowledgements_least,
    acknowledgements_wanted,
    default_k,
    largest_size,
    majority,
    metadata_k,
    promise_each,
)
from bitdustfs.units import GIB, MIB

README = (Path(__file__).parents[2] / "README.md").read_text()

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


def test_the_readme_says_what_small_groups_can_bear():
    rows = re.findall(
        r"^\| (\d) \| (\d)/(\d) \| (\d+) GB \| (\d) \| (\d) \| (\d) \|$", README, re.MULTILINE
    )
    assert [int(row[0]) for row in rows] == [2, 3, 3, 4, 5, 6, 7]
    for n, k, same, size, reading, publishing, lost in (map(int, row) for row in rows):
        asked = n // 2 if n % 2 == 0 else majority(n)  # with an even number the owner votes
        needed = max(
            asked,
            acknowledgements_least(k, n, meta=False),
            acknowledgements_least(metadata_k(k), n, meta=True),
        )
        assert same == n and size == -(-100 // k) and (k == default_k(n) or (k, n) == (1, 3))
        assert (reading, publishing, lost) == (n - k, n - needed, n - k)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("promise", [256 * MIB, 300 * MIB, 5 * GIB + 1, 1 << 40])
def test_the_largest_vault_is_one_that_is_promised_and_no_larger_one_is(k, promise):
    size = largest_size(promise, k)
    assert size == 0 or promise_each(size, k) <= promise
    assert promise_each(size + MIB, k) > promise
