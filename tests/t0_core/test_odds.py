"""The chance of a loss: against closed forms, against lives that are played, and what it claims."""

import math
import random
from itertools import accumulate

import pytest
from churn import DAY, HOUR, Churn
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.rebuild import cycles as cycles_module
from bitdustfs.rebuild import odds as odds_module
from bitdustfs.rebuild.cycles import Cause, Repairing, Terms, cycles, fewer_than, present_cycle
from bitdustfs.rebuild.lifetimes import DISK, YEAR, Level, Life, hollowness, own_rate, usual_rate
from bitdustfs.rebuild.odds import LEAST, OddsQuestion, SupplierSeen, advise, reckon, weakest_of

PATIENCE, FILL = 72 * HOUR, 6 * HOUR


def repairing(k, n, **changed):
    terms = {
        "patience": PATIENCE, "margin": 1, "fill": FILL, "reserves": 50, "mounted": 1.0,
        "uptimes": [1.0] * n, "hollow": [0.0] * n,
    }  # fmt: skip
    return Repairing(Terms(k, **{**terms, **changed}))


def alone(n, rate):
    """Each supplier leaves by itself, so often a second."""
    return [Cause(rate, frozenset([p])) for p in range(n)]


def question(k, n, age=1.0, **changed):
    usual = {
        "patience": PATIENCE, "margin": 1, "fill": FILL, "reserves": n,
        "lives": ((age, False),) * n, "suppliers": (SupplierSeen(age=age, audits=1000),) * n,
    }  # fmt: skip
    return OddsQuestion(k=k, **{**usual, **changed})


# -- closed forms


def test_one_supplier_is_lost_when_it_leaves():
    made = cycles(repairing(1, 1), alone(1, 1 / YEAR), 50, random.Random(1))
    assert (made.loss, made.length) == (1.0, 0.0)


def repaired_after(fill=FILL):
    """Seconds until the place of one of two is filled: nobody waits longer than a quarter."""
    return PATIENCE / 4 + 2 * cycles_module.INSTANT + fill


@pytest.mark.parametrize("rate", [1e-3, 1.0, 30.0], ids=["rare", "usual", "often"])
def test_two_copies_are_lost_if_the_other_leaves_before_one_is_made_again(rate):
    made = cycles(repairing(1, 2), alone(2, rate / YEAR), 4000, random.Random(1))
    expected = -math.expm1(-rate / YEAR * repaired_after())
    assert made.loss == pytest.approx(expected, rel=0.05)
    assert made.length == pytest.approx(expected * YEAR / rate, rel=0.05)


def test_what_happens_once_in_a_hundred_million_cycles_is_reckoned():
    """Three copies that nobody waits for: two more leave while a place is filled, (rate fill)^2."""
    rate = 1e-4 / FILL
    made = cycles(repairing(1, 3, patience=1e-6), alone(3, rate), 10_000, random.Random(1))
    instant = rate * (FILL + cycles_module.INSTANT)
    assert made.loss == pytest.approx(instant**2, rel=0.1)


def test_a_place_waits_for_somebody_where_no_reserve_stands_by():
    rate = 1.0 / YEAR
    made = cycles(repairing(1, 2, reserves=0), alone(2, rate), 4000, random.Random(1))
    waited = repaired_after() + cycles_module.HIRE
    assert made.loss == pytest.approx(-math.expm1(-rate * waited), rel=0.05)


def test_an_empty_vault_has_a_chance_as_well():
    """Nothing is to be fetched: a place is filled at once."""
    made = cycles(repairing(1, 2, fill=0.0), alone(2, 1 / YEAR), 4000, random.Random(1))
    assert made.loss == pytest.approx(-math.expm1(-1 / YEAR * repaired_after(0.0)), rel=0.05)


