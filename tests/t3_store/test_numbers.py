"""Inode numbers as a model: whoever numbers, old program or new, no number is given twice."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.core.items import INDEX_BITS, SMALL_NUMBERS, Counters, Inode
from bitdustfs.fs.numbers import (
    FREE,
    GROUP_MIN,
    RUN_MAX,
    first_counters,
    keep_clear_of,
    new_group,
    new_number,
)

ROOT = 1


def folder(group):
    return Inode(1, 0o040755, 0, 0, 2, 0, 0, (0, 0), (0, 0), (0, 0), group=group, next_index=1)


def number_as_version_1(parent, counters):
    """What programs before small numbers do; they drop what lies behind the map of an inode."""
    parent.numbers = None
    number = parent.group << INDEX_BITS | parent.next_index
    parent.next_index += 1
    return number


def group_as_version_1(counters):
    counters.next_group += 1
    return counters.next_group - 1


steps = st.lists(
    st.tuples(st.booleans(), st.integers(0, 30), st.integers(0, 70), st.booleans()), max_size=60
)


@given(steps, st.sampled_from(["new", "old", "old and large", "nearly used up"]))
def test_no_number_is_given_twice_whoever_gives_it(steps, vault):
    match vault:
        case "new" | "nearly used up":
            counters, folders = first_counters(), [folder(GROUP_MIN)]
        case "old":
            counters, folders = Counters(1, 2, 1, 0), [folder(1)]
        case "old and large":
            counters, folders = Counters(1, GROUP_MIN + 50, 1, 0), [folder(1)]
    if vault == "nearly used up":
        counters.more[FREE] = [[SMALL_NUMBERS - 100, SMALL_NUMBERS]]
    given, groups = {ROOT}, {folders[0].group}
    for by_old, which, count, with_folder in steps:
        parent = folders[which % len(folders)]
        for _ in range(count):
            give = number_as_version_1 if by_old else new_number
            number = give(parent, counters)
            assert number not in given
            given.add(number)
        if with_folder:
            group = group_as_version_1(counters) if by_old else new_group(counters)
            assert group not in groups
            groups.add(group)
            folders.append(folder(group))


def test_numbers_are_small_until_all_small_ones_are_used_up():
    """256 folders were enough to use them up."""
    counters, folders = first_counters(), [folder(GROUP_MIN)]
    for _ in range(5000):
        number = new_number(folders[0], counters)
        assert number < SMALL_NUMBERS
        folders.append(folder(new_group(counters)))
    assert all(new_number(made, counters) < SMALL_NUMBERS for made in folders)
    counters.more[FREE] = [[SMALL_NUMBERS - 5, SMALL_NUMBERS]]
    late = folder(new_group(counters))
    numbers = [new_number(late, counters) for _ in range(10)]
    assert [number < SMALL_NUMBERS for number in numbers] == [True] * 5 + [False] * 5


def test_what_lies_in_one_folder_is_numbered_in_few_runs():
    counters = first_counters()
    one, other = folder(GROUP_MIN), folder(new_group(counters))
    numbers = []
    for _ in range(20_000):
        numbers.append(new_number(one, counters))
        new_number(other, counters)
    runs = 1 + sum(b != a + 1 for a, b in pairwise(numbers))
    assert runs <= 9 + 20_000 // RUN_MAX


def test_after_a_recovery_numbers_begin_above_those_that_are_in_use():
    root, counters = folder(GROUP_MIN), first_counters()
    keep_clear_of(root, counters, 1000, 700 << INDEX_BITS | 5)
    assert new_number(root, counters) == 1001
    assert new_group(counters) > 700 and root.group > 700
    keep_clear_of(root, counters, SMALL_NUMBERS - 1, SMALL_NUMBERS - 1)
    root.numbers = None
    assert new_number(root, counters) >= SMALL_NUMBERS
