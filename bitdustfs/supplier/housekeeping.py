"""What a supplier's space is promised to and taken by: offers, contracts, the trash."""

import logging
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from bitdustfs.errors import Refused
from bitdustfs.supplier.admission import TOKEN_NONCE, Admission
from bitdustfs.supplier.kinship import Kinship
from bitdustfs.supplier.retention import Retention
from bitdustfs.supplier.shares import Portion, is_several, parts_of, share_of_network
from bitdustfs.supplier.shelf import Shelf
from bitdustfs.supplier.shelfrows import VaultRow, family_token
from bitdustfs.supplier.vaultrows import VaultRows
from bitdustfs.units import MIB, format_size

log = logging.getLogger(__name__)

TRASH_SECONDS = 3 * 86400.0  #: how long deleted blocks can still be read, where there is room
DISCARD_AT_ONCE = 1000  #: fragments of the trash that go in one transaction
CONTRACT_MIN = 4 * MIB  #: bytes of the smallest contract: what a stranger makes us remember costs
CONTRACT_LONGEST = 2 * 365 * 86400  #: seconds from now that a contract may run at most
UNUSED_SECONDS = 600.0  #: how long a contract binds of which nothing is used
UNUSED_MAX = 1000  #: vaults without a fragment here that are remembered
NETWORK_SHARE = 4  #: a network that was not invited is promised one in so many bytes at most
NETWORK_VAULTS = 256  #: vaults of such a network to which something is promised
GRACE_SHARE, GRACE_MAX = 32, 16 * MIB  #: see grace


