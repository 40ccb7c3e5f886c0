"""What a supplier decides: who may do what, whether it fits, whether it is genuine.

No socket here: a session and a message in, a reply out. The server calls it from worker threads,
`memory.MemorySupplier` directly. Nothing a customer sends is believed before it was checked.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec
from nacl.signing import SigningKey

from bitdustfs.core.acceptor import Acceptor
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.fragment import check_fragment_untrusted
from bitdustfs.core.hashing import digest
from bitdustfs.core.records import (
    BallotClaim,
    Contract,
    Visit,
    ballot_records,
    block_dead_records,
    family_hash,
    family_records,
    open_family_untrusted,
    open_header_untrusted,
    open_root_untrusted,
    root_records,
    seal_record,
    stand_down_records,
)
from bitdustfs.errors import Forged, Malformed, Refused
from bitdustfs.net import wire
from bitdustfs.supplier.housekeeping import TRASH_SECONDS, Housekeeping
from bitdustfs.supplier.kinship import Kinship
from bitdustfs.supplier.shelf import Shelf, VaultRow, fragment_key
from bitdustfs.units import MIB, format_size

log = logging.getLogger(__name__)

LEASE = 60.0  #: seconds after which a writer that no longer renews may be replaced without asking
FORMER_MAX = 64  #: nodes of families before that are remembered
CONTRACT_MIN = 4 * MIB  #: bytes of the smallest contract: what a stranger makes us remember costs
CONTRACT_LONGEST = 2 * 365 * 86400  #: seconds from now that a contract may run at most
DEAD_RECORD_MAX = 320  #: bytes of a block-dead record, which is kept for ever
Role = Literal["owner", "reader", "member", "former"]


class Session(NamedTuple):
    """A client that proved `role` for `vault`."""

    vault: bytes
    role: Role
    node: bytes = b""  #: key of the member that asks


class SupplierService(Housekeeping):
    """One supplier: its node key, its shelf, the bytes it donates. Thread-safe."""

    def __init__(
        self,
        node: SigningKey,
        shelf: Shelf,
        space: int,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        trash_seconds: float = TRASH_SECONDS,
    ) -> None:
        super().__init__(shelf, space, Kinship(node, shelf, clock, wall), wall, trash_seconds)
        self.node, self._clock = node, clock
        self._started = clock()
        self._renewed: dict[bytes, float] = {}  # vault -> when its writer last showed itself
        self._lock = threading.Lock()

    def handle(
        self, session: Session, request: wire.Request, payload: Buffer
    ) -> tuple[wire.Reply, bytes]:
        """(reply, payload of the reply). Never raises for what a customer may cause."""
        try:
            return self._handle(session, request, payload)
        except Refused as refusal:
            return wire.Fault(refusal.code, refusal.detail[:200]), b""
        except Forged as error:
            return wire.Fault("forged", str(error)[:200]), b""
        except Malformed as error:
            return wire.Fault("malformed", str(error)[:200]), b""

    def _handle(
        self, session: Session, request: wire.Request, payload: Buffer
    ) -> tuple[wire.Reply, bytes]:
        vault = session.vault
        match request:
            case wire.Ping():
                return wire.Done(), b""
            case wire.Promise(space, until):
                self._owner(session)
                return wire.ContractIs(self._promise(vault, space, until)), b""
        row = self.shelf.vault(vault)
        if row is None:
            raise Refused("unknown-vault", "there is no contract with this vault here")
        reply = self._answer_kin(session, row, request)
        if reply is not None:
            return reply, b""
        if session.role == "member":
            size = request.length if isinstance(request, wire.Read) else 0
            if self.kinship.admit(vault, row, session.node, size):
                self.note_visits(vault)
        read = self._answer_reader(vault, row, request)
        if read is not None:
            return read
        self._owner(session)
        return self._answer_owner(vault, row, request, payload), b""

    def _answer_kin(
        self, session: Session, row: VaultRow, request: wire.Request
    ) -> wire.Reply | None:
        """What suppliers of one family ask each other."""
        vault = session.vault
        if session.role == "former" and not isinstance(request, wire.Kin | wire.Current):
            raise Refused("unauthorised", "this node is not of the family any more")
        match request:
            case wire.Kin():
                return self.kinship.kin(vault, row)
            case wire.Current():
                return wire.CurrentIs(row.promised, row.root, row.family)
            case wire.Hurry():
                self.kinship.hurried.add(vault)
                return wire.Done()
            case wire.Warrants(records):
                return wire.WarrantsAre(self.merge_warrants(vault, records))
            case wire.Attest(position):
                owner_here = vault in self._renewed and self._lease_live(vault)
                record = self.kinship.attest(vault, row, position, owner_here)
                return wire.AttestedIs(record)
        return None

    def _answer_reader(
        self, vault: bytes, row: VaultRow, request: wire.Request
    ) -> tuple[wire.Reply, bytes] | None:
        """What whoever may read asks."""
        shelf = self.shelf
        match request:
            case wire.Read(block, position, offset, length):
                key = fragment_key(block, position)
                if self.kinship.leaving:
                    self.kinship.handed.setdefault(vault, set()).add(key)
                return wire.Bytes(), shelf.read(vault, key, offset, length)
            case wire.Head(block, position):
                return wire.HeadIs(*shelf.head(vault, fragment_key(block, position))), b""
            case wire.List(after, limit):
                found = shelf.keys(vault, after, limit)
                return wire.Listed(tuple(found), len(found) == limit), b""
            case wire.Usage():
                mine = [t for name, t in shelf.trash() if name.startswith(vault)]
                trash = sum(t.fragment.size for t in mine)
                return wire.UsageIs(row.space, row.used, trash, row.fragments, row.until), b""
        return None

    def _answer_owner(
        self, vault: bytes, row: VaultRow, request: wire.Request, payload: Buffer
    ) -> wire.Reply:
        """What only the owner may have done."""
        match request:
            case wire.Visits():
                return wire.VisitsAre(self.note_visits(vault))
            case wire.Put():
                self._put(vault, row, request, payload)
            case wire.Kill(record):
                self._kill(vault, row, record)
            case wire.StandDown(record):
                self._stand_down(vault, record)
            case wire.Prepare(claim, take_over):
                return self._prepare(vault, claim, take_over)
            case wire.Accept(root, family):
                self._accept(vault, root, family)
            case wire.Renew(ballot):
                _acceptor(row).check_writer(ballot)
                self._renewed[vault] = self._clock()
            case wire.Release(ballot):
                _acceptor(row).check_writer(ballot)
                self._release(vault)
        return wire.Done()

    def _owner(self, session: Session) -> None:
        if session.role != "owner":
            raise Refused("unauthorised", "only the owner may do this")

    def is_kin(self, vault: bytes, node: bytes) -> bool:
        """Whether a node is of the newest family of the vault that is known here, or on its bench."""
        row = self.shelf.vault(vault)
        family = None if row is None else self.kinship.family(vault, row)
        return family is not None and family.member(node) is not None

    def was_kin(self, vault: bytes, node: bytes) -> bool:
        """Whether a node was of a family that was known here before."""
        row = self.shelf.vault(vault)
        return row is not None and node in row.former

    def read_proof(self, vault: bytes) -> bytes | None:
        """The key that holders of the vault's read capability prove themselves with, if known."""
        row = self.shelf.vault(vault)
        if row is None or not row.family:
            return None
        return open_family_untrusted(row.family, vault).read_proof

    def _promise(self, vault: bytes, space: int, until: int) -> bytes:
        if space < CONTRACT_MIN:
            raise Refused("malformed", f"a contract is over {format_size(CONTRACT_MIN)} at least")
        until = min(until, int(self._wall()) + CONTRACT_LONGEST)
        with self._lock:
            row = self.shelf.vault(vault) or VaultRow(0, 0)
            free = self.offer() + (row.space if self._binds(vault, row) else 0)
            if space > free:
                raise Refused(
                    "no-space", f"{format_size(space)} asked for, {format_size(free)} to give"
                )
            if space < row.used:
                raise Refused("quota", f"{format_size(row.used)} are in use already")
            promised = msgspec.structs.replace(row, space=space, until=max(until, row.until))
            self.shelf.set_vault(vault, promised)
        self.make_room()
        contract = Contract(self.node.verify_key.encode(), vault, space, promised.until)
        return seal_record(self.node, "contract", contract)

    def refuse_head(self, session: Session, request: wire.Put, length: int) -> wire.Fault | None:
        """Why a Put with `length` bytes of payload is refused, from its head alone; None: it is not.

        Asked before the payload is taken into memory.
        """
        try:
            self._owner(session)
            row = self._known(session.vault)
            _acceptor(row).check_writer(request.ballot)
            size = len(request.header) + len(request.chunks) + length
            key = fragment_key(request.block, request.position)
            self._check_room(session.vault, row, key, size)
        except Refused as refusal:
            return wire.Fault(refusal.code, refusal.detail[:200])
        return None

    def _check_room(self, vault: bytes, row: VaultRow, key: bytes, size: int) -> None:
        if row.used + size > row.space and self.shelf.fragment(vault, key) is None:
            raise Refused("quota", f"the contract of {format_size(row.space)} is used up")

    def _put(self, vault: bytes, row: VaultRow, request: wire.Put, payload: Buffer) -> None:
        _acceptor(row).check_writer(request.ballot)
        self.keep(vault, request, payload)

    def keep(self, vault: bytes, request: wire.Put, payload: Buffer) -> None:
        """Keeps a genuine fragment of a vault, whoever brings it. Raises Refused, Malformed, Forged."""
        row = self._known(vault)
        header = open_header_untrusted(request.header, vault)
        if header.block != request.block:
            raise Refused("malformed", "the header is of another block")
        if self.shelf.tombstone(vault, request.block) is not None:
            raise Refused("dead", "the owner deleted this block")
        header_hash = digest(request.header)
        first = self.shelf.header_hash(vault, request.block)
        if first is not None and first != header_hash:
            raise Refused("conflict", "another header was accepted for this block")
        key = fragment_key(request.block, request.position)
        size = len(request.header) + len(request.chunks) + len(payload)
        self._check_room(vault, row, key, size)
        check_fragment_untrusted(header, request.position, request.chunks, payload)
        self.shelf.store(vault, key, request.header, request.chunks, payload, header_hash)

    def _kill(self, vault: bytes, row: VaultRow, record: bytes) -> None:
        dead = block_dead_records.open_untrusted(record, vault)
        if dead.vault != vault:
            raise Refused("malformed", "the record is of another vault")
        if len(record) > DEAD_RECORD_MAX:
            raise Refused("malformed", "a block-dead record that says more than it must")
        accepted = _acceptor(row).accepted
        if accepted is None or accepted < (dead.ballot, dead.seq):
            raise Refused("stale", "the root that dropped this block is not known here yet")
        if self.shelf.header_hash(vault, dead.block) is None:
            return  # nothing of it is here: nothing to remember
        self.shelf.kill(vault, dead.block, record, int(self._wall()))
        self.tidy()

    def _prepare(self, vault: bytes, claim: bytes, take_over: bool) -> wire.CurrentIs:
        body: BallotClaim = ballot_records.open_untrusted(claim, vault)
        if body.vault != vault:
            raise Refused("malformed", "the claim is of another vault")
        with self._lock:
            row = self._known(vault)
            state = _acceptor(row).prepare(body.ballot, not take_over and self._lease_live(vault))
            self._save(vault, row, state)
            if row.released:
                self.shelf.set_vault(
                    vault, msgspec.structs.replace(self._known(vault), released=False)
                )
            self._renewed[vault] = self._clock()
        return wire.CurrentIs(state.promised, row.root, row.family)

    def _release(self, vault: bytes) -> None:
        """The writer has unmounted: known also after a restart."""
        with self._lock:
            row = self._known(vault)
            self.shelf.set_vault(vault, msgspec.structs.replace(row, released=True))

    def _lease_live(self, vault: bytes) -> bool:
        row = self.shelf.vault(vault)
        if row is not None and row.released:
            return False
        return self._clock() - self._renewed.get(vault, self._started) < LEASE

    def _accept(self, vault: bytes, root: bytes, family: bytes, writer: bool = True) -> None:
        opened = open_root_untrusted(root, vault)
        named = open_family_untrusted(family, vault)
        if family_hash(family) != opened.family_hash or named.epoch != opened.family_epoch:
            raise Refused("malformed", "the root names another family")
        with self._lock:
            row = self._known(vault)
            state = _acceptor(row).accept(opened, root, family, named.epoch)
            self._save(vault, row, state)
            if writer:
                self._renewed[vault] = self._clock()

    def learn(self, vault: bytes, root: bytes, family: bytes) -> None:
        """A root that another supplier of the family holds: as if it came from its writer, but late.

        Raises Refused when it is not newer, Malformed or Forged.
        """
        self._accept(vault, root, family, writer=False)

    def merge_warrants(self, vault: bytes, records: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The warrants known here and those of `records` that hold; new ones are kept."""
        with self._lock:
            return self.kinship.merge(vault, self._known(vault), records)

    def note_visits(self, vault: bytes) -> tuple[Visit, ...]:
        """Keeps in the vault's row what stand-ins have read; all of it that is remembered."""
        with self._lock:
            row = self._known(vault)
            visits = self.kinship.take_visits(vault, row.visits)
            if visits != row.visits:
                self.shelf.set_vault(vault, msgspec.structs.replace(row, visits=visits))
        return visits

    def stand(self, vault: bytes, position: int) -> None:
        """From now on this supplier stands in for a position, or, -1, for none."""
        with self._lock:
            row = self._known(vault)
            self.shelf.set_vault(vault, msgspec.structs.replace(row, standing=position))
            self.kinship.complete.discard(vault)

    def drop_copies(self, vault: bytes, position: int) -> None:
        """Deletes all fragments of a position, and stands in for none."""
        keys = [key for key, _ in self.shelf.keys(vault, b"", 1 << 40) if key[16] == position]
        self.shelf.drop(vault, keys)
        self.stand(vault, -1)

    def _stand_down(self, vault: bytes, record: bytes) -> None:
        body = stand_down_records.open_untrusted(record, vault)
        row = self._known(vault)
        family = self.kinship.family(vault, row)
        own = self.node.verify_key.encode()
        if body.vault != vault or body.supplier != own:
            raise Refused("malformed", "the record is of another supplier or vault")
        if family is not None and body.family_epoch < family.epoch:
            raise Refused("stale", "a newer family is known here")
        if family is not None and family.position(own) == body.position:
            raise Refused("malformed", "the position is this supplier's own")
        self.drop_copies(vault, body.position)

    def _known(self, vault: bytes) -> VaultRow:
        row = self.shelf.vault(vault)
        if row is None:
            raise Refused("unknown-vault")
        return row

    def _save(self, vault: bytes, row: VaultRow, state: Acceptor) -> None:
        kept = msgspec.structs.replace(
            row, promised=state.promised, root=state.root or b"", family=state.family or b""
        )
        if kept.family != row.family:  # what let others in was said in the old family
            kept = msgspec.structs.replace(
                kept, warrants=(), former=_former(row, kept.family, vault)
            )
            named = open_family_untrusted(kept.family, vault)
            if named.position(self.kinship.own) == row.standing:
                kept = msgspec.structs.replace(kept, standing=-1)
        if kept != row:
            self.shelf.set_vault(vault, kept)


def _former(row: VaultRow, family: bytes, vault: bytes) -> tuple[bytes, ...]:
    """Nodes of this family's predecessors that are not of it, the last ones."""
    there = open_family_untrusted(family, vault)
    nodes = list(row.former)
    if row.family:
        before = open_family_untrusted(row.family, vault)
        nodes += [member.node for member in before.everybody]
    out = dict.fromkeys(node for node in nodes if there.member(node) is None)
    return tuple(out)[-FORMER_MAX:]


def _acceptor(row: VaultRow) -> Acceptor:
    """The register's state out of a vault row. The bytes were verified before they were stored."""
    if not row.root:
        return Acceptor(row.promised)
    root = root_records.peek_untrusted(row.root)
    family = family_records.peek_untrusted(row.family)
    return Acceptor(row.promised, root.order, row.root, row.family, family.epoch)
