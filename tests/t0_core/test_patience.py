"""How long somebody is away: no single step uses up the patience, and none counts backwards."""

from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.core.patience import STEP_MIN, step
from bitdustfs.core.policy import PATIENCE
from bitdustfs.rebuild.plan import LATE

DAY = 86400.0


def test_time_that_passes_from_look_to_look_counts():
    assert step(10.0, PATIENCE) == 10.0
    assert step(600.0, PATIENCE) == 600.0


def test_a_clock_that_is_set_days_forward_uses_up_no_patience():
    assert step(400 * DAY, PATIENCE) < PATIENCE * LATE  # not even where little is left


def test_a_clock_that_is_set_back_counts_nothing():
    assert 0 < step(-400 * DAY, PATIENCE) < 0.001


def test_a_guard_that_looks_six_times_in_a_patience_counts_all_of_it():
    for patience in (6.0, 1000.0, PATIENCE):
        assert step(patience / 6, patience) == patience / 6


@given(st.floats(allow_nan=False), st.floats(0, 1e9))
def test_a_step_is_never_backwards_and_never_a_patience(elapsed, patience):
    assert 0 < step(elapsed, patience) <= max(patience / 5, STEP_MIN)
