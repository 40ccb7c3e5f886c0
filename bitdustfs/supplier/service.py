"""What a supplier answers: who may ask what, and which of its parts decides it.

No socket here: a session and a message in, a reply out. The server calls it from worker threads,
`memory.MemorySupplier` directly. Nothing a customer sends is believed before it was checked.

    housekeeping   space: contracts, offers, the trash
    retention      what stays although it was deleted, and past roots
    voter          the root register: prepare, accept, renew, release
    keeper         fragments: put, read, list, delete
    standing       kin: warrants, visits, whom this supplier stands in for
    friendship     deals with friends' suppliers
    kinship        what this supplier thinks of the others; decisions without I/O
"""

import threading
import time
from collections.abc import Callable, Collection

from nacl.signing import SigningKey

from bitdustfs.cache.deals import Deals
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.records import (
    Contract,
    open_family_untrusted,
    seal_record,
    vault_end_records,
)
from bitdustfs.errors import Forged, Malformed, Refused
from bitdustfs.net import wire
from bitdustfs.supplier.admission import ANYONE, Admission
from bitdustfs.supplier.friendship import Friendship
from bitdustfs.supplier.housekeeping import TRASH_SECONDS, Housekeeping
from bitdustfs.supplier.keeper import Keeper
from bitdustfs.supplier.kinship import Kinship, Visitors
from bitdustfs.supplier.retention import Retention, asks_to_retain
from bitdustfs.supplier.session import Session, check_owner
from bitdustfs.supplier.shares import Portion, share_of_vault
from bitdustfs.supplier.shelf import Shelf
from bitdustfs.supplier.shelfrows import VaultRow
from bitdustfs.supplier.standing import Standing
from bitdustfs.supplier.steady import SteadyTime
from bitdustfs.supplier.vaultrows import VaultRows
from bitdustfs.supplier.voter import LEASE, Voter

__all__ = ["LEASE", "SupplierService"]

NETWORKS_MAX = 8  #: public networks of which it is remembered when they came last