def grace(space: int) -> int:
    """Bytes that a vault may have here beyond its contract over `space` bytes.

    Owners reckon with the contract. A vault that fills it all the same could never delete again: a
    root without what was deleted has to be published first, and that takes some room.
    """
    return min(space // GRACE_SHARE, GRACE_MAX)


class Housekeeping:
    """The space of one supplier: `space` bytes that it donates. Thread-safe."""

    def __init__(
        self,
        rows: VaultRows,
        shelf: Shelf,
        space: int,
        kinship: Kinship,
        wall: Callable[[], float],
        trash_seconds: float,
        admission: Admission,
        retention: Retention,
    ) -> None:
        self._rows, self._shelf, self._space, self._kinship = rows, shelf, space, kinship
        self._retention = retention
        self._wall, self._trash_seconds, self._admission = wall, trash_seconds, admission
        self._paused = False
        self._members: dict[bytes, tuple[bytes, bool]] = {}  # vault -> family's token, of it?

    def offer(self) -> int:
        """Bytes that may still be promised: none by a supplier that leaves."""
        if self._kinship.leaving or self._paused:
            return 0
        return max(0, self._space - self.promised())

    @property
    def space(self) -> int:
        """Bytes that are donated."""
        return self._space

    @property
    def paused(self) -> bool:
        """Whether no new contracts are made."""
        return self._paused

    def pause(self, paused: bool) -> None:
        """Makes no new contracts from now on, or makes them again. What is kept is served."""
        self._paused = paused

    def donate(self, space: int) -> None:
        """So many bytes are donated from now on. What was promised stays promised."""
        self._space = space

    def change(self, space: int, admission: Admission, trash_seconds: float) -> None:
        """From now on all of these hold. What was promised stays promised."""
        self._space, self._admission, self._trash_seconds = space, admission, trash_seconds

    def promised(self) -> int:
        """Bytes of contracts that bind."""
        rows = self._shelf.all_rows()
        return sum(row.space for vault, row in rows if self._binds(vault, row))

    def binds(self, vault: bytes, row: VaultRow) -> bool:
        """Whether the promise to a vault still holds."""
        return self._binds(vault, row)

    def announced(self) -> int:
        """Bytes that whoever comes may ask for: none where only those who were invited may."""
        return self.offer() if self._admission.anyone else 0

    def _binds(self, vault: bytes, row: VaultRow) -> bool:
        """Whether a promise still holds.

        That is until its date, while this supplier is of the family, and while it is used or new.
        And until what the retention holds is over.
        """
        if self._retention.holds(row):
            return True
        return row.until > self._wall() and not self._lapsed(row) and self._is_member(vault, row)

    def _lapsed(self, row: VaultRow) -> bool:
        """Whether nothing came of a contract: of strangers, that costs them nothing.

        Nor is one waited for that was made long from now, by a clock that has been set back since.
        """
        idle = abs(self._wall() - row.made) > UNUSED_SECONDS
        return not row.used and not row.invited and idle

    def _is_member(self, vault: bytes, row: VaultRow) -> bool:
        """Whether this supplier is of the vault's family, as far as one is known here."""
        token = family_token(row)
        if not token:
            return True
        known = self._members.get(vault)
        if known is None or known[0] != token:
            whole = self._shelf.vault(vault)
            family = None if whole is None else self._kinship.family(vault, whole)
            is_member = family is None or family.member(self._kinship.own) is not None
            known = self._members[vault] = token, is_member
        return known[1]

    def _taken(self) -> int:
        """Bytes that are promised, or in use by vaults to which nothing is promised any more."""
        rows = self._shelf.all_rows()
        return sum(row.space if self._binds(vault, row) else row.used for vault, row in rows)

    def check_room(self, vault: bytes, row: VaultRow, size: int) -> None:
        """Raises Refused where there is no room for a fragment that is charged with `size` bytes.

        The contract's space and date are looked at, and what is donated in all. A contract that
        lapsed has to find its whole room again before it is used.
        """
        if row.until <= self._wall():
            raise Refused("quota", "the contract has ended: it has to be renewed")
        room = row.space + grace(row.space) - row.used - size
        retained = 0 if room >= 0 else self._shelf.retained.of(vault)
        if room + retained >= 0 > room:
            until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self._retention.date(row)))
            raise Refused(
                "retained",
                f"{format_size(retained)} of what was deleted are kept until {until} at the latest",
            )
        if room < 0:
            raise Refused("quota", f"the contract of {format_size(row.space)} is used up")
        if self._binds(vault, row):
            if self._shelf.used_total() + size > self._space:
                self.make_room()
            full = self._shelf.used_total() + size > self._space + grace(self._space)
        elif self._is_member(vault, row):
            full = row.space > self.offer()
        else:
            full = self._taken() + size > self._space
        if full:
            raise Refused("no-space", "what was not used is promised to others by now")

    def promise(
        self, vault: bytes, space: int, until: int, token: bytes = b"", network: str = ""
    ) -> VaultRow:
        """The row of a vault once it has a contract over `space` bytes. Raises Refused.

        A contract is never cut short, and ends some years from now at the latest. `network`: where
        the owner asks from (net/addresses.py), "" for a private network.
        """
        if space < CONTRACT_MIN:
            raise Refused("malformed", f"a contract is over {format_size(CONTRACT_MIN)} at least")
        if self._kinship.leaving:
            raise Refused("no-space", "this supplier leaves")
        if self._paused and not self._shelf.vault(vault):
            raise Refused("no-space", "this supplier makes no new contracts for now")
        until = min(until, int(self._wall()) + CONTRACT_LONGEST)
        with self._rows.alone():
            row = self._shelf.vault(vault) or VaultRow(0, 0)
            if token or space > row.space or not (row.used or row.family):
                invited = self._admission.admit(vault, token, space, self._wall())
                self._check_once(vault, invited)
                row = msgspec.structs.replace(row, invited=invited or row.invited)
            binds = self._binds(vault, row)
            free = self.offer() + (row.space if binds else 0)
            if space > free:
                raise Refused(
                    "no-space", f"{format_size(space)} asked for, {format_size(free)} to give"
                )
            if network and not row.invited and not self._has_room(vault, network, space):
                if not binds or space > row.space:
                    raise Refused(
                        "no-space", f"{network} has its share of what this supplier gives"
                    )
                network = row.network  # what was promised stays, and counts where it did
            if space + grace(space) < row.used:
                raise Refused("quota", f"{format_size(row.used)} are in use already")
            made = row.made if binds or row.used else int(self._wall())
            promised = msgspec.structs.replace(
                row, space=space, until=max(until, row.until), made=made, network=network
            )
            self._rows.write(vault, promised)
        self.make_room()
        return promised

    def take_back(self, vault: bytes) -> None:
        """Ends a contract of which nothing came: by the same token another vault may come.

        Its owner says that there is no such vault, so a claim or a root is not waited for. Raises
        Refused where a fragment of the vault is here.
        """
        with self._rows.alone():
            row = self._shelf.vault(vault)
            if row is None:
                return
            if row.used:
                raise Refused("unauthorised", "the contract is in use")
            self._shelf.forget(vault)

    def end(self, vault: bytes) -> None:
        """Forgets a vault whose owner said so: its fragments, its register, its contract.

        Raises Refused where its retention holds: then it is forgotten once that is over.
        """
        if date := self._retention.end(vault):
            until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(date))
            raise Refused("retained", f"it keeps what it has until {until}, by the retention")
        log.info("vault %s was deleted by its owner", vault.hex()[:12])
        with self._rows.alone():
            self._shelf.forget(vault)
        self._shelf.sweep()

    def _check_once(self, vault: bytes, invited: bytes) -> None:
        """Raises Refused where another vault came by the same token."""
        if len(invited) == TOKEN_NONCE and any(
            row.invited == invited for other, row in self._shelf.all_rows() if other != vault
        ):
            raise Refused("unauthorised", "another vault came by this token already")

    def _has_room(self, vault: bytes, network: str, space: int) -> bool:
        """Whether one network would not be promised too much of what is donated, nor too often."""
        promised: Counter[Portion] = Counter()
        vaults: Counter[Portion] = Counter()
        for other, row in self._shelf.all_rows():
            if row.network and other != vault and not row.invited and self._binds(other, row):
                for part in parts_of(share_of_network(row.network)):
                    promised[part] += row.space
                    vaults[part] += 1
        for part in parts_of(share_of_network(network)):
            shares = 2 if is_several(part) else 1
            most = self._space * shares // NETWORK_SHARE
            if promised[part] + space > most or vaults[part] >= NETWORK_VAULTS * shares:
                return False
        return True

    def make_room(self) -> int:
        """Forgets vaults whose contracts ended, oldest first, where they are in the way; how many.

        As long as there is room their owners may come back to them.
        """
        rows = self._shelf.all_rows()
        for gone in self._members.keys() - {vault for vault, _ in rows}:
            del self._members[gone]
        binding = {vault for vault, row in rows if self._binds(vault, row)}
        taken = sum(row.space if vault in binding else row.used for vault, row in rows)
        ended = sorted((r.until, vault, r) for vault, r in rows if vault not in binding)
        forgotten = 0
        for _, vault, row in ended:
            if row.used and taken <= self._space:
                continue
            if self._waits(vault, row):
                continue
            with self._rows.alone():
                now = self._shelf.vault(vault)
                if now is None or self._binds(vault, now):
                    continue  # it came back meanwhile
                log.info("the contract with vault %s has ended: it is forgotten", vault.hex()[:12])
                self._shelf.forget(vault)
            taken -= row.used
            forgotten += 1
        forgotten += self._forget_unused()
        if forgotten:
            self._shelf.sweep()
        return forgotten

    def _waits(self, vault: bytes, row: VaultRow) -> bool:
        """Whether a contract only lapsed, and its vault may call for this supplier: a reserve."""
        return (
            not row.used
            and bool(row.family)
            and row.until > self._wall()
            and self._is_member(vault, row)
        )

    def _forget_unused(self) -> int:
        """Where too many vaults use nothing here, those of the network with most go, oldest
        first; how many.
        """
        unused = [
            (vault, row) for vault, row in self._shelf.all_rows()
            if not row.used and not row.invited
        ]  # fmt: skip
        unused.sort(key=lambda item: item[1].made)
        networks = Counter(share_of_network(row.network)[0] for _, row in unused)
        forgotten = 0
        while len(unused) > UNUSED_MAX:
            most = max(networks, key=lambda network: networks[network])
            vault, row = next(i for i in unused if share_of_network(i[1].network)[0] == most)
            unused.remove((vault, row))
            networks[most] -= 1
            self._shelf.forget(vault)
            forgotten += 1
        return forgotten

    def tidy(self) -> int:
        """Empties the trash of what is old, or in the way of what was promised; bytes freed.

        Takes as long as there is to free: it is called after each deletion.
        """
        self._retention.release(int(self._wall()))
        self._shelf.sweep()
        trash, freed = self._shelf.trash, 0
        too_old = self._wall() - self._trash_seconds
        while True:
            room = self._space - self._shelf.used_total()
            items = trash.due(too_old, trash.total - room, DISCARD_AT_ONCE)
            if not items:
                return freed
            freed += self._shelf.discard(items)
