"""Deals of a supplier with friends' suppliers: space for space. One small file each.

A deal begins as an invitation that this supplier signed. It has a node once somebody came by it. It
is named by the nonce of that invitation, so that nobody else can come by it, and so that the vault
that came by it is known (`VaultRow.invited`). The files lie in `deals/` of the supplier's folder.
Commands write them, and so does the supplier's process.
"""

import fcntl
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from bitdustfs.cache.folder import write_durably
from bitdustfs.core.codec import U63, Decoder, encode
from bitdustfs.core.records import Record
from bitdustfs.errors import Malformed

log = logging.getLogger(__name__)

DEALS_MAX = 1000  #: of one supplier
DEAL_MAX = 8192  #: bytes of one file
_NAME, _NODE = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{64}")

_Token = Annotated[bytes, msgspec.Meta(max_length=1024)]


class Deal(Record, frozen=True):
    """What two friends promised each other, as one of them keeps it."""

    version: U63
    ours: _Token  #: the signed invitation by which the friend gets space here
    space: U63  #: bytes of it
    since: int  #: Unix seconds: when it was signed, then when the friend came
    until: int  #: Unix seconds until which somebody may come by it
    node: Annotated[bytes, msgspec.Meta(max_length=32)] = b""  #: the friend's; empty before
    addresses: Annotated[tuple[str, ...], msgspec.Meta(max_length=8)] = ()
    theirs: _Token = b""  #: the invitation by which we get space there
    gives: U63 = 0  #: bytes of it
    told: bool = False  #: the friend's supplier is known to have this deal, too
    vault: Annotated[bytes, msgspec.Meta(max_length=32)] = b""  #: ours that came by `theirs`
    name: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: who it was made for, if we said so
    ended: bool = False  #: taken back: `ours` is not good any more, also before its date
    more: dict[str, bytes] = {}  #: fields to come

    @property
    def made(self) -> bool:
        """Whether somebody came by it."""
        return bool(self.node)


_deals = Decoder(Deal, "deal", DEAL_MAX)
_seen = Decoder(dict[str, tuple[int, str]], "list of friends", 256 * DEALS_MAX)


class Deals:
    """The deals of one supplier, by nonce; in memory. Changed inside of `changing` only."""

    def __init__(self) -> None:
        self._deals: dict[bytes, Deal] = {}

    def all(self) -> dict[bytes, Deal]:
        """By nonce, the oldest first, those of one second by whom they are with; none that was
        taken back.
        """
        every = sorted(self.with_ended().items(), key=lambda item: (item[1].since, item[1].name))
        return {nonce: deal for nonce, deal in every if not deal.ended}

    def with_ended(self) -> dict[bytes, Deal]:
        """The same with those that were taken back."""
        return dict(self._deals)

    def of(self, nonce: bytes) -> Deal | None:
        """None where it was taken back, too."""
        deal = self._found(nonce)
        return None if deal is None or deal.ended else deal

    def standing(self, nonce: bytes) -> bool | None:
        """Whether an invitation is good: it is, as long as the deal is kept, once a friend came by
        it; it is not when it was taken back. None: its date decides.
        """
        deal = self._found(nonce)
        if deal is None:
            return None
        return False if deal.ended else True if deal.made else None

    def _found(self, nonce: bytes) -> Deal | None:
        return self._deals.get(nonce)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes a deal until the block is left."""
        yield

    def keep(self, nonce: bytes, deal: Deal) -> None:
        """Durably, once it returns."""
        self._deals[nonce] = deal

    def forget(self, nonce: bytes) -> None:
        """Where nothing needs to be remembered of it."""
        self._deals.pop(nonce, None)


class DealFolder(Deals):
    """The same in files, which are read at each call: other processes write them as well."""

    def __init__(self, supplier: Path) -> None:
        super().__init__()
        self._folder = supplier / "deals"

    def with_ended(self) -> dict[bytes, Deal]:
        found = {}
        for path in self._folder.glob("?" * 32):
            deal = self._read(path) if _NAME.fullmatch(path.name) else None
            if deal is not None:
                found[bytes.fromhex(path.name)] = deal
        return found

    def _found(self, nonce: bytes) -> Deal | None:
        return self._read(self._path(nonce))

    @contextmanager
    def changing(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def keep(self, nonce: bytes, deal: Deal) -> None:
        write_durably(self._path(nonce), encode(deal))

    def forget(self, nonce: bytes) -> None:
        self._path(nonce).unlink(missing_ok=True)

    # -- when friends were seen: hints, which nothing depends on

    def seen(self) -> dict[str, tuple[int, str]]:
        """When friends were reached last (Unix seconds), and at which address, by node in hex."""
        try:
            known = _seen.decode_untrusted((self._folder / "seen").read_bytes())
            return {node: when for node, when in known.items() if _NODE.fullmatch(node)}
        except (OSError, Malformed):
            return {}

    def where(self, deal: Deal) -> tuple[str, ...]:
        """Addresses of a friend: where it was reached last, then where it says that it is."""
        _, last = self.seen().get(deal.node.hex(), (0, ""))
        return tuple(dict.fromkeys(filter(None, (last, *deal.addresses))))

    def note_seen(self, found: Mapping[str, tuple[int, str]]) -> None:
        """They were reached then."""
        if found:
            with self.changing():
                known = {**self.seen(), **found}
                newest = sorted(known.items(), key=lambda item: item[1][0])[-DEALS_MAX:]
                write_durably(self._folder / "seen", encode(dict(newest)))

    def _path(self, nonce: bytes) -> Path:
        return self._folder / nonce.hex()

    def _read(self, path: Path) -> Deal | None:
        try:
            return _deals.decode_untrusted(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, Malformed) as error:
            log.warning("the deal in %s cannot be read, and is left alone: %s", path, error)
            return None
