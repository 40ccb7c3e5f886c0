"""The chance of a loss of an open vault: what it is reckoned from, by whom, and what is kept."""

import sys

import msgspec
import pytest
import trio
import trio.testing

from bitdustfs.cli.cmd_codes import unseen
from bitdustfs.core.codec import encode
from bitdustfs.core.spread import joined
from bitdustfs.mount import foresight
from bitdustfs.mount.foresight import Foresight, foreseen
from bitdustfs.mount.measured import HOUSE, MOUNTED_MIN, _networks, age_of, has_left, measure
from bitdustfs.mount.reckoner import AT_NIGHT, reckoned_apart
from bitdustfs.mount.risk_words import one_in, remedy_words, sentence, trend_words
from bitdustfs.rebuild import odds
from bitdustfs.rebuild.lifetimes import YEAR
from bitdustfs.rebuild.odds import LEAST, LEAST_ASSUMED, Odds, Remedy, advise
from bitdustfs.rebuild.reputation import History

NOW = 1_800_000_000.0
DAY, PATIENCE = 86400.0, 72 * 3600.0


async def nobody(done, total):
    """Nobody watches."""


def seen_for(days, **changed):
    """A supplier that was seen for so long, and answered always."""
    usual = {"rounds": 1000, "answered": 1000, "since": NOW - days * DAY, "heard": NOW}
    return History(**{**usual, **changed})


async def test_what_was_seen_of_suppliers_is_what_is_asked(net, tmp_path):
    async with net.mount(tmp_path, make_root=True) as vault:
        nodes = [member.node for member in vault.known.family.members]
        for position, node in enumerate(nodes):
            vault.watch.reputation.note(node, seen_for(60 * position))
        vault.watch.reputation.note(nodes[2], seen_for(50, missed=9, away=30 * 3600.0))
        vault.watch.reputation.note(nodes[3], seen_for(50, missed=9, away=60.0))
        vault.watch.reputation.note(nodes[4], seen_for(50, gone="failed 5 of 9 audits", audits=9))
        vault.watch.reputation.note(b"f" * 32, seen_for(10, missed=9, away=30 * 3600.0))
        measured = measure(vault, NOW)
        asked = measured.question
        assert (asked.k, len(asked.suppliers), asked.patience) == (4, 7, PATIENCE)
        assert measured.positions == tuple(range(7))
        assert asked.suppliers[6].age == pytest.approx(360 * DAY / YEAR)
        assert asked.suppliers[6].uptime > 0.9 and asked.suppliers[6].network == ""
        away = [p for p, seen in enumerate(asked.suppliers) if seen.away is not None]
        assert away == [2, 4] and asked.suppliers[2].away == 30 * 3600.0
        # who was replaced while it was away has left, whoever is still waited for has not
        assert sorted(left for _, left in asked.lives) == [False] * 6 + [True] * 2


async def test_in_the_first_weeks_no_great_safety_is_claimed(net, tmp_path):
    async with net.mount(tmp_path, make_root=True) as vault:
        for days, least in ((20, LEAST_ASSUMED), (40, LEAST)):
            for member in vault.known.family.members:
                vault.watch.reputation.note(member.node, seen_for(days))
            assert measure(vault, NOW).question.least == least


def test_who_left_and_how_long_it_lived():
    assert age_of(seen_for(365.25)) == pytest.approx(1.0)
    assert age_of(History(since=NOW, heard=NOW - DAY)) == 0.0  # a clock that was set
    quarter = {"missed": 5, "away": PATIENCE / 3}
    assert not has_left(seen_for(9, **quarter), True, PATIENCE)
    assert has_left(seen_for(9, **quarter), False, PATIENCE)
    assert has_left(seen_for(9, missed=5, away=PATIENCE + 1), True, PATIENCE)
    assert not has_left(seen_for(9), False, PATIENCE)  # replaced while it answered
    assert has_left(seen_for(9, gone="leaves"), True, PATIENCE)