def test_what_falls_together_is_lost_together():
    together = Cause(0.1 / YEAR, frozenset([0, 1]))
    made = cycles(repairing(1, 2), [*alone(2, 1 / YEAR), together], 4000, random.Random(1))
    other = -math.expm1(-1.1 / YEAR * repaired_after())
    assert made.loss == pytest.approx(0.1 / 2.1 + 2 / 2.1 * other, rel=0.05)


def test_who_is_rarely_on_slows_filling_down():
    """With the other one on for a tenth of the time, the place is filled ten times as slowly."""
    rate, uptimes = 1.0 / YEAR, [0.1, 0.1]
    made = cycles(repairing(1, 2, uptimes=uptimes), alone(2, rate), 4000, random.Random(1))
    expected = -math.expm1(-rate * repaired_after(10 * FILL))
    assert made.loss == pytest.approx(expected, rel=0.05)


def test_an_owner_who_is_rarely_there_notices_late_where_nobody_else_does():
    rate = 1.0 / YEAR
    seldom = repairing(1, 2, reserves=0, mounted=0.25)
    made = cycles(seldom, alone(2, rate), 8000, random.Random(1))
    waited = 4 * repaired_after() + cycles_module.HIRE
    assert made.loss == pytest.approx(-math.expm1(-rate * waited), rel=0.04)
    guarded = cycles(repairing(1, 2, mounted=0.25), alone(2, rate), 4000, random.Random(1))
    assert guarded.loss == pytest.approx(-math.expm1(-rate * repaired_after()), rel=0.05)


def test_once_the_reserves_are_used_up_an_owner_who_is_rarely_there_notices_late_again():
    """Of three copies the third leaves while the second place waits for the owner."""

    def loss(reserves, mounted):
        rules = repairing(1, 3, fill=2 * DAY, reserves=reserves, mounted=mounted)
        return cycles(rules, alone(3, 5 / YEAR), 4000, random.Random(1)).loss

    assert loss(1, 0.1) > 1.3 * loss(1, 1.0)
    assert loss(50, 0.1) == loss(50, 1.0)


@pytest.mark.parametrize(("k", "n"), [(1, 2), (2, 4), (4, 7)])
def test_the_bias_changes_no_mean(k, n, monkeypatch):
    causes = [Cause((1 + p) * 6 / YEAR, frozenset([p])) for p in range(n)]
    biased = cycles(repairing(k, n), causes, 4000, random.Random(1))
    monkeypatch.setattr(cycles_module, "PUSH", 0.0)
    plain = cycles(repairing(k, n), causes, 10_000, random.Random(2))
    scatter = 3 / math.sqrt(10_000 * plain.loss)
    assert biased.loss == pytest.approx(plain.loss, rel=scatter + 0.05)
    assert biased.length == pytest.approx(plain.length, rel=0.1)


def test_a_cycle_is_followed_for_a_year():
    """The place is filled in a thousand years: only what is lost within one counts."""
    rules = repairing(1, 2, fill=1000 * YEAR)
    made = cycles(rules, alone(2, 1 / YEAR), 4000, random.Random(1))
    assert made.loss == pytest.approx(-math.expm1(-1), rel=0.05)
    assert made.length == pytest.approx(-math.expm1(-1) * YEAR, rel=0.05)


@pytest.mark.parametrize("reserves", [0, 20])
def test_a_family_that_is_never_complete_is_reckoned_with_few_steps(reserves):
    rules = repairing(1, 20, reserves=reserves)
    made = cycles(rules, alone(20, 2 / YEAR), 20, random.Random(1))
    assert 10 < made.steps < cycles_module.STEPS_MAX / 4 and made.loss < 1e-3
    assert len(rules._plans) <= cycles_module.KEPT_MAX


def test_what_takes_too_many_steps_counts_as_lost(monkeypatch):
    monkeypatch.setattr(cycles_module, "STEPS_MAX", 1)
    made = cycles(repairing(1, 8), alone(8, 1 / YEAR), 2000, random.Random(1))
    assert made.loss == pytest.approx(1.0, rel=0.1) and made.steps == 1


