"""The root register against its promises: every schedule of the worlds in register_worlds.py."""

import pytest
from register_worlds import (
    AT_ONCE,
    BASE,
    BOTH,
    FIRST,
    FRIENDS,
    NEW,
    OLD,
    SECOND,
    Writer,
    explore,
    explored,
    root,
)


@pytest.mark.parametrize("knows", [OLD, NEW], ids=["old", "new"])
def test_promise_3_and_10_hold_in_every_schedule(knows):
    fault, states = explore(BOTH, knows)
    assert fault == ""
    assert states > 10_000


@pytest.mark.parametrize("liar", [0, 2])
def test_promise_9_a_voter_that_shows_what_is_long_past_changes_nothing(liar):
    fault, states = explore(BOTH, OLD, liar)
    assert fault == ""
    assert states > 1_000


@pytest.mark.parametrize("left", [(" publishes", " goes on"), (" replaces",)])
def test_promise_10_holds_with_two_friends_and_the_seats_of_two_machines(left):
    one = Writer("a", FIRST, FRIENDS, None, left=left).goes_on_from(root(FIRST, BASE, FRIENDS))
    two = Writer("b", SECOND, FRIENDS, (), left=(" sits", " publishes"))
    fault, states = explored(FRIENDS, one, two)
    assert fault == ""
    assert states > 1_000


@pytest.mark.parametrize(
    ("family", "left"), [(OLD, (" publishes", " goes on")), (FRIENDS, (" publishes",))]
)
def test_promise_10_holds_where_a_writer_claims_again_over_a_claim_that_came_to_nothing(
    family, left
):
    one = Writer("a", FIRST, family, None, left=left, again=True)
    one = one.goes_on_from(root(FIRST, BASE, family))
    fault, states = explored(family, one, Writer("b", SECOND, family, (), left=(" publishes",)))
    assert fault == ""
    assert states > 1_000


def test_the_exploration_finds_the_fork_of_a_seat_that_changes_hands_at_once():
    one = Writer("a", FIRST, FRIENDS, None, left=(" publishes",))
    one = one.goes_on_from(root(FIRST, BASE, FRIENDS))
    two = Writer("b", SECOND, FRIENDS, (), left=(" sits at once", " publishes"))
    fault, _ = explored(FRIENDS, one, two)
    assert fault


def test_the_exploration_finds_the_fork_of_a_change_that_names_nobody_from_before():
    fault, _ = explore(AT_ONCE, OLD)
    assert fault
