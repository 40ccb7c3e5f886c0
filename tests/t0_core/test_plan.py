"""Plans: what they ask for, in which order, and that carrying them out ends."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from churn import DAY, HOUR, SMALL, UPTIMES, Churn, Evening
from hypothesis import given
from hypothesis import strategies as st

import bitdustfs.rebuild.plan as plan_module
from bitdustfs.rebuild.plan import BlockState, Presence, plan

K, N = 4, 7
PATIENCE = 72 * HOUR
HERE, AWAY, LOST = Presence(), Presence(away=HOUR), Presence(gone=True)

presences = st.lists(
    st.builds(
        Presence,
        away=st.one_of(st.just(0.0), st.floats(1, 2 * PATIENCE)),
        gone=st.booleans(),
        uptime=st.floats(0, 1),
    ),
    min_size=N, max_size=N,
)  # fmt: skip
blocks = st.lists(
    st.builds(
        BlockState,
        block=st.binary(min_size=16, max_size=16),
        k=st.sampled_from([2, K]),
        n=st.just(N),
        meta=st.booleans(),
        local=st.booleans(),
        stored=st.frozensets(st.integers(0, N - 1), max_size=N),
    ),
    max_size=12, unique_by=lambda state: state.block,
)  # fmt: skip


def planned(states, presence, margin=1):
    return plan(states, presence, k=K, patience=PATIENCE, margin=margin)


def state(number, stored, meta=False, local=False):
    return BlockState(bytes([number]) * 16, 2 if meta else K, N, meta, local, frozenset(stored))


def test_the_plan_is_pure():
    tree = ast.parse(Path(plan_module.__file__).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"collections.abc", "dataclasses"}


@given(blocks, presences, st.integers(0, 3))
def test_nothing_is_repaired_twice_or_where_nobody_is_or_without_k(states, presence, margin):
    made = planned(states, presence, margin)
    known = {s.block: s for s in states}
    assert len({r.block for r in made.repairs}) == len(made.repairs)
    for repair in made.repairs:
        block = known[repair.block]
        assert repair.positions
        assert not set(repair.positions) & block.stored
        assert all(presence[p].online for p in repair.positions)
        assert repair.local or block.reachable(presence) >= block.k
        assert repair.cost <= len(repair.positions) + block.k
        assert not repair.local or repair.cost == len(repair.positions)
    for waiting in made.waiting:
        assert known[waiting].reachable(presence) < known[waiting].k
    margins = [s.reachable(presence) - s.k for s in states]
    assert made.margin == min([*margins, sum(p.online for p in presence) - K])


@given(blocks, presences)
def test_thinnest_first_then_metadata_then_local(states, presence):
    known = {s.block: s for s in states}
    ranks = [
        (
            known[r.block].reachable(presence) - known[r.block].k,
            not known[r.block].meta,
            not r.local,
        )
        for r in planned(states, presence).repairs
    ]  # fmt: skip
    assert ranks == sorted(ranks)


@given(blocks, presences, st.integers(0, 3))
def test_only_who_is_gone_or_long_away_is_replaced(states, presence, margin):
    position = planned(states, presence, margin).replace
    if position is None:
        assert not any(p.gone or p.away > PATIENCE for p in presence)
    else:
        assert presence[position].gone or presence[position].away > PATIENCE / 4
        assert presence[position].gone or not any(p.gone for p in presence)


@given(blocks, presences)
def test_carrying_out_a_plan_leaves_nothing_of_it_to_do(states, presence):
    made = planned(states, presence)
    placed = {r.block: frozenset(r.positions) for r in made.repairs}
    after = [replace(s, stored=s.stored | placed.get(s.block, frozenset())) for s in states]
    assert planned([s for s in after if len(s.stored) < N], presence).repairs == ()


@pytest.mark.parametrize(
    ("away", "expected"),
    [
        ([0] * 7, None),
        ([PATIENCE - 1] + [0] * 6, None),
        ([PATIENCE + 1] + [0] * 6, 0),
        ([0, PATIENCE / 3, PATIENCE / 3, 0, 0, 0, 0], None),  # five are left: k + margin
        ([0, PATIENCE / 3, PATIENCE / 3, PATIENCE / 3, 0, 0, 0], 1),  # four are: no patience
        ([0, PATIENCE / 5, PATIENCE / 5, PATIENCE / 5, 0, 0, 0], None),
    ],
)
def test_patience_is_for_those_who_have_it(away, expected):
    assert planned([], [Presence(seconds) for seconds in away]).replace == expected


def test_a_liar_goes_before_an_absentee_and_the_less_reliable_before_the_other():
    late = [Presence(PATIENCE + 1, uptime=0.9), Presence(PATIENCE + 1, uptime=0.5)]
    assert planned([], [*late, *[HERE] * 5]).replace == 1
    assert planned([], [*late, LOST, *[HERE] * 4]).replace == 2


def test_a_block_that_lacks_what_is_away_is_not_repaired():
    assert planned([state(1, {0, 1, 2, 3, 4, 5})], [HERE] * 6 + [AWAY]).repairs == ()


def test_status_names_the_thinnest_block():
    made = planned([state(1, range(6)), state(2, range(5))], [HERE] * 7)
    assert (made.margin, made.thinnest) == (1, bytes([2]) * 16)
    assert planned([], [HERE] * 6 + [AWAY]).margin == 2


# -- families in virtual time


def world(seed, **changes):
    settings = {"step": HOUR, "fragments_a_step": 60, "blocks": 20, "local_blocks": 5}
    return Churn(seed, **{**settings, **changes})


def test_ninety_days_of_churn_lose_nothing_and_cost_little():
    """Mean uptime two days, mean downtime twelve hours, a silent final departure a week.

    Of 40 seeds, 38 keep k fragments of everything (four departures within three days are beyond any
    rule that cannot tell them from an outage); these are the first ones.
    """
    moved = least = 0
    for seed in SEEDS:
        life = world(seed)
        life.run(90 * DAY, blocks_a_day=1 / 3)
        assert life.fewest >= K, f"seed {seed}: a block had {life.fewest} fragments"
        assert life.readable / life.looks > 0.85
        moved, least = moved + life.moved, least + life.least
    assert moved <= 1.3 * least, f"{moved} fragments moved where {least} were the least"


SEEDS = (0, 1, 2, 3)


@given(st.integers(0, 10_000))
def test_when_the_world_calms_down_everything_is_stored_and_no_work_is_left(seed):
    life = world(seed, departures=20 * DAY, blocks=6)
    life.run(10 * DAY)
    if life.fewest < K:
        return  # beyond repair: four suppliers departed at once
    life.uptime = life.downtime = 0
    for node in life.nodes:  # from here on those who are there stay
        node.up = node.up or not node.departed
        node.turns_at = float("inf")
    life.next_departure = None
    for _ in range(400):
        life.now += life.step
        life.observe()
        if not life.work() and not any(node.departed for node in life.family):
            break
    assert all(len(life.stored(block)) == N for block in life.blocks)
    assert not life.work()


def test_flapping_rebuilds_nothing_and_fires_nobody():
    """Each supplier away 5 s of every 20 s, for ten minutes, watched every second."""
    life = world(1, step=1.0, departures=0, blocks=10)
    for second in range(600):
        life.now = float(second)
        for number, node in enumerate(life.nodes):
            up = (second + 3 * number) % 20 >= 5
            if up != node.up:
                node.up, node.away_since = up, life.now
        assert not life.work()
    assert life.moved == life.replaced == 0


# -- small circles of home computers


@pytest.mark.parametrize(("k", "n"), SMALL)
def test_a_small_circle_loses_nothing_however_rarely_its_computers_are_on(k, n):
    for uptime in UPTIMES:
        life = Evening(1, k, n, uptime, days=20, disk=4 * DAY, step=1200.0).run()
        assert life.died and not life.lost
        thin = [b for i, b in enumerate(life.blocks) if i not in life.evicted]
        assert all(b.published is None or b.spare is None for b in thin)


def test_two_friends_at_half_the_day_publish_whenever_one_of_them_is_on():
    now = Evening(1, 1, 2, 0.5, days=30).run()
    before = Evening(1, 1, 2, 0.5, days=30, before=True).run()
    assert before.share_in_time() < 0.4 and now.share_in_time() > 0.6
    assert now.hours_until_spare() <= before.hours_until_spare()
    for block in now.judged():
        on = any(now.there(block.at + minutes * 60) for minutes in range(5))
        assert on == (block.published is not None and block.published - block.at <= 6 * 60)