@given(st.integers(0, 8), st.lists(st.floats(0, 1), max_size=8))
def test_fewer_than_k_by_counting_them_all(k, chances):
    total = 0.0
    for word in range(1 << len(chances)):
        if word.bit_count() < k:
            total += math.prod(c if word >> i & 1 else 1 - c for i, c in enumerate(chances))
    assert fewer_than(k, chances) == pytest.approx(total, abs=1e-12)


# -- lives that are played


class Still(Churn):
    """Nothing is written meanwhile."""

    def write(self):
        """No block that somebody lacks from the beginning."""


@pytest.mark.parametrize("flapping", [False, True], ids=["steady", "flapping"])
def test_families_that_are_played_lose_as_often_as_the_model_says(flapping):
    """Two copies; a departure every 6 days, for 40 days: a third of the lives lose them."""
    up, down = (48 * HOUR, 12 * HOUR) if flapping else (1e15, 1.0)
    lost = 0
    for seed in range(LIVES):
        life = Still(
            seed, k=1, n=2, spares=2, blocks=1, local_blocks=0, step=STEP, uptime=up,
            downtime=down, departures=OFTEN,
        )  # fmt: skip
        life.run(40 * DAY)
        lost += life.fewest < 1
    # what happens is seen half a step later in the mean, and done at once
    rules = repairing(1, 2, fill=STEP / 2, uptimes=[up / (up + down)] * 2)
    made = cycles(rules, alone(2, 1 / (2 * OFTEN)), 4000, random.Random(1))
    chance = -math.expm1(-made.loss / (OFTEN + made.length) * 40 * DAY)
    scatter = math.sqrt(LIVES * chance * (1 - chance))
    assert LIVES * chance > 15
    assert abs(lost - LIVES * chance) < 3 * scatter, (lost, LIVES * chance)


STEP, OFTEN, LIVES = 2 * HOUR, 6 * DAY, 60


# -- what is known of suppliers


def test_before_anything_was_seen_a_supplier_leaves_once_a_year():
    level = Level([])
    assert level.quantile(0.5) == pytest.approx(0.84, rel=0.03)
    assert level.quantile(0.05) == pytest.approx(0.178, rel=0.05)
    assert level.quantile(0.95) == pytest.approx(2.37, rel=0.03)


def test_who_stays_leaves_less_and_whoever_left_tells_of_the_others():
    stayed, left = [Life(1.0)] * 7, [Life(0.2, left=True)] * 3
    assert Level(stayed).quantile(0.5) < 0.5 * Level([]).quantile(0.5)
    assert Level([*stayed, *left]).quantile(0.5) > 1.5 * Level(stayed).quantile(0.5)
    assert usual_rate(1.0, 3.0) == pytest.approx(DISK + 0.25)
    assert own_rate(1.0, 1.0, 3.0) == usual_rate(1.0, 3.0)


def test_the_mean_of_the_family_follows_bayes():
    """With one that stayed for t years and the prior 4 m exp(-2 m), by numbers."""
    steps = [i / 1000 for i in range(1, 20_000)]
    weights = [4 * m * math.exp(-2 * m) / (1 + 2.0 * m) for m in steps]
    below = list(accumulate(weights))
    half = next(m for m, w in zip(steps, below, strict=True) if w >= below[-1] / 2)
    assert Level([Life(2.0)]).quantile(0.5) == pytest.approx(half, rel=0.03)


@given(st.integers(0, 10_000), st.integers(0, 20))
def test_audits_that_pass_are_believed_and_failures_are_held_against_it(audits, failed):
    failed = min(failed, audits)
    assert 0 < hollowness(audits, failed) <= 1
    assert hollowness(audits + 1, failed) < hollowness(audits, failed) or failed == audits
    assert hollowness(audits + 1, failed + 1) >= hollowness(audits + 1, failed)


# -- what is said


@pytest.fixture
def few_draws(monkeypatch):
    """Enough to tell which of two is better."""
    monkeypatch.setattr(odds_module, "DRAWS", 40)


