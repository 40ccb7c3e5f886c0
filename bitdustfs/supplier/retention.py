"""The past holds against the key itself: what a supplier keeps although it was told to delete it.

A vault's retention is a word of its signed family, or of a signed record that came with its
contract. For so long, counted from the order to delete and by this supplier's steady time
(steady.py), these stay, whatever the holder of the vault's key asks for:

    fragments of blocks that were killed, and copies that were given up    they count as used
    past roots, and their families (ring.py)                               they count as used
    the vault, where its owner ends it or a newer family leaves this supplier out

A longer retention holds at once. A shorter one holds once the present one is over, counted from
when it was asked for: whoever asks for it destroys nothing until then.

A rewinding makes a root of the past the newest one, in the next lineage, and the family that it
names says so (core/policy.py). What was killed before, and is retained still, is kept again: all of
it, since what a death says of its reason is its signer's word. What is not needed of that dies once
more.
"""

import logging

import msgspec

from bitdustfs.core.policy import RETAIN_MAX
from bitdustfs.core.records import (
    Family,
    Root,
    block_dead_records,
    open_family_untrusted,
    retention_records,
    root_records,
)
from bitdustfs.core.roots import lasting
from bitdustfs.errors import Malformed, Refused
from bitdustfs.net import wire
from bitdustfs.supplier.ring import RingEntry, superfluous
from bitdustfs.supplier.shelf import Shelf
from bitdustfs.supplier.shelfrows import RingRow, VaultRow
from bitdustfs.supplier.steady import SteadyTime
from bitdustfs.supplier.vaultrows import VaultRows

log = logging.getLogger(__name__)

AT_ONCE = 1000  #: fragments that change their place in one transaction
STEPS = 20  #: such transactions in one call
#: bytes of past roots: a share of the contract, at least these
RING_LEAST, RING_SHARE = 1 << 20, 16
AHEAD = 3600  #: seconds by which a vault is held longer than it must, so that few rows are written


def in_force(row: VaultRow, now: int) -> int:
    """Seconds of the retention that a vault has at a steady time."""
    return row.lessened if row.lessens and now >= row.lessens else row.retain


def with_retention(row: VaultRow, wanted: int, now: int) -> VaultRow:
    """The row once so many seconds were asked for."""
    wanted, present = min(wanted, RETAIN_MAX), in_force(row, now)
    if wanted >= present:
        return msgspec.structs.replace(row, retain=wanted, lessened=0, lessens=0)
    if row.lessens > now and row.lessened == wanted:
        return row  # it was asked for before
    return msgspec.structs.replace(row, retain=present, lessened=wanted, lessens=now + present)


def asks_to_retain(vault: bytes, token: bytes) -> bool:
    """Whether what came with a Promise is a retention record of the vault, and no invitation."""
    try:
        return retention_records.peek_untrusted(token).vault == vault
    except Malformed:
        return False


