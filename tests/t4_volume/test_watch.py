"""Who is online, suspect or absent: pings with hysteresis, kept across mounts."""

import trio

from bitdustfs.blocks import health as seeing
from bitdustfs.blocks.circle import Circle
from bitdustfs.core.codec import encode
from bitdustfs.rebuild import watch as watching
from bitdustfs.rebuild.reputation import RELEASED, History, Reputation
from bitdustfs.rebuild.watch import Watch

DAY = 86400.0


class Kept:
    """Two clocks, and the place where a watch keeps its history. `set_by`: of the wall clock."""

    def __init__(self, net):
        self.now, self.set_by, self.raw = 1_700_000_000.0, 0.0, None
        self.circle = Circle(net.family, lambda member: net.sessions()[member.node])

    def watch(self):
        def save(raw):
            self.raw = raw

        def wall():
            return self.now + self.set_by

        return Watch(
            self.circle, Reputation(lambda: self.raw, save, wall), wall, clock=lambda: self.now
        )


async def rounds(kept, watch, count, seconds):
    for _ in range(count):
        kept.now += seconds
        await watch.round()


async def test_a_supplier_is_suspect_then_absent_past_patience_across_mounts(net):
    kept = Kept(net)
    watch, victim = kept.watch(), net.suppliers[2]
    await rounds(kept, watch, 3, 10)
    assert {watch.state(s.node) for s in net.suppliers} == {"online"}
    victim.break_()
    await rounds(kept, watch, 1, 10)
    assert watch.state(victim.node) == "online"
    await rounds(kept, watch, 1, 10)
    assert watch.state(victim.node) == "suspect"
    await rounds(kept, watch, 36, 3600)
    again = kept.watch()  # another mount, a day later
    await rounds(kept, again, 40, 3600)
    assert again.state(victim.node) == "absent"
    victim.heal()
    await rounds(kept, again, 1, 10)
    assert again.state(victim.node) == "online"
    assert 0 < again.history(victim.node).answered < again.history(victim.node).rounds


async def test_what_audits_found_is_remembered_across_mounts(net):
    kept = Kept(net)
    watch, node = kept.watch(), net.suppliers[0].node
    for passed in (True, False, True):
        watch.reputation.audited(node, passed)
    await rounds(kept, watch, 1, 100)
    seen = kept.watch().history(node)
    assert (seen.audits, seen.audits_failed, seen.answered) == (3, 1, 1)


async def test_flapping_is_not_absence(net):
    kept = Kept(net)
    watch = kept.watch()
    for turn in range(300):  # each supplier is away 5 s of every 20 s
        for number, supplier in enumerate(net.suppliers):
            supplier.heal()
            if (turn + number) % 4 == 0:
                supplier.break_()
        await rounds(kept, watch, 1, 5)
        assert not {watch.state(s.node) for s in net.suppliers} & {"absent", "gone"}
    assert {watch.state(s.node) for s in net.suppliers} == {"online"}


async def test_when_nobody_answers_it_is_our_own_network(net):
    kept = Kept(net)
    watch = kept.watch()
    await rounds(kept, watch, 2, 10)
    for supplier in net.suppliers[:4]:
        supplier.break_()
    await rounds(kept, watch, 100, 3600)
    assert watch.state(net.suppliers[0].node) == "online"


async def test_a_clock_that_is_set_while_mounted_fires_nobody(net):
    kept = Kept(net)
    watch, victim = kept.watch(), net.suppliers[2]
    await rounds(kept, watch, 2, 10)
    victim.break_()
    for days in (5, -30, 400, 0):
        kept.set_by += days * DAY
        await rounds(kept, watch, 2, 10)
        assert watch.state(victim.node) == "suspect"
        assert watch.away(victim.node) < 100
    await rounds(kept, watch, 73, 3600)  # only time makes it absent
    assert watch.state(victim.node) == "absent"


async def test_a_clock_that_is_set_between_two_mounts_fires_nobody(net):
    kept = Kept(net)
    net.suppliers[2].break_()
    for days in (0, 300, -600, 300):
        kept.set_by += days * DAY
        watch = kept.watch()
        await rounds(kept, watch, 8, 10)
        assert watch.state(net.suppliers[2].node) == "suspect"
        assert watch.away(net.suppliers[2].node) < 2 * watch.patience / 5 + 400


async def test_a_supplier_that_is_away_in_every_mount_is_absent_in_the_end(net):
    kept, looks = Kept(net), 0
    net.suppliers[2].break_()
    while True:  # an owner that mounts for half an hour a day
        watch = kept.watch()
        await rounds(kept, watch, 30, 60)
        looks += 1
        if watch.state(net.suppliers[2].node) == "absent":
            break
        assert looks < 10
        kept.now += DAY
    assert looks > 3


async def test_a_history_from_before_is_read_and_counts_as_one_step(net):
    kept = Kept(net)
    watch, victim = kept.watch(), net.suppliers[2]
    kept.raw = encode(((victim.node, (9, 1, 8, kept.now - 100 * DAY, 0.1, "", 4, 1)),))
    watch = kept.watch()
    victim.break_()
    await rounds(kept, watch, 2, 10)
    assert watch.state(victim.node) == "suspect"
    assert watch.history(victim.node).audits == 4