async def test_who_shares_any_network_falls_together_and_a_home_is_one(net, tmp_path):
    """Names, and what is behind a relay, say nothing of the place."""
    async with net.mount(tmp_path, make_root=True) as vault:
        family = vault.known.family
        relay = f"relay:{'0' * 64}@8.8.8.9:4000"
        addresses = [
            ("8.8.8.1:4000", "9.9.9.9:4000"), ("192.168.1.2:4000",), ("1.1.1.1:4000", "8.8.8.7:1"),
            ("192.168.1.3:4000", "7.7.7.7:4000"), (relay,), ("5.5.5.5:4000", "192.168.1.2:4000"),
            ("7.7.7.1:4000",),
        ]  # fmt: skip
        members = tuple(
            msgspec.structs.replace(m, addresses=at)
            for m, at in zip(family.members, addresses, strict=True)
        )
        group = msgspec.structs.replace(family.group, members=members)
        vault.circle.move(msgspec.structs.replace(family, groups=(group,)))
        said = [sorted(_networks(vault.circle, member)) for member in members]
        assert said == [
            ["8.8.8.0/24", "9.9.9.0/24"], [HOUSE], ["1.1.1.0/24", "8.8.8.0/24"],
            ["7.7.7.0/24", HOUSE], [], ["5.5.5.0/24"], ["7.7.7.0/24"],
        ]  # fmt: skip
        first, home, same, other, hidden, apart, beside = joined(said)
        assert first == same and home == other == beside and hidden == ""
        assert len({first, home, apart}) == 3


async def test_histories_that_nobody_dated_count_by_their_answers(net, tmp_path):
    """Of those who left long ago as well: else only who survived would be seen."""
    async with net.mount(tmp_path, make_root=True) as vault:
        left = History(rounds=900, answered=800, missed=9, away=30 * 3600.0)
        vault.watch.reputation.note(b"f" * 32, left)
        vault.watch.reputation.note(b"g" * 32, History(rounds=9))
        lives = measure(vault, NOW).question.lives
        assert (pytest.approx(8000 / YEAR), True) in lives
        assert sum(gone for _, gone in lives) == 1


