"""Inode numbers: unique for ever, near each other in one folder, small as long as there are any.

Programs without large-file support get EOVERFLOW from stat for numbers from 2^32 on. A folder takes
a run of neighbouring small numbers, and a longer one each time it has used one up: folders of a few
files waste little, and `ls -l` of a large one touches few leaves.

What is small and free stands in Counters. A vault of an older program has its small folder groups
in use: what is free there are group 0, which was never given to a folder, and the groups below
2^32 that were not given yet. No folder gets those any more, by older programs neither.
"""

from bitdustfs.core.items import INDEX_BITS, INDEX_MAX, SMALL_NUMBERS, Counters, Inode

FREE = "free"  #: key in `Counters.more`: [begin, end) of small numbers that nobody has, in order
FIRST = 16  #: smallest number given; 1 is the vault's root folder
RUN_MIN, RUN_MAX = 16, 4096  #: numbers in a run
GROUP_MIN = SMALL_NUMBERS >> INDEX_BITS  #: first folder group whose numbers are large


def first_counters() -> Counters:
    """Of a vault that has only its root, of group GROUP_MIN."""
    return Counters(1, GROUP_MIN + 1, 1, 0, {FREE: [[FIRST, SMALL_NUMBERS]]})


def new_number(parent: Inode, counters: Counters) -> int:
    """A number for what is made in `parent`. Both change: the caller writes them back."""
    begin, end, length = parent.numbers or (0, 0, 0)
    if begin >= end:
        length = min(RUN_MAX, max(RUN_MIN, 2 * length))
        begin, end = _take_run(counters, length)
    if begin < end:
        parent.numbers = (begin + 1, end, length)
        return begin
    return _large_number(parent, counters)


def new_group(counters: Counters) -> int:
    """A group for a new folder, for when small numbers are used up."""
    _free(counters)
    group = counters.next_group
    counters.next_group += 1
    return group


def keep_clear_of(root: Inode, counters: Counters, small: int, large: int) -> None:
    """New numbers begin above these: the largest below 2^32, and the largest of all, in use."""
    begin = max(FIRST, small + 1)
    counters.more[FREE] = [[begin, SMALL_NUMBERS]] if begin < SMALL_NUMBERS else []
    root.group, root.next_index = max(GROUP_MIN, (large >> INDEX_BITS) + 1), 1
    counters.next_group = root.group + 1


def _free(counters: Counters) -> list[list[int]]:
    """The free small numbers, found out where only older programs wrote the counters."""
    if FREE not in counters.more:
        begun: list[list[int]] = [[FIRST, 1 << INDEX_BITS]]
        if counters.next_group < GROUP_MIN:
            begun.append([counters.next_group << INDEX_BITS, SMALL_NUMBERS])
        counters.more[FREE] = begun
        counters.next_group = max(counters.next_group, GROUP_MIN)
    free: list[list[int]] = counters.more[FREE]
    return free


def _take_run(counters: Counters, length: int) -> tuple[int, int]:
    """[begin, end) of at most `length` small numbers; empty when there are none."""
    free = _free(counters)
    if not free:
        return 0, 0
    (begin, end), rest = free[0], free[1:]
    stop = min(begin + length, end)
    counters.more[FREE] = [[stop, end], *rest] if stop < end else rest
    return begin, stop


def _large_number(parent: Inode, counters: Counters) -> int:
    if parent.next_index >= INDEX_MAX:
        parent.group, parent.next_index = new_group(counters), 1
    number = parent.group << INDEX_BITS | parent.next_index
    parent.next_index += 1
    return number