async def test_a_machine_that_slept_finds_nobody_absent(net):
    kept = Kept(net)
    watch = kept.watch()
    net.suppliers[2].break_()
    await rounds(kept, watch, 2, 10)
    await rounds(kept, watch, 1, 30 * DAY)
    assert watch.state(net.suppliers[2].node) == "suspect"


async def test_a_ping_that_is_not_answered_in_time_says_that_nobody_is_there(net, monkeypatch):
    monkeypatch.setattr(watching, "PING_DEADLINE", 0.5)
    kept = Kept(net)
    watch, victim = kept.watch(), net.suppliers[2]
    await rounds(kept, watch, 1, 10)
    health = kept.circle.health(victim.node)
    victim.hang_()
    await rounds(kept, watch, 3, 10)
    assert not health.reachable and not health.usable and kept.circle.online() == 6
    victim.heal()
    await rounds(kept, watch, 1, 10)
    assert health.reachable and health.usable and watch.state(victim.node) == "online"


async def test_a_supplier_that_merely_pings_well_is_not_asked_first_again(net):
    kept = Kept(net)
    watch, victim = kept.watch(), net.suppliers[2]
    kept.circle.health(victim.node).slow()
    await rounds(kept, watch, 1, 10)
    assert not kept.circle.health(victim.node).usable


async def test_nobody_is_blamed_for_this_machines_own_outage_and_all_are_shown_silent(net):
    kept = Kept(net)
    watch = kept.watch()
    await rounds(kept, watch, 1, 10)
    for supplier in net.suppliers:
        supplier.break_()
    await rounds(kept, watch, 7, 10)
    assert {watch.state(s.node) for s in net.suppliers} == {"online"}
    assert {watch.shown(s.node) for s in net.suppliers} == {"silent"}
    assert kept.circle.online() == 0 and all(watch.missing(s.node) for s in net.suppliers)
    for supplier in net.suppliers[:3]:  # still fewer than half: also then it shows
        supplier.heal()
    await rounds(kept, watch, 1, 10)
    assert [watch.shown(s.node) for s in net.suppliers] == 3 * ["online"] + 4 * ["silent"]
    assert not any(watch.history(s.node).missed for s in net.suppliers)


async def test_a_glance_finds_who_went_just_now_and_changes_no_history(net, monkeypatch):
    for module, name, seconds in (
        (watching, "GLANCE_FRESH", -1.0), (watching, "GLANCE_DEADLINE", 0.3),
        (seeing, "SILENCE", 0.2),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, seconds)
    kept = Kept(net)
    watch = kept.watch()
    await rounds(kept, watch, 1, 10)
    net.suppliers[2].hang_()
    history = watch.history(net.suppliers[2].node)
    with trio.fail_after(5):  # a supplier that hangs holds others for ten seconds
        await watch.glance()
    assert watch.shown(net.suppliers[2].node) == "silent" and kept.circle.online() == 6
    assert watch.history(net.suppliers[2].node) == history
    health = kept.circle.health(net.suppliers[2].node)
    assert health.silence() >= watching.GLANCE_DEADLINE


async def test_who_was_never_heard_is_not_said_to_be_there(net):
    kept = Kept(net)
    assert kept.circle.online() == 0
    net.suppliers[0].break_()
    await kept.watch().round()
    assert kept.circle.online() == 6


async def test_histories_are_written_less_and_less_often_while_all_answer(net):
    kept = Kept(net)
    watch, written = kept.watch(), []

    async def look(seconds):
        for _ in range(seconds // 10):
            before, kept.raw = kept.raw, None
            await rounds(kept, watch, 1, 10)
            written.append(kept.raw is not None)
            kept.raw = kept.raw or before

    await look(3600)
    assert 4 <= sum(written) <= 7  # the pause doubles
    assert sum(written[-180:]) <= 1  # one in half an hour
    del written[:]
    net.suppliers[2].break_()
    await look(600)
    assert sum(written) >= 9  # how long it is away must outlive this machine's end
    assert written.index(True) <= 6
    net.suppliers[2].heal()
    del written[:]
    await look(60)
    assert any(written)  # that it is back, too


async def test_one_answer_under_a_wrong_clock_makes_nobody_old(net):
    kept = Kept(net)
    kept.now, node = RELEASED + 100 * DAY, net.suppliers[0].node
    watch = kept.watch()
    kept.set_by = -kept.now  # the machine woke up without a clock: 1970
    await rounds(kept, watch, 1, 10)
    assert (watch.history(node).since, watch.history(node).heard) == (0.0, 0.0)
    kept.set_by = 0.0
    await rounds(kept, watch, 1, 10)
    since = watch.history(node).since
    assert since == kept.now - watching.PING_EVERY  # it answered once before
    for wrong in (-kept.now, -50 * DAY):
        kept.set_by = wrong
        await rounds(kept, watch, 1, 10)
        assert watch.history(node).since == since


async def test_who_was_made_old_by_a_wrong_clock_is_dated_anew(net):
    kept = Kept(net)
    kept.now, node = RELEASED + 100 * DAY, net.suppliers[0].node
    watch = kept.watch()
    watch.reputation.note(node, History(rounds=9, answered=9, since=77.0, heard=88.0))
    await rounds(kept, watch, 1, 10)
    assert watch.history(node).since == kept.now - 9 * watching.PING_EVERY
