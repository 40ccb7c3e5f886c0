"""Who is there: pings, states with hysteresis, and a history that outlives the mount.

    online    answered lately
    suspect   missed a few pings
    absent    away longer than the policy's patience, as this machine saw it: to be replaced
    gone      it said that it leaves, or was caught lying: to be replaced at once

A round in which fewer than half answer says something of this machine's own network, not of the
suppliers: it is not counted. What is *shown* of a supplier, and how many are said to be there, is
another matter: that is what was seen last (blocks/health.py). So one that counts as online, and
did not answer the last time, is shown as silent.

Time away counts from the first ping that failed, across mounts. Within a mount it is measured by
CLOCK_MONOTONIC: nobody sets that clock, and it stands still while this machine sleeps and could see
nobody, where CLOCK_BOOTTIME would count a weekend's sleep as a supplier's absence. Between mounts
only the wall clock can tell. No step counts for much, and none backwards (core/patience.py).

Who is gone, and what is remembered of everybody, is in reputation.py.
"""

import logging
import math
import time
from collections.abc import Callable, Collection

import msgspec
import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.core.patience import NO_TIME, step
from bitdustfs.core.records import Family, Member, leaving_records
from bitdustfs.core.warrants import stand_ins
from bitdustfs.errors import Malformed, PeerError
from bitdustfs.net.ask import ask_all
from bitdustfs.net.wire import KinIs
from bitdustfs.rebuild.reputation import RELEASED, History, Reputation

log = logging.getLogger(__name__)

PING_EVERY = 10.0
PING_DEADLINE = 5.0
#: seconds between two looks while too few answer to read: who is back is to be found soon, by all
#: whose reads fail at once meanwhile
TOO_FEW_EVERY = 2.0
STAND_INS_SOON = 1.0  #: seconds that reserves have to say so where members are enough to read
GLANCE_DEADLINE = 2.0  #: seconds that a glance takes at most
GLANCE_FRESH = 1.0  #: seconds that an answer is fresh enough for one
GLANCE_AGAIN = 15.0  #: seconds until one who did not answer is waited for again
SUSPECT_AFTER = 2  #: missed pings in a row that make a supplier suspect
#: seconds between two writings of the histories to this disk; the pause doubles while all answer
SAVE_EVERY, SAVE_QUIET = 60.0, 1800.0


