"""What tells a slow line from suppliers that take everything in vain."""

import random

from bitdustfs.blocks.headway import Headway


class Taker:
    def __init__(self, node=b"n"):
        self.node, self.sent = node, 0


def test_what_is_sent_for_the_first_time_counts_at_once():
    headway, slow = Headway(), Taker()
    headway.begins(slow)
    seen = []
    for _ in range(5):
        slow.sent += 1000
        seen.append(headway.total())
    assert seen == [(0, 1000 * n) for n in range(1, 6)]
    headway.ended(slow, acknowledged=True)
    assert headway.total() == (1, 5000)
    headway.begins(slow)
    slow.sent += 10
    assert headway.total() == (1, 5010)


def test_whoever_takes_all_and_refuses_it_makes_no_headway():
    headway, liar = Headway(), Taker()
    for _ in range(100):
        headway.begins(liar)
        liar.sent += 4000
        headway.ended(liar, acknowledged=False)
    assert headway.total() == (0, 4000)
    headway.begins(liar)
    liar.sent += 4001  # further than ever
    assert headway.total() == (0, 4001)


def test_a_fragment_that_is_begun_again_counts_from_where_it_had_come_to():
    headway, line = Headway(), Taker()
    for come_to, counts in ((3000, 3000), (1000, 3000), (3500, 3500), (4000, 4000)):
        headway.begins(line)
        line.sent += come_to
        assert headway.total() == (0, counts)
        headway.ended(line, acknowledged=False)


def test_suppliers_that_all_refuse_come_to_an_end_whatever_they_do():
    """However their puts overlap and end: no more than the most that one was ever sent at once."""
    rng, headway = random.Random(7), Headway()
    liars = [Taker(bytes([number])) for number in range(5)]
    for _ in range(5000):
        liar = rng.choice(liars)
        headway.begins(liar)
        for _ in range(rng.randrange(4)):
            liar.sent += rng.randrange(1000)
            headway.total()
        headway.ended(liar, acknowledged=False)
    acknowledged, fresh = headway.total()
    assert acknowledged == 0 and fresh <= 5 * 3 * 1000
