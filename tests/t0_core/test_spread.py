"""Neighbours: what a family must not have twice unless told so."""

import pytest

from bitdustfs.core.spread import Spread, apart, joined, neighbourhood


@pytest.mark.parametrize(
    ("one", "other", "spread", "neighbours"),
    [
        ("8.8.8.1:4000", "8.8.8.200:5000", Spread.NETWORK, True),
        ("8.8.8.1:4000", "8.8.9.1:4000", Spread.NETWORK, False),
        ("8.8.8.1:4000", "8.8.8.200:4000", Spread.HOST, False),
        ("8.8.8.1:4000", "8.8.8.1:5000", Spread.HOST, True),
        ("8.8.8.1:4000", "8.8.8.1:5000", Spread.NONE, False),
        ("[2606:4700:1::1]:4000", "[2606:4700:1:9::2]:4000", Spread.NETWORK, True),
        ("[2606:4700:1::1]:4000", "[2606:4700:2::1]:4000", Spread.NETWORK, False),
        ("192.168.1.2:4000", "192.168.1.3:4000", Spread.NETWORK, False),  # a home, two machines
        ("192.168.1.2:4000", "192.168.1.2:5000", Spread.NETWORK, True),
        ("127.0.0.1:4000", "127.0.0.1:5000", Spread.NETWORK, False),  # a swarm
        ("nas:4000", "nas:5000", Spread.HOST, True),
        ("8.8.8.1:4000", "8.8.8.200:5000", 7, True),  # a policy of later times
    ],
)
def test_who_is_a_neighbour(one, other, spread, neighbours):
    same = neighbourhood(one, spread) == neighbourhood(other, spread) != ""
    assert same == neighbours
    assert apart([one, other], [], spread) == ([one] if neighbours else [one, other])
    assert apart([other], [one], spread) == ([] if neighbours else [other])


def test_who_has_any_sign_in_common_belongs_together_be_it_through_others():
    names = joined([{"a", "b"}, {"c"}, (), {"d", "c"}, {"e"}, {"b", "d"}, ()])
    assert len({names[at] for at in (0, 1, 3, 5)}) == 1
    assert names[2] == names[6] == "" and names[4] not in ("", names[0])