class Watch:
    """The states of a family's suppliers, by what is held of them and by who answers."""

    def __init__(
        self,
        circle: Circle,
        reputation: Reputation,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._circle, self._wall, self._clock = circle, wall, clock
        self.reputation = reputation
        self._kin: dict[bytes, KinIs] = {}  # what each said of itself when it last answered
        self._looked_at: float | None = None  # by the clock; None before the first look
        self._save_at, self._save_pause = clock(), SAVE_EVERY
        self._missed_then = False  # whether somebody was missed when they were written last
        self.looked = trio.Event()  #: set once everybody was asked
        self._proven: dict[bytes, int] = {}  # stand-in -> position that its warrant is for

    @property
    def patience(self) -> float:
        """Seconds, from the family's policy."""
        return self._circle.family.policy.patience

    def told(self, node: bytes) -> KinIs | None:
        """What a node said of itself when it last answered, None when it does not."""
        return self._kin.get(node)

    def history(self, node: bytes) -> History:
        """What is remembered of a node."""
        return self.reputation.history(node)

    def state(self, node: bytes) -> str:
        """online, suspect, absent or gone."""
        seen = self.history(node)
        if seen.gone:
            return "gone"
        if seen.missed < SUSPECT_AFTER:
            return "online"
        return "absent" if self.away(node) > self.patience else "suspect"

    def shown(self, node: bytes) -> str:
        """The same for people: silent, where it counts as online and did not answer last."""
        state = self.state(node)
        return "silent" if state == "online" and not self._circle.health(node).there else state

    def away(self, node: bytes) -> float:
        """Seconds since the first of the pings that it missed in a row, by the last look."""
        seen = self.history(node)
        return max(seen.away, NO_TIME) if seen.missed else 0.0

    def lasting(self, node: bytes) -> float:
        """The same, once it missed enough of them to be suspect; else 0."""
        return self.away(node) if self.history(node).missed >= SUSPECT_AFTER else 0.0

    def missing(self, node: bytes) -> float:
        """As `lasting`; of one that did not answer last, and is not blamed for it, next to 0."""
        return self.lasting(node) or (0.0 if self._circle.health(node).there else NO_TIME)

    def uptime(self, node: bytes) -> float:
        """Share of all its pings that it answered; 1 before the first."""
        seen = self.history(node)
        return seen.answered / seen.rounds if seen.rounds else 1.0

    def stays(self, node: bytes) -> bool:
        """Whether it answered when it was asked last, and did not say that it leaves."""
        told = self._kin.get(node)
        return told is not None and not told.leaving

    def forgive(self, node: bytes) -> None:
        """The owner forgives a supplier, with all that was counted against it."""
        self.reputation.forgive(node)
        self._circle.health(node).forgive()

    # -- asking

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.round()
            enough = self._circle.online() >= self._circle.family.group.k
            every = PING_EVERY if enough else TOO_FEW_EVERY
            await trio.sleep(min(every, max(0.5, self.patience / 5)))

    async def round(self) -> None:
        """One question to each member and each reserve: how do you stand?"""
        family, circle = self._circle.family, self._circle

        async def ping(member: Member) -> float:
            began = trio.current_time()
            self._kin[member.node] = await circle.session(member).kin()
            circle.health(member.node).answered()
            return trio.current_time() - began

        answers = await ask_all(family.everybody, ping, each=PING_DEADLINE)
        for member, error in answers.failed.items():
            self._kin.pop(member.node, None)
            circle.health(member.node).fault(error)
        self._hear(family)
        await self._prove_stand_ins(family)
        self.looked.set()
        before, self._looked_at = self._looked_at, self._clock()
        if 2 * len(answers.given) < len(family.everybody) and not circle.stand_ins:
            log.info("few suppliers answer: this machine's own network may be down")
            return
        for member in family.everybody:
            seen = self._after(self.history(member.node), answers.given.get(member), before)
            self.reputation.note(member.node, seen)
        await self._save()

    async def _save(self) -> None:
        """Writes the histories where it is time. How long somebody is away must not get lost."""
        missed = any(self.history(m.node).missed for m in self._circle.family.everybody)
        if missed or self._missed_then or self.reputation.urgent:
            self._save_at = min(self._save_at, self._clock() + SAVE_EVERY)
            self._save_pause = SAVE_EVERY
        if self.reputation.urgent or self._clock() >= self._save_at:
            self._save_at, self._missed_then = self._clock() + self._save_pause, missed
            self._save_pause = min(2 * self._save_pause, SAVE_QUIET)
            await trio.to_thread.run_sync(self.reputation.keep)

    async def glance(self, needed: float = math.inf) -> None:
        """Asks those of whom nothing was seen just now whether they are there.

        It is for what is shown: nobody's history changes by it. Returns once `needed` members are
        known to be there.
        """
        now, circle = trio.current_time(), self._circle

        def is_stale(member: Member) -> bool:
            health = circle.health(member.node)
            at = health.heard_at if health.there else health.missed_at
            return at is None or now - at > (GLANCE_FRESH if health.there else GLANCE_AGAIN)

        members = circle.family.members
        seen = {m for m in members if circle.health(m.node).there and not is_stale(m)}

        def enough(answered: Collection[Member]) -> bool:
            return len(seen.union(m for m in answered if m in members)) >= needed

        if enough(()):
            return
        stale = [member for member in circle.family.everybody if is_stale(member)]
        await ask_all(
            stale, lambda member: circle.session(member).ping(),
            deadline=GLANCE_DEADLINE, enough=enough, grace=0.0,
        )  # fmt: skip

    def _hear(self, family: Family) -> None:
        """What they said: who stands in for whom, and who leaves."""
        for member in family.bench:
            told = self._kin.get(member.node)
            if told is not None:
                self._circle.copies.heard(member.node, told.copies)
            if told is not None and told.standing is not None:
                self._circle.add_stand_in(told.standing, member.node)
        for member in family.members:
            told = self._kin.get(member.node)
            if told is None or not told.leaving:
                continue
            try:
                left = leaving_records.open_untrusted(told.leaving, member.node)
            except Malformed:
                continue
            if left.vault == family.vault and left.member == member.node:
                self.reputation.condemn(member.node, "leaves", lasting=False)

    async def _prove_stand_ins(self, family: Family) -> None:
        """Asks who says that it stands in for the evidence; once shown, it counts for this mount.

        (A change of the family ends warrants: those who stood in before it can show none any more.)
        """
        for member in family.bench:
            told = self._kin.get(member.node)
            if told is None or told.standing is None:
                continue
            if self._proven.get(member.node) == told.standing:
                continue
            with trio.move_on_after(PING_DEADLINE):
                try:
                    shown = await self._circle.session(member).warrants()
                except PeerError as error:
                    log.info("%s shows no warrant: %s", member.node.hex()[:12], error)
                    continue
                allowed = stand_ins(family, shown, self._wall()).get(told.standing, [])
                if member.node in allowed:
                    self._proven[member.node] = told.standing

    def stand_in(self, position: int) -> bytes | None:
        """The reserve that answers, stays, and has all it could get of a position, by a warrant it
        showed.
        """
        for node, proven in self._proven.items():
            told = self._kin.get(node)
            stands = told is not None and told.standing == position and told.complete
            stands = stands and self.stays(node) and not self.history(node).gone
            if proven == position and stands:
                return node
        return None

    def _after(self, seen: History, latency: float | None, before: float | None) -> History:
        """The history after a look. `before`: when the last one was; None: in another mount."""
        if latency is None:
            away = NO_TIME if not seen.missed else seen.away + self._passed(seen, before)
            return msgspec.structs.replace(
                seen, rounds=seen.rounds + 1, missed=seen.missed + 1, away=away,
                away_since=seen.away_since or self._wall(),
            )  # fmt: skip
        now = self._wall()
        smoothed = latency if not seen.latency else 0.8 * seen.latency + 0.2 * latency
        return msgspec.structs.replace(
            seen, rounds=seen.rounds + 1, answered=seen.answered + 1, missed=0, away_since=0.0,
            latency=smoothed, away=0.0, since=_since(seen, now),
            heard=now if now >= RELEASED else seen.heard,
        )  # fmt: skip

    def _passed(self, seen: History, before: float | None) -> float:
        """Seconds that count for somebody who was missed at the last look, too."""
        if before is not None and self._looked_at is not None:
            return step(self._looked_at - before, self.patience)
        return step(self._wall() - (seen.noted or seen.away_since), self.patience)


def _since(seen: History, now: float) -> float:
    """When somebody who answers now first did. What is written down stays, whatever clocks say.

    Nothing is written down by a clock that is wrong for sure.
    """
    if seen.dated:
        return seen.since
    return max(RELEASED, now - lived(seen)) if now >= RELEASED else 0.0


def lived(seen: History) -> float:
    """Seconds for which somebody was there at least, of whom nobody wrote down since when."""
    return seen.answered * PING_EVERY


async def find_stand_ins(circle: Circle, patient: bool = False) -> None:
    """Asks the reserves whom they stand in for, so that a vault can be read as soon as it is
    opened. Where members are enough for that, they are waited for long by the `patient` only.
    """
    few = patient or circle.online() < circle.family.group.k

    async def ask(member: Member) -> None:
        told = await circle.session(member).kin()
        circle.copies.heard(member.node, told.copies)
        if told.standing is not None:
            circle.add_stand_in(told.standing, member.node)

    deadline = PING_DEADLINE if few else STAND_INS_SOON
    answers = await ask_all(circle.family.bench, ask, deadline=deadline)
    for member, error in answers.failed.items():
        circle.health(member.node).fault(error)