def test_the_same_question_has_the_same_answer():
    assert reckon(question(1, 2), 0.2) == reckon(question(1, 2), 0.2)


def test_more_suppliers_longer_seen_and_apart_are_safer(few_draws):
    usual = reckon(question(2, 4))
    assert usual.low <= usual.chance and usual.low < usual.high
    near = (SupplierSeen(age=1.0, audits=1000, network="n"),) * 4
    for worse in (
        question(2, 3), question(2, 4, age=0.1), question(2, 4, reserves=0),
        question(2, 4, fill=30 * DAY), question(2, 4, suppliers=near),
        question(2, 4, suppliers=(SupplierSeen(age=1.0),) * 4),
        question(2, 4, suppliers=(
            SupplierSeen(age=1.0, audits=1000, away=40 * HOUR),
            *(SupplierSeen(age=1.0, audits=1000),) * 3)),
    ):  # fmt: skip
        assert reckon(worse).chance > usual.chance, worse


def test_who_is_away_now_counts_now():
    rate, rules = 1.0 / YEAR, repairing(1, 2)
    made = present_cycle(rules, alone(2, rate), {0: PATIENCE + 1}, 4000, random.Random(1))
    assert made.loss == pytest.approx(-math.expm1(-rate * FILL), rel=0.05)
    gone = tuple(SupplierSeen(age=1.0, audits=1000, away=DAY) for _ in range(2))
    assert reckon(question(1, 2, suppliers=gone), 0.2).chance == pytest.approx(1.0)


def test_less_than_one_in_a_hundred_million_is_not_claimed(few_draws):
    made = reckon(question(1, 6, age=20.0), 0.5)
    assert made.low == made.chance == LEAST
    assert advise(question(1, 6, age=20.0, least=1e-4)).chance == 1e-4


def test_large_families_with_a_small_k_are_reckoned_with_fewer_draws(monkeypatch):
    monkeypatch.setattr(odds_module, "WORK", 20_000)
    monkeypatch.setattr(odds_module, "WORK_MAX", 4000)
    drawn = []
    chance = odds_module._chance

    def counted(*args):
        drawn.append(args[3])
        return chance(*args)

    monkeypatch.setattr(odds_module, "_chance", counted)
    made = reckon(question(1, 16, reserves=0, lives=(), suppliers=(SupplierSeen(),) * 16))
    assert made.chance < 1e-2
    assert drawn == [odds_module.CYCLES_MIN] * odds_module.DRAWS_MIN


def test_hollow_suppliers_are_what_is_left_to_fear_of_those_who_never_leave():
    """Two copies, both in doubt: 1 in 400 each by one failed audit of 798."""
    doubted = (SupplierSeen(age=1e9, audits=798, audits_failed=1),) * 2
    made = reckon(question(1, 2, age=1e9, suppliers=doubted), 0.2)
    assert made.low > (1 / 400) ** 2


def test_the_weakest_is_named_and_what_would_help(few_draws):
    weak = SupplierSeen(age=0.1, audits=1000, network="n")
    seen = (weak, *(SupplierSeen(age=2.0, audits=1000),) * 2, weak)
    asked = question(2, 4, suppliers=seen, lives=((2.0, False),) * 4, reserves=0)
    made = advise(asked)
    assert made.weakest == weakest_of(asked) == 0
    assert {"supplier", "replace", "reserve"} <= {remedy.what for remedy in made.remedies}
    assert [*made.remedies] == sorted(made.remedies, key=lambda r: r.chance)
    assert all(remedy.chance < made.chance for remedy in made.remedies)


def test_where_all_are_alike_nobody_is_the_weakest():
    assert weakest_of(question(2, 4)) == -1


def test_no_patience_is_recommended_that_takes_a_night_for_a_departure(few_draws):
    made = advise(question(1, 2, patience=2 * DAY))
    assert "patience" not in {remedy.what for remedy in made.remedies}
    assert "replace" not in {remedy.what for remedy in made.remedies}
