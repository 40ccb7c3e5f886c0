"""How many acknowledgements make a block safe, what a group holds, and default codes."""

from bitdustfs.core.records import Family
from bitdustfs.errors import UsageError
from bitdustfs.units import MIB

SLOP_SHARE, SLOP_MIN = 0.03, 256 * MIB  #: see slop

#: k by group size at twice the space or less (BitDust's own sizes)
DEFAULT_K = {1: 1, 2: 1, 3: 2, 4: 2, 7: 4, 10: 6, 13: 7, 18: 10}


def majority(n: int) -> int:
    """The smallest number of n voters that is more than half."""
    return n // 2 + 1


def acknowledgements_wanted(k: int, n: int) -> int:
    """Of the n suppliers of a block, how many should hold it before a root names it (promise 3).

    So many, that any one of them may be lost; and no fewer than half, which the root itself needs.
    """
    return min(n, max(-(-n // 2), k + 1))


def acknowledgements_least(k: int, n: int, meta: bool) -> int:
    """How many are enough where the wanted ones cannot be had within a minute (promise 3).

    For data it is what reading takes. Metadata stays at one more, which can be had whenever k of
    its data can and a root can: but for two friends, of whom one has to be enough.
    """
    return k + 1 if meta and n > 2 else k


def metadata_k(k: int) -> int:
    """k of metadata blocks: half, rounded up, so that the tree is harder to lose than data."""
    return -(-k // 2)


def default_k(n: int) -> int:
    """k for a group of n when the user names none: at most twice the space."""
    return DEFAULT_K.get(n, max(1, -(-n // 2)))


def parse_ecc(text: str) -> tuple[int, int]:
    """(k, n) from "4/7". Raises UsageError for anything else."""
    try:
        k, n = (int(part) for part in text.split("/"))
    except ValueError:
        raise UsageError(f"{text!r} is not a code; write k/n, for example 4/7") from None
    if not 1 <= k <= n <= 64:
        raise UsageError(f"{text}: a code needs 1 <= k <= n <= 64")
    return k, n


def slop(k: int, contract: int) -> int:
    """Bytes of a group kept free for metadata, deletes, compaction and the kernel's dirty pages."""
    return int(max(SLOP_SHARE * contract * k, SLOP_MIN))


def capacity(family: Family, bound: int | None = None) -> int:
    """Bytes of content that a vault takes: what `df` shows as its size.

    `bound`: bytes of each contract that count at most.
    """
    smallest = [min(m.space for m in g.members) for g in family.groups]
    if bound is not None:
        smallest = [min(bound, space) for space in smallest]
    room = [g.k * s - slop(g.k, s) for s, g in zip(smallest, family.groups, strict=True)]
    return max(0, sum(room))


def largest_size(promise: int, k: int) -> int:
    """Bytes of the largest vault for which suppliers promise so many each; 0 where there is none.

    In whole MiB, that people can say again.
    """
    low, high = 0, k * promise // MIB
    while low < high:
        middle = (low + high + 1) // 2
        if promise_each(middle * MIB, k) <= promise:
            low = middle
        else:
            high = middle - 1
    return low * MIB


def promise_each(size: int, k: int) -> int:
    """Bytes that each supplier must promise for a vault of `size` bytes."""
    per_supplier = -(-size // k)
    return per_supplier + -(-slop(k, per_supplier) // k)