class Retention:
    """Of all vaults of one supplier. `own`: its node key. Thread-safe."""

    def __init__(self, own: bytes, rows: VaultRows, shelf: Shelf, time: SteadyTime) -> None:
        self._own, self._rows, self._shelf, self._time = own, rows, shelf, time
        self._reviving: dict[bytes, tuple[int, bytes]] = {}  # vault -> lineage, last key

    # -- how long

    def seconds(self, row: VaultRow) -> int:
        """The retention that a vault has now."""
        return in_force(row, self._time.now())

    def holds(self, row: VaultRow) -> bool:
        """Whether nothing of a vault may be forgotten yet."""
        return row.held > self._time.now()

    def date(self, row: VaultRow) -> int:
        """Unix seconds until which something of a vault is retained."""
        return self._time.date(max(row.held, self._time.now()))

    def want(self, vault: bytes, record: bytes) -> VaultRow:
        """Sets the retention by its owner's record. Raises Refused, Malformed, Forged."""
        body = retention_records.open_untrusted(record, vault)
        if body.vault != vault:
            raise Malformed("the retention is of another vault")
        with self._rows.changing(vault) as row:
            wanted = with_retention(row, body.seconds, self._time.now())
            self._rows.write(vault, wanted)
        return wanted

    # -- what is deleted

    def until(self, vault: bytes) -> int:
        """The steady time until which what is deleted now stays; 0: it need not.

        The vault is held as long.
        """
        with self._rows.changing(vault) as row:
            retain = self.seconds(row)
            return self._hold(vault, row) if retain else 0

    def _hold(self, vault: bytes, row: VaultRow) -> int:
        now = self._time.now()
        until = now + in_force(row, now)
        if row.held < until:
            self._rows.write(vault, msgspec.structs.replace(row, held=until + AHEAD))
        return until

    def end(self, vault: bytes) -> int:
        """Its owner ends a vault: the date at which it is forgotten; 0: now."""
        with self._rows.changing(vault) as row:
            if row.ended:
                return self._time.date(row.ended)
            if not self.seconds(row) and not self.holds(row):
                return 0
            until = max(row.held, self._hold(vault, row))
            self._rows.write(vault, msgspec.structs.replace(self._rows.known(vault), ended=until))
        return self._time.date(until)

    def tidy_pasts(self) -> None:
        """What a retention is over for goes: past roots, and vaults that their owners ended.

        And what is alive again by a rewinding, and was too much at once, is kept again.
        """
        for vault, row in self._shelf.all_rows():
            if row.ended and row.ended <= self._time.now():
                self._forget_ended(vault)
                continue
            try:
                self._tidy_ring(vault)
                self.revive(vault)
            except (Malformed, Refused) as error:  # of this one alone: others have their turns
                log.warning("vault %s cannot be tidied: %s", vault.hex()[:12], error)

    def _forget_ended(self, vault: bytes) -> None:
        """Unless its owner is back meanwhile."""
        with self._rows.alone():
            row = self._shelf.vault(vault)
            if row is not None and row.ended and row.ended <= self._time.now():
                log.info("vault %s was deleted by its owner", vault.hex()[:12])
                self._shelf.forget(vault)

    def release(self, trash_time: int) -> None:
        """What was retained long enough goes to the trash."""
        self._time.note()
        while items := self._shelf.retained.due(self._time.now(), 0, AT_ONCE):
            self._shelf.release(items, trash_time)

    def _tidy_ring(self, vault: bytes) -> None:
        """Past roots go that nobody waits for any more."""
        if not self._shelf.ring.of(vault):
            return
        with self._rows.changing(vault) as row:
            gone = superfluous(self._shelf.ring.of(vault), self._time.now(), self.seconds(row))
            if gone:
                self._shelf.drop_past(vault, gone)

    # -- roots

    def accepted(
        self, vault: bytes, before: VaultRow, after: VaultRow, root: Root, named: Family
    ) -> VaultRow:
        """The row `after` a root was accepted, with what follows from that. The root `before` is
        in the ring by then, if it belongs there. Nobody else changes the row meanwhile.
        """
        now = self._time.now()
        wanted = named.policy.retain  # a program of before may have forgotten what holds
        if after.family != before.family or wanted > in_force(after, now):
            after = with_retention(after, wanted, now)
        old = root_records.peek_untrusted(before.root) if before.root else None
        if old is not None and lasting(old) == lasting(root):
            since, begun = before.rooted or now, before.begun or old.ballot
            return msgspec.structs.replace(after, rooted=since, begun=begun, ended=0)
        retain = max(in_force(before, now), in_force(after, now))
        if old is not None and retain:
            turned = root.ballot != (before.begun or old.ballot)
            self._leave(vault, before, old, turned, now, retain)
        held = after.held
        if before.family and before.family != after.family and named.member(self._own) is None:
            was = open_family_untrusted(before.family, vault)
            if was.member(self._own) is not None:
                held = max(held, now + retain)
        return msgspec.structs.replace(after, rooted=now, begun=root.ballot, ended=0, held=held)

    def _leave(
        self, vault: bytes, row: VaultRow, old: Root, turned: bool, now: int, retain: int
    ) -> None:
        kept = self._shelf.ring.of(vault)
        size = len(row.root) + len(row.family)
        if (len(kept) + 1) * size > max(RING_LEAST, row.space // RING_SHARE):
            return  # what is kept already is not pushed out by what comes
        number = kept[-1].number + 1 if kept else 0
        new = RingEntry(number, row.rooted or now, now, turned)
        gone = superfluous([*kept, new], now, retain)
        if number not in gone:
            family = old.family_hash
            past = RingRow(new.since, now, turned, row.root, family)
            self._shelf.keep_past(vault, past, row.family)
        gone = [other for other in gone if other != number]
        if gone:
            self._shelf.drop_past(vault, gone)

    def past(self, vault: bytes, row: VaultRow) -> wire.PastIs:
        """What is kept of a vault's past."""
        now = self._time.now()
        roots = tuple(
            (root.number, max(0, now - root.since), max(0, now - root.left))
            for root in self._shelf.ring.of(vault)[-wire.PAST_MAX :]
        )
        retained = self._shelf.retained.of(vault)
        return wire.PastIs(self.seconds(row), retained, max(0, row.held - now), roots)

    def past_root(self, vault: bytes, number: int) -> wire.CurrentIs:
        """One of the past roots. Raises Refused."""
        return wire.CurrentIs(b"", *self._shelf.ring.get(vault, number))

    # -- rewinding

    def revive(self, vault: bytes) -> None:
        """Keeps again what is alive by the rewindings of the vault's family, unless that is done.

        So much at once that nobody waits long: the next call goes on, also after a crash.
        """
        row = self._shelf.vault(vault)
        if row is None or b"rewound:" not in row.family:
            return
        family = open_family_untrusted(row.family, vault)
        rewound = family.policy.rewound(root_records.peek_untrusted(row.root).ballot.lineage)
        if not rewound or rewound == row.revived:
            return
        position = family.position(self._own)

        def alive(record: bytes | None, key: bytes) -> bool:
            if record is None:
                return key[-1] == position
            dead = block_dead_records.peek_untrusted(record)
            return dead.ballot.lineage < rewound

        at, after = self._reviving.pop(vault, (rewound, b""))
        after = after if at == rewound else b""
        for _ in range(STEPS):
            after = self._shelf.revive(vault, alive, after, AT_ONCE)
            if not after:
                break
        else:
            self._reviving[vault] = rewound, after
            return
        with self._rows.changing(vault) as now:
            self._rows.write(vault, msgspec.structs.replace(now, revived=rewound))
        log.info("vault %s went on from a past root", vault.hex()[:12])