async def test_how_often_it_is_mounted_is_seen_by_who_is_there_longest(net, tmp_path):
    async with net.mount(tmp_path, make_root=True) as vault:
        nodes = [member.node for member in vault.known.family.members]
        for node in nodes:
            vault.watch.reputation.note(node, History(rounds=5))
        assert measure(vault, NOW).question.mounted == MOUNTED_MIN  # nobody ever answered
        vault.watch.reputation.note(nodes[1], seen_for(10, rounds=10 * 8640 // 4))
        vault.watch.reputation.note(nodes[2], seen_for(0.1, rounds=864))  # hired today
        assert measure(vault, NOW).question.mounted == pytest.approx(0.25)


async def test_a_watch_notes_since_when_and_until_when_somebody_answered(net, tmp_path):
    async with net.mount(tmp_path, make_root=True) as vault:
        await vault.watch.looked.wait()
        seen = vault.watch.history(net.suppliers[0].node)
        assert 0 < seen.since <= seen.heard
        net.suppliers[0].break_()
        await vault.watch.round()
        after = vault.watch.history(net.suppliers[0].node)
        assert (after.since, after.heard) == (seen.since, seen.heard)


async def test_a_process_reckons_the_same_as_it_would_here_and_it_is_kept(
    net, tmp_path, monkeypatch
):
    """One that is asked gives the loop back meanwhile: it is another process."""
    async with net.mount(tmp_path, make_root=True) as vault:
        await vault.watch.looked.wait()
        assert foreseen(vault.state) is None
        question = msgspec.structs.replace(
            measure(vault, NOW).question, k=1, suppliers=(odds.SupplierSeen(),), lives=(),
            patience=DAY, reserves=1,
        )  # fmt: skip
        steps = []

        async def step(done, total):
            steps.append((done, total))

        assert await reckoned_apart(question, 0, step) == advise(question)
        assert steps == [(0, 2), (1, 2)]

        answers = []

        async def answer(question, niceness, on_step):
            answers.append(Odds(chance=0.25 / (1 + len(answers)), low=0.01, high=0.5, weakest=1))
            return answers[-1]

        monkeypatch.setattr(foresight, "reckoned_apart", answer)
        at = [NOW]
        foreseer = Foresight(vault, lambda: at[0])
        first = await foreseer.reckon(AT_NIGHT, nobody)
        assert foreseen(vault.state) == first.risk and first.risk.month_ago is None
        assert first.risk.weakest == 1 and first.risk.assumed
        key = vault.known.family.members[1].node.hex()[:16]
        assert first.risk.weak.startswith(f"supplier {key} at position 1 is the weakest")
        at[0] += 31 * DAY
        second = await foreseer.reckon(AT_NIGHT, nobody)
        assert second.risk.month_ago == 0.25 and [n.chance for n in second.nights] == [0.25, 0.125]
        at[0] += DAY / 4
        third = await foreseer.reckon(AT_NIGHT, nobody)
        assert len(third.nights) == 2  # of one night the last


async def test_it_is_reckoned_each_night_and_soon_after_somebody_left(net, tmp_path, monkeypatch):
    async with net.mount(tmp_path, make_root=True) as vault:
        at, asked = [NOW], []

        async def answer(question, niceness, on_step):
            asked.append(at[0])
            return Odds(chance=0.1, low=0.01, high=0.5)

        monkeypatch.setattr(foresight, "reckoned_apart", answer)
        foreseer = Foresight(vault, lambda: at[0])

        async def is_due():
            due = foreseer._is_due()
            if due:
                await foreseer.reckon(AT_NIGHT, nobody)
            return due

        assert await is_due() and not await is_due()
        at[0] += foresight.NIGHT
        assert await is_due()
        at[0] += foresight.CHANGED
        assert not await is_due()
        vault.watch.reputation.condemn(net.suppliers[3].node, "leaves")
        assert await is_due() and not await is_due()
        at[0] -= 400 * DAY  # the clock was set: a time to come is not waited for
        assert await is_due()


async def test_what_failed_is_tried_again_in_the_next_night(net, tmp_path, monkeypatch):
    async with net.mount(tmp_path, make_root=True) as vault:
        asked = []

        async def fails(question, niceness, on_step):
            asked.append(at[0])
            raise foresight.Unavailable("this machine has too much to do")

        at = [NOW]
        monkeypatch.setattr(foresight, "reckoned_apart", fails)
        monkeypatch.setattr(foresight, "FIRST", 0.0)
        foreseer = Foresight(vault, lambda: at[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(foreseer.run)
            await trio.testing.wait_all_tasks_blocked()
            assert asked == [NOW] and not foreseer._is_due()
            at[0] += foresight.NIGHT
            assert foreseer._is_due()
            nursery.cancel_scope.cancel()


#: what is reckoned soon
SHORT = odds.OddsQuestion(
    k=1, patience=PATIENCE, margin=1, fill=1.0, suppliers=(odds.SupplierSeen(),)
)


async def test_a_process_that_fails_is_said(net, monkeypatch):
    monkeypatch.setattr(odds, "__name__", "bitdustfs.no_such_module")
    with pytest.raises(foresight.Unavailable, match="no_such_module"):
        await reckoned_apart(SHORT, 0, nobody)


async def test_a_machine_that_starts_no_process_says_so(net, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(foresight.Unavailable, match="no process can be started"):
        await reckoned_apart(SHORT, 0, nobody)


async def test_what_another_version_kept_fails_no_command(net, tmp_path):
    async with net.mount(tmp_path, make_root=True) as vault:
        for raw in (
            b"", encode((1.0, b"{}", (), (), 1.0, 1, ())), encode((1.0, b"{}", 7)), b"\xc1" * 9
        ):  # fmt: skip
            vault.state.set_value(foresight.NAME, raw)
            assert foreseen(vault.state) is None
            assert Foresight(vault)._is_due()


def test_of_suppliers_that_nobody_has_seen_no_great_safety_is_claimed():
    assert unseen(4, 7, 1 << 30, 0).least == LEAST_ASSUMED


# -- words


@pytest.mark.parametrize(
    ("chance", "said"),
    [
        (1 / 40_321, "1 in 40,000"), (1 / 7.2, "1 in 7"), (5.04e-7, "1 in 2 million"),
        (1 / 1260, "1 in 1,000"), (1 / 45, "1 in 45"), (0.5, "50 %"), (1.0, "100 %"),
        (1 / 999_999.6, "1 in 1 million"),
        (LEAST, "1 in 100 million or less"), (LEAST_ASSUMED, "1 in 10,000 or less"),
    ],
)  # fmt: skip
def test_chances_in_words(chance, said):
    assert one_in(chance) == said


def test_the_sentence_says_what_it_rests_on():
    made = Odds(chance=1 / 40_000, low=1 / 200_000, high=1 / 9_000)
    assert sentence(made, 400) == (
        "chance that anything is lost within a year: 1 in 40,000 (between 1 in 9,000 and 1 in "
        "200,000)"
    )
    assert sentence(made, 5).endswith(
        "mostly assumed as yet: its suppliers have been seen for 5 days only"
    )
    assert "between" not in sentence(Odds(chance=LEAST, low=LEAST, high=LEAST), 400)


@pytest.mark.parametrize("what", ["replace", "reserve", "patience", "supplier"])
def test_each_remedy_says_how_it_is_done(what):
    said = remedy_words(Remedy(what=what, chance=1 / 2_000_000, to=DAY), 4, 7, 3)
    assert "1 in 2 million" in said
    assert {"replace": "replace 3", "patience": "patience=24h", "supplier": "4/8"}.get(
        what, "a reserve for each"
    ) in said


def test_a_trend_is_told_where_there_is_one():
    assert trend_words(0.1, None) == trend_words(0.1, 0.15) == ""
    assert trend_words(0.1, 0.01) == "a month ago it was 1 in 100"