class Traffic:
    """What came and went since the start: bytes of fragments. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.received = self.served = 0
        self.asked: float | None = None  #: on the monotonic clock
        self._came: dict[str, float] = {}  # when somebody of a network asked last, the newest last

    def note(self, received: int, served: int, network: str = "") -> None:
        """A request was answered. `network`: of whom, unless that is a private one."""
        with self._lock:
            self.received += received
            self.served += served
            self.asked = time.monotonic()
            if network:
                self._came.pop(network, None)
                self._came[network] = self.asked
                if len(self._came) > NETWORKS_MAX:
                    del self._came[next(iter(self._came))]

    def came(self, but: Collection[str]) -> float | None:
        """When somebody came from another public network, on the monotonic clock; None: nobody."""
        with self._lock:
            return max(
                (at for network, at in self._came.items() if network not in but), default=None
            )


class SupplierService:
    """One supplier: its node key, its shelf, the bytes it donates. Thread-safe."""

    def __init__(
        self,
        node: SigningKey,
        shelf: Shelf,
        space: int,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        trash_seconds: float = TRASH_SECONDS,
        admission: Admission = ANYONE,
        deals: Deals | None = None,
    ) -> None:
        self.node, self.shelf, self._clock = node, shelf, clock
        rows = VaultRows(shelf)
        self.traffic = Traffic()
        self.kinship = Kinship(node, clock, wall)
        self.friendship = Friendship(node, deals or Deals(), wall)
        steady = SteadyTime(self._now, wall, shelf.noted_time, shelf.note_time)
        self.retention = Retention(self.kinship.own, rows, shelf, steady)
        self.housekeeping = Housekeeping(
            rows, shelf, space, self.kinship, wall, trash_seconds, admission, self.retention
        )
        self.voter = Voter(self.kinship.own, rows, self._now, wall, self.retention)
        self.keeper = Keeper(rows, shelf, self.kinship, self.housekeeping, self.retention, wall)
        visitors = Visitors(self.kinship, self._now, wall)
        self.standing = Standing(rows, shelf, self.kinship, visitors, self.voter, self.retention)

    def _now(self) -> float:
        """Seconds, by the clock as it is at the call: a test may bring another one later."""
        return self._clock()

    def handle(
        self, session: Session, request: wire.Request, payload: Buffer
    ) -> tuple[wire.Reply, bytes]:
        """(reply, payload of the reply). Never raises for what a customer may cause."""
        try:
            reply, data = self._handle(session, request, payload)
            self.traffic.note(len(payload), len(data), session.network)
            return reply, data
        except Refused as refusal:
            return _fault(refusal), b""
        except Forged as error:
            return wire.Fault("forged", str(error)[:200]), b""
        except Malformed as error:
            return wire.Fault("malformed", str(error)[:200]), b""

    def _handle(
        self, session: Session, request: wire.Request, payload: Buffer
    ) -> tuple[wire.Reply, bytes]:
        vault = session.vault
        if session.role == "friend":
            return self.friendship.answer(session, request), b""
        match request:
            case wire.Ping():
                return wire.Done(), b""
            case wire.Promise(space=0):
                check_owner(session)
                if request.token:
                    self._end(vault, request.token)
                else:
                    self.housekeeping.take_back(vault)
                return wire.Done(), b""
            case wire.Promise():
                check_owner(session)
                return wire.ContractIs(self._promise(session, request)), b""
        row = self.shelf.vault(vault)
        if row is None:
            raise Refused("unknown-vault", "there is no contract with this vault here")
        if session.role == "follower" or isinstance(request, wire.Await):
            return self._answer_follower(session, row, request), b""
        reply = self.standing.answer(session, row, request)
        if reply is not None:
            return reply, b""
        self.standing.admit(session, row, request)
        read = self._answer_reader(vault, row, request)
        if read is not None:
            return read
        check_owner(session)
        return self._answer_owner(vault, row, request, payload), b""

    def _answer_follower(
        self, session: Session, row: VaultRow, request: wire.Request
    ) -> wire.Reply:
        """Where nothing is new, whoever takes the request holds the answer back (herald)."""
        if session.role != "follower" or not isinstance(request, wire.Await):
            raise Refused("unauthorised", "a follower only hears of new roots")
        return self.voter.news(row, request.known)

    def _answer_reader(
        self, vault: bytes, row: VaultRow, request: wire.Request
    ) -> tuple[wire.Reply, bytes] | None:
        """What whoever may read asks."""
        match request:
            case wire.Read():
                return wire.Bytes(), self.keeper.read(vault, request)
            case wire.Head(block, position):
                return self.keeper.head(vault, block, position), b""
            case wire.List(after, limit):
                return self.keeper.list(vault, after, limit), b""
            case wire.Usage():
                return self.keeper.usage(vault, row), b""
            case wire.Pasts():
                return self.retention.past(vault, row), b""
            case wire.ShowPast(number):
                return self.retention.past_root(vault, number), b""
        return None

    def _answer_owner(
        self, vault: bytes, row: VaultRow, request: wire.Request, payload: Buffer
    ) -> wire.Reply:
        """What only the owner may have done."""
        match request:
            case wire.Visits():
                return wire.VisitsAre(self.standing.note_visits(vault))
            case wire.Put():
                self.voter.heed(vault, request.claim)
                self.keeper.put(vault, request, payload)
            case wire.Kill(record, claim):
                self.voter.heed(vault, claim)
                self.keeper.kill(vault, row, record)
            case wire.StandDown(record, claim):
                self.voter.heed(vault, claim)
                self.standing.stand_down(vault, record)
            case wire.Prepare(claim, take_over):
                return self.voter.prepare(vault, claim, take_over)
            case wire.Accept(root, family, claim):
                self.voter.accept(vault, root, family, claim)
            case wire.Renew(claim):
                self.voter.renew(vault, claim)
            case wire.Release(claim):
                self.voter.release(vault, claim)
            case wire.Join():
                raise Refused("unauthorised", "only a friend's node may join")
        return wire.Done()

    def _promise(self, session: Session, asked: wire.Promise) -> bytes:
        vault, token = session.vault, asked.token
        if token and asks_to_retain(vault, token):
            row = self.retention.want(vault, token)
        else:
            row = self.housekeeping.promise(vault, asked.space, asked.until, token, session.network)
        retain = self.retention.seconds(row)
        contract = Contract(self.kinship.own, vault, row.space, row.until, retain)
        return seal_record(self.node, "contract", contract)

    def _end(self, vault: bytes, record: bytes) -> None:
        """Forgets a vault by its owner's record. Raises Refused, Malformed, Forged."""
        body = vault_end_records.open_untrusted(record, vault)
        if body.vault != vault or body.supplier != self.kinship.own:
            raise Refused("malformed", "the record is of another supplier or vault")
        if self.shelf.vault(vault) is None:
            return
        if self.voter.owner_here(vault):
            raise Refused("lease-held", "the vault is mounted: unmount it first")
        self.housekeeping.end(vault)

    def refuse_head(self, session: Session, request: wire.Put, length: int) -> wire.Fault | None:
        """Why a Put with `length` bytes of payload is refused, from its head alone.

        None: it is not. Asked before the payload is taken into memory.
        """
        try:
            check_owner(session)
            self.voter.heed(session.vault, request.claim)
            self.keeper.check_head(session.vault, request, length)
        except Refused as refusal:
            return _fault(refusal)
        except Forged as error:
            return wire.Fault("forged", str(error)[:200])
        except Malformed as error:
            return wire.Fault("malformed", str(error)[:200])
        return None

    # -- who may open a session

    def is_customer(self, vault: bytes) -> bool:
        """Whether a vault has a contract here that it uses: something of it is kept."""
        row = self.shelf.vault(vault)
        return row is not None and row.used > 0

    def share_of(self, vault: bytes) -> Portion:
        """Among whom what all customers share is shared out: where a vault is among them."""
        return share_of_vault(vault, self.shelf.vault(vault))

    def is_kin(self, vault: bytes, node: bytes) -> bool:
        """Whether a node is of the newest family known here, or on its bench."""
        row = self.shelf.vault(vault)
        if row is None or node not in row.family:  # it has keys as they are: none is opened
            return False
        family = self.kinship.family(vault, row)
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

    # -- what whoever runs it decides

    def leave(self) -> None:
        """From now on this supplier says that it goes, so that others take over what it keeps."""
        self.kinship.leave()

    def stand(self, vault: bytes, position: int) -> None:
        """From now on it stands in for a position of a vault, or, -1, for none."""
        self.standing.stand(vault, position)


def _fault(refusal: Refused) -> wire.Fault:
    return wire.Fault(refusal.code, refusal.detail[:200], refusal.proof)
