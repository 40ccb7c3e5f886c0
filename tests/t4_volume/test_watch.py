"""Who is online, suspect or absent: pings with hysteresis, kept across mounts."""

from bitdustfs.blocks.circle import Circle
from bitdustfs.rebuild.reputation import Reputation
from bitdustfs.rebuild.watch import Watch


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
