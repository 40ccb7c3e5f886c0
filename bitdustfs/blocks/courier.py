"""Brings closed blocks to their suppliers, in the background, until every position is served.

    cut n fragments -> sign the header, synced before the first put
    -> put to all owed positions at once -> record each who acknowledged
    -> where too few did, put what is absent to reserves, for now

The retry policy: a supplier that fails leaves its position owed, and the block is tried again in
the next round. A round begins by pinging those that were away, and leaves out those that still are:
for them nothing is read or computed. Where enough others are there, it does not wait for these
answers: whoever is back gets what it lacks in the round after them. Rounds follow each other at
once while something was placed; else after a pause that doubles from RETRY_FIRST to RETRY_MAX (to
RETRY_HURRY while somebody waits); `kick` ends a pause. Nothing is redone because somebody flaps:
only owed positions are put.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import trio

from bitdustfs.blocks import laggards
from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.cutter import Cutter
from bitdustfs.blocks.deferral import Deferral
from bitdustfs.blocks.delivery import Delivery, Placement, Putter
from bitdustfs.blocks.headway import Headway
from bitdustfs.blocks.laggards import Laggards, Sending, SendOne
from bitdustfs.blocks.ledger import Ledger
from bitdustfs.blocks.loans import Loans
from bitdustfs.blocks.pen import Pen
from bitdustfs.blocks.reserves import Reserves
from bitdustfs.blocks.space import Space
from bitdustfs.blocks.throttle import Throttle
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import CLOSED
from bitdustfs.core.fragment import Fragment
from bitdustfs.core.placement import acknowledgements_wanted
from bitdustfs.core.records import BlockHeader, Member
from bitdustfs.errors import BitdustError, LocalError, Unavailable
from bitdustfs.net.ask import ask_all
from bitdustfs.net.supplier import Supplier

log = logging.getLogger(__name__)

IN_FLIGHT = 2  #: blocks encoded and sent at once: bounds memory (about 28 MiB a block at 4/7)
RETRY_FIRST, RETRY_MAX = 0.5, 15.0  #: seconds until owed positions are tried again
RETRY_HURRY = 3.0  #: the same, at most, while somebody waits
WAIT_DEADLINE = 600.0  #: seconds that one attempt to publish waits while nothing moves
TRY_DEADLINE = 600.0  #: seconds for one try of all that is owed
STILL = 5.0  #: seconds after which those that are slow are not waited for there, if nothing moves
STILL_LOOK = 1.0  #: seconds between looks whether anything does
FENCED_EVERY = 5.0  #: seconds between looks whether a claim is in the way
PROBE_DEADLINE = 3.0  #: seconds that who was away has to answer when a round begins


def _nothing() -> None:
    """Nobody is to be told."""


class Courier:
    """Delivers the blocks of one vault.

    `heed_fence` is asked when a supplier refuses the claim; `is_fenced`: whether some of them serve
    only after this machine claimed again, for which a root must not be waited for.
    """

    def __init__(
        self,
        pen: Pen,
        circle: Circle,
        table: BlockTable,
        cutter: Cutter,
        ledger: Ledger,
        deferral: Deferral,
        reserves: Reserves,
        loans: Loans,
        space: Space,
        throttle: Throttle,
        heed_fence: Callable[[], Awaitable[None]],
        is_fenced: Callable[[], bool],
    ) -> None:
        self._pen, self._circle = pen, circle
        self._table, self._cutter, self._ledger, self._deferral = table, cutter, ledger, deferral
        self._reserves, self._loans = reserves, loans
        self._throttle, self._is_fenced = throttle, is_fenced
        self._busy: set[bytes] = set()
        self._puts = Laggards(self.kick, self._failed_late)
        self.headway = Headway()
        self._putter = Putter(pen, circle, table, ledger, space, heed_fence, self.headway)
        self._absent: set[bytes] = set()  # suppliers that do not answer in this round
        self._look = trio.Event()  # set where those are to be pinged beside the rounds
        self._trying = 0  # callers of try_all
        self._wake, self._kicked = trio.Event(), False
        self._failure: BitdustError | None = None  # of this machine's disk
        self._crowded: set[bytes] = set()  # blocks that too many suppliers had no room for
        self.rounds = 0

    def kick(self) -> None:
        """Somebody waits, a block was closed, or a supplier came back: try now what is owed."""
        self._wake.set()
        self._kicked = True

    @property
    def crowded(self) -> bool:
        """Whether some block waits because suppliers have no room for it."""
        self._crowded = {block for block in self._crowded if self._ledger.is_waiting(block)}
        return bool(self._crowded)

    def is_busy(self, block: bytes) -> bool:
        """Whether the block's local file is being read here just now."""
        return block in self._busy

    # -- waiting for it

    async def wait_acknowledged(self, with_newcomers: bool = False) -> None:
        """Returns when every block closed before has the acknowledgements that a root needs.

        The caller is about to name them in a root. Some may have no more than the least, after the
        ledger's wait: from then on they count as named.

        Raises Unavailable when suppliers take nothing for too long or have no room, Superseded
        when the pen is lost, LocalError when a block cannot be read.
        """
        wanted, enough = self._ledger.waiting(with_newcomers), list[bytes]()
        tried = self.rounds + 2  # the round under way may have passed a block already
        self._failure = None  # of an attempt before this one: the disk may work again
        self.kick()  # once: after that, failures are retried in their own time
        moved = self.headway.total()
        with trio.move_on_after(WAIT_DEADLINE) as scope:
            while True:
                if moved != (moved := self.headway.total()):  # hours, on a slow line
                    scope.deadline = trio.current_time() + WAIT_DEADLINE
                while wanted and not self._ledger.is_waiting(wanted[-1], with_newcomers):
                    enough.append(wanted.pop())
                if not wanted:
                    await self._ledger.let_go(enough)
                    return
                self._pen.require()
                if self._failure is not None:
                    raise self._failure
                if self.rounds >= tried and self.crowded:
                    raise Unavailable(
                        "the suppliers have no room for what is new; it stays on this machine. "
                        "Delete something: its space is given back, and what is new goes there"
                    )
                if self._is_fenced():
                    raise Unavailable(
                        "another machine's claim that came to nothing keeps suppliers from this "
                        "one, which claims the vault again"
                    )
                wait = min(self._ledger.wait_for(wanted[-1], with_newcomers), FENCED_EVERY)
                with trio.move_on_after(wait):
                    await self._ledger.wait_changed()
        raise Unavailable(
            self._throttle.paused
            or "not enough suppliers take what is new; it stays on this machine"
        )

    async def progress(self) -> None:
        """Returns when a block was tried."""
        if self._table.owed_count:
            await self._ledger.wait_changed()

    async def try_all(self) -> None:
        """Returns when nothing is owed, or each owed position was tried once more: those that take
        it slowly as well, while something moves. After TRY_DEADLINE in any case.
        """
        if self._pen.waits:
            return  # nobody is shown anything yet
        with self._throttle.hurrying(), self._patiently(), trio.move_on_after(TRY_DEADLINE):
            slow = True  # by then they are tried once more, too
            while slow and not self._pen.lost:
                enough = self.rounds + 2  # the round under way may have passed a block already
                while self._table.owed_count and self.rounds < enough and not self._pen.lost:
                    self.kick()
                    await self._ledger.wait_changed()
                slow = self._puts.busy and await self._slow_ended()

    @contextmanager
    def _patiently(self) -> Iterator[None]:
        """Meanwhile rounds wait for those that may be back."""
        self._trying += 1
        try:
            yield
        finally:
            self._trying -= 1

    async def _slow_ended(self) -> bool:
        """Returns when what was let go has come to its end, or (False) nothing moves."""
        moved, since = self.headway.total(), trio.current_time()
        while self._puts.busy:
            if moved != (moved := self.headway.total()):
                since = trio.current_time()
            if trio.current_time() - since >= STILL:
                return False
            with trio.move_on_after(STILL_LOOK):
                await self._ledger.wait_changed()
        return True

    # -- doing it

    async def run(self) -> None:
        """Until cancelled, or until this machine may not write any more."""
        pause = RETRY_FIRST
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_when_lost)
            nursery.start_soon(self._puts.run)
            nursery.start_soon(self._keep_looking)
            while not self._pen.lost:
                self._wake = trio.Event()
                before = self._table.owed_positions
                await self._round()
                self.rounds += 1
                self._ledger.notify()
                placed = self._table.owed_positions < before
                longest = RETRY_HURRY if self._throttle.hurried else RETRY_MAX
                pause = RETRY_FIRST if placed else min(pause * 2, longest)
                with trio.move_on_after(pause if self._table.owed_count else float("inf")):
                    await self._wake.wait()
            nursery.cancel_scope.cancel()

    async def _tell_when_lost(self) -> None:
        """The pen is lost: whoever waits for suppliers is told."""
        await self._pen.wait_lost()
        self.kick()
        self._ledger.notify()

    async def _round(self) -> None:
        """One attempt at every owed block that is here; those without enough holders first."""
        await self._look_who_is_back()
        self._kicked = False
        new, owed, tried = deque[bytes](), deque(self._table.to_deliver()), set[bytes]()

        def untried() -> bytes | None:
            """What somebody waits for comes first, also where it was closed since: who catches up,
            or takes all in vain, does not hold it up.
            """
            if self._kicked:
                self._kicked = False
                new.clear()
                new.extend(block for block in self._table.waiting() if block not in tried)
            while new or owed:
                block = new.popleft() if new else owed.popleft()
                if block not in tried:
                    tried.add(block)
                    return block
            return None

        async def work() -> None:
            while (block := untried()) is not None:  # each block is one worker's
                if self._ledger.is_due(block):
                    self._throttle.waiting(self._table.owed_count)
                    await self._throttle.wait_turn()
                    await self._deliver_one(block)

        async with trio.open_nursery() as nursery:
            for _ in range(IN_FLIGHT):
                nursery.start_soon(work)

    async def _look_who_is_back(self) -> None:
        """Who is away, or was not heard yet, is left out unless it answers a ping: a put to one
        that still is away would hold its block up.
        """
        group = self._circle.family.group
        nodes = {member.node for member in group.members}
        self._absent = {node for node in nodes if not self._circle.health(node).there}
        enough = acknowledgements_wanted(group.k, group.n)
        if self._trying or self._circle.online_elsewhere() < enough:
            await self._probe(_nothing)
        elif self._absent:
            self._look.set()

    async def _keep_looking(self) -> None:
        """Pings beside the rounds. Until cancelled."""
        while True:
            await self._look.wait()
            await self._probe(self.kick)
            self._look = trio.Event()

    async def _probe(self, then: Callable[[], None]) -> None:
        """Pings those that are left out; whoever answers is not from then on, and `then` is called.

        What `kick` ends is the pause of this round only: one that answers pings and takes nothing
        is there when the next begins, so the pause after that is twice as long.
        """

        async def ping(node: bytes) -> None:
            await self._circle.supplier(node).ping()
            self._circle.health(node).answered()
            self._absent.discard(node)
            then()

        await ask_all(set(self._absent), ping, each=PROBE_DEADLINE)

    async def _deliver_one(self, block: bytes) -> None:
        self._busy.add(block)
        try:
            await self._deliver(block)
            self._failure = None  # the disk works again
        except BitdustError as error:
            log.error("block %s cannot be uploaded: %s", block.hex(), error)
            if self._ledger.is_waiting(block):
                self._failure = error
        finally:
            self._busy.discard(block)
            self._ledger.notify()

    async def _deliver(self, block: bytes) -> None:
        row = self._table.get(block)
        if row is None or self._pen.lost:
            return
        due = [position for position in row.owed if self._is_due(block, position)]
        self._deferral.tried(block, set(row.owed).difference(due))
        fragments: dict[int, Fragment] = {}
        if not row.header:
            fragments = await self._cutter.cut(block, row, range(row.n))
        elif due:
            fragments = await self._cutter.cut(block, row, due)
        header = row.header or await self._cutter.sign(block, row, fragments)
        delivery = Delivery(block, header)
        if due:
            await self._put_all(delivery, fragments, due)
            self._note_crowd(delivery)
        if not delivery.dead:
            await self._lend(delivery, fragments)

    def _is_due(self, block: bytes, position: int) -> bool:
        """Whether somebody who is there is owed the position's fragment, and could take it now."""
        if self._newcomer_due(block, position) is not None:
            return True
        node = self._circle.family.members[position].node
        return node not in self._absent and not self._puts.holds(node)

    def _newcomer_due(self, block: bytes, position: int) -> Supplier | None:
        """Whom the position is going to, if it lacks the block and could take it now."""
        newcomer = self._ledger.newcomer(position)
        if newcomer is None or self._ledger.newcomer_has(block, position):
            return None
        return None if self._puts.holds(newcomer.node) else newcomer

    async def _lend(self, delivery: Delivery, fragments: Mapping[int, Fragment]) -> None:
        """Puts fragments that nobody took to reserves, where they are needed there."""
        block = delivery.block
        row = self._table.get(block)
        if row is None or row.state != CLOSED or not row.local or self._pen.lost:
            return
        lacking = [p for p in row.owed if not self._ledger.newcomer_has(block, p)]
        chosen = {
            position: member for position, member in self._reserves.choose(row, lacking).items()
            if not self._puts.holds(member.node)
        }  # fmt: skip
        if not chosen:
            return
        more = [position for position in chosen if position not in fragments]
        there = {**fragments, **(await self._cutter.cut(block, row, more) if more else {})}

        async def put(position: int, member: Member) -> None:
            loan = {position: member.node}
            with self._loans.coming(loan):
                if await self._putter.put(self._circle.session(member), delivery, there[position]):
                    await self._loans.taken(block, loan)
                    self._circle.copies.came(position, member.node)
                    self._ledger.notify()

        puts: dict[Hashable, SendOne] = {
            member.node: partial(put, position, member) for position, member in chosen.items()
        }
        await self._puts.put_all(puts, lambda: not self._ledger.is_waiting(block))

    async def encode_one(self, block: bytes, position: int) -> Fragment | None:
        """One fragment from this machine's own copy of a block; None where it has none."""
        row = self._table.get(block)
        if row is None or row.state != CLOSED or not row.local or not row.header:
            return None
        try:
            return (await self._cutter.cut(block, row, [position]))[position]
        except LocalError:
            return None

    async def place(
        self, header: BlockHeader, raw: bytes, fragments: Mapping[int, Fragment]
    ) -> Placement:
        """Puts fragments that were made again; whoever is slow may take them later."""
        delivery = Delivery(header.block, raw, remade=True)
        return Placement(delivery, await self._put_all(delivery, fragments, fragments.keys()))

    def is_slow(self, position: int) -> bool:
        """Whether a position's supplier is not to be sent anything now: it is slow."""
        return self._puts.holds(self._circle.family.members[position].node)

    async def _put_all(
        self, delivery: Delivery, fragments: Mapping[int, Fragment], positions: Iterable[int]
    ) -> Sending:
        """Puts, and records who acknowledged. Who is slow may come to it later (laggards.py).

        Raises LocalError.
        """
        puts: dict[Hashable, SendOne] = {}
        for position in positions:
            fragment, member = fragments[position], self._circle.family.members[position]
            newcomer = self._newcomer_due(delivery.block, position)
            if newcomer is not None:
                puts[newcomer.node] = partial(self._put_newcomer, newcomer, delivery, fragment)
            there = newcomer is None or self._circle.health(member.node).reachable
            if there and not self._puts.holds(member.node):
                puts[member.node] = partial(self._put, member, delivery, fragment)
        return await self._puts.put_all(
            puts,
            lambda: not self._ledger.is_waiting(delivery.block),
            laggards.LAG_REMADE if delivery.remade else laggards.LAG,
        )

    def _failed_late(self, error: BitdustError) -> None:
        """Of a put that was let go: it is said as if it had been waited for."""
        log.error("what a slow supplier took cannot be recorded: %s", error)
        self._failure = error
        self._ledger.notify()

    def _note_crowd(self, delivery: Delivery) -> None:
        """Whether so many have no room for the block that no root can name it."""
        row = self._table.get(delivery.block)
        spared = 0 if row is None else row.n - row.least
        if len(delivery.full) > spared and self._ledger.is_waiting(delivery.block):
            self._crowded.add(delivery.block)
        else:
            self._crowded.discard(delivery.block)

    async def _put_newcomer(
        self, newcomer: Supplier, delivery: Delivery, fragment: Fragment
    ) -> None:
        position = fragment.position
        if not await self._putter.put(newcomer, delivery, fragment):
            return
        if self._ledger.newcomer(position) is newcomer:  # else it was settled meanwhile
            self._ledger.newcomer_acknowledged(delivery.block, position)

    async def _put(self, member: Member, delivery: Delivery, fragment: Fragment) -> None:
        position = fragment.position
        if await self._putter.put(self._circle.session(member), delivery, fragment):
            if self._circle.family.members[position].node != member.node:
                return  # the position was given to another supplier meanwhile
            self._deferral.served(position)
            delivery.acked.append(position)
            await self._putter.record(delivery)
            return
        self._deferral.failed(position)
        if not self._circle.health(member.node).reachable:
            self._absent.add(member.node)
