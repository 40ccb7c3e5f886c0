"""The last resort: a vault whose roots are lost, from its blocks alone.

Every block's header is signed and says where its sealed directory is. If the newest index and all
it names are still there, it and the journals after it make a root again, and nothing is lost but
what was not published. If not, a tree is built from what data blocks' directories say: each file's
extents in the order they were written, under the path it had then. Small files that lived in the
lost tree, and the fact that a file was deleted, are not in there.
"""

import logging
import os
import stat
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.core.block import ExtentEntry, InodeHint, decode_directory_untrusted
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.items import (
    COUNTERS_KEY,
    ROOT_INODE,
    SMALL_NUMBERS,
    Entry,
    Inode,
    encode_item,
    entry_key,
    inode_key,
)
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.leaves import decode_index_untrusted
from bitdustfs.core.placement import metadata_k
from bitdustfs.core.quorum import check_known_untrusted
from bitdustfs.core.records import (
    FORMAT,
    Ballot,
    BlockHeader,
    Family,
    Features,
    Group,
    JournalRef,
    Member,
    Place,
    RootContent,
    claim_ballot,
    seal_record,
)
from bitdustfs.core.roots import keeping_snapshots, sign_root
from bitdustfs.core.sealing import Kind, Sealer, Suite
from bitdustfs.errors import Malformed, PeerError, Unavailable, Unreachable, UsageError
from bitdustfs.fs.attributes import add_live, load_counters, load_inode
from bitdustfs.fs.extents import Mapped, put_extents
from bitdustfs.fs.names import Caller, Names, now, split_time
from bitdustfs.fs.numbers import keep_clear_of
from bitdustfs.net import wire
from bitdustfs.net.register import RootRegister
from bitdustfs.net.supplier import Supplier
from bitdustfs.tree.transaction import Transaction
from bitdustfs.vault.keepers import Keepers, Tell, promised
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)

LOST = b"lost+found"
STEP = 200  #: extents mapped in one transaction


class Absent(Supplier):
    """A position whose supplier is not known any more."""

    def __init__(self, node: bytes) -> None:
        self.node = node

    async def call(self, request: wire.Request, payload: Buffer = b"") -> tuple[wire.Reply, Buffer]:
        raise Unreachable("nobody knows who kept this position")


class Written(NamedTuple):
    """One extent as its block's directory tells it; sorts in the order of writing."""

    seq: int
    written: int
    block: bytes
    ordinal: int
    entry: ExtentEntry

    @property
    def place(self) -> Place:
        e = self.entry
        return Place(self.block, e.ordinal, e.offset, e.length, e.hash)


@dataclass
class Remains:
    """What is left of a vault: what its blocks say of themselves."""

    family: Family
    raw_family: bytes
    suppliers: dict[bytes, Supplier]
    headers: dict[bytes, BlockHeader] = field(default_factory=dict)
    extents: list[Written] = field(default_factory=list)
    hints: dict[int, tuple[tuple[int, int], InodeHint]] = field(default_factory=dict)
    unreadable: int = 0

    def miss(self) -> None:
        """One more block could not be read."""
        self.unreadable += 1

    def tell(self, age: tuple[int, int], hint: InodeHint) -> None:
        """A directory of some age says this of an inode: the newest counts, and the newest path."""
        known = self.hints.get(hint.inode)
        if known is None:
            self.hints[hint.inode] = (age, hint)
        elif age > known[0]:
            self.hints[hint.inode] = (age, hint.after(known[1]))
        else:
            self.hints[hint.inode] = (known[0], known[1].after(hint))

    def connect(self, member: Member) -> Supplier:
        """The session with a member of the family found."""
        return self.suppliers[member.node]


@dataclass
class Recovered:
    """What came of it. `index`: a whole index was found, so the tree is complete."""

    index: bool
    blocks: int
    unreadable: int
    files: int = 0
    unnamed: int = 0


async def look(key: VaultKey, suppliers: Sequence[Supplier], over_root: bool, say: Tell) -> Remains:
    """Lists all blocks, works out who keeps which position, and opens every directory."""
    there = []
    for supplier in suppliers:
        try:
            current = await supplier.current()
            if check_known_untrusted(key.vault_id, current.root, current.family) and not over_root:
                raise UsageError(
                    "the suppliers still know a root of this vault: mount it. If that root is of "
                    "no use, say --over-root"
                )
        except PeerError as error:
            say(f"a supplier does not help: {error}")
            continue
        except Malformed as error:  # what nobody signed is no root
            say(f"a supplier shows a false root: {error}")
        there.append(supplier)
    keepers = Keepers(key.vault_id, there, say)
    await keepers.hear()
    headers = await keepers.headers()
    if not there:
        raise Unavailable("no supplier answers; name others with --supplier")
    if not headers:
        raise Unavailable("no supplier that answers has a block of this vault")
    family, sessions = await _family(key, headers, keepers)
    raw = seal_record(key.signing, "family", family)
    found = Remains(family, raw, sessions, headers)
    await _open_directories(key, found, say)
    return found


async def _family(
    key: VaultKey, headers: Mapping[bytes, BlockHeader], keepers: Keepers
) -> tuple[Family, dict[bytes, Supplier]]:
    """The family of epoch 0 that the fragments tell of, and the sessions with its members."""
    n = Counter(header.n for header in headers.values()).most_common(1)[0][0]
    k = max(header.k for header in headers.values() if header.n == n)
    found = await keepers.positions(headers, n)
    space = await promised(found.values(), headers.values())
    sessions = [found.get(position) or Absent(os.urandom(32)) for position in range(n)]
    members = tuple(
        Member(session.node, tuple(getattr(session, "addresses", ())), space)
        for session in sessions
    )
    body = Family(
        FORMAT, Features(), key.vault_id, 0, bytes(32), key.capability().read_proof_public,
        (Group(k, metadata_k(k), members),),
    )  # fmt: skip
    return body, {session.node: session for session in sessions}


async def _open_directories(key: VaultKey, found: Remains, say: Tell) -> None:
    fetcher = Fetcher(Circle(found.family, found.connect))
    own = key.capability()
    for number, (block, header) in enumerate(sorted(found.headers.items())):
        if number % 100 == 0:
            say(f"directory {number} of {len(found.headers)}")
        place = header.directory
        try:
            sealed = await fetcher.fetch(place)
            sealer = Sealer(own.content_key, own.vault_id, block, header.key_epoch)
            plain = sealer.open_untrusted(sealed, place.hash, place.ordinal, Kind.DIRECTORY)
            directory = decode_directory_untrusted(plain)
        except (Unavailable, Malformed) as error:
            say(f"block {block.hex()} cannot be read: {error}")
            found.miss()
            continue
        for entry in directory.extents:
            found.extents.append(Written(entry.seq, entry.written, block, entry.ordinal, entry))
        age = max((e.seq, e.written) for e in directory.extents)
        for hint in directory.inodes:
            found.tell(age, hint)
    found.extents.sort(key=lambda w: w[:4])


async def find_index(key: VaultKey, found: Remains) -> RootContent | None:
    """The newest index and the journals written after it, if every node of it can be read."""
    indexes = [w for w in found.extents if w.entry.kind == Kind.INDEX]
    journals = [w for w in found.extents if w.entry.kind == Kind.JOURNAL]
    newest = indexes[-1] if indexes else None
    if newest is not None and not await _is_whole(key, found, newest.place):
        return None
    after = [w for w in journals if newest is None or w > newest]
    first = 2 if newest is None else newest.seq + 1  # each root from there on has its journals
    seqs = {w.seq for w in after if w.seq >= first}  # that of a snapshot has one beside its index
    if seqs != set(range(first, first + len(seqs))):
        return None
    if newest is None and not after:
        return None
    refs = tuple(JournalRef(w.place, 0) for w in after)
    content = RootContent(newest.place if newest else None, refs, key.name_key, 1, 0)
    return keeping_snapshots(content)  # the tree may have some; the next root tells


async def _is_whole(key: VaultKey, found: Remains, index: Place) -> bool:
    fetcher = Fetcher(Circle(found.family, found.connect))
    own = key.capability()

    async def read(place: Place, kind: Kind) -> bytes:
        sealed = await fetcher.fetch(place)
        sealer = Sealer(own.content_key, own.vault_id, place.block, 0)
        return sealer.open_untrusted(sealed, place.hash, place.ordinal, kind)

    try:
        for branch in decode_index_untrusted(await read(index, Kind.INDEX)).refs:
            for leaf in decode_index_untrusted(await read(branch.place, Kind.INDEX)).refs:
                await read(leaf.place, Kind.LEAF)
    except (Unavailable, Malformed) as error:
        log.info("the newest index is not whole: %s", error)
        return False
    return True


async def new_root(key: VaultKey, suite: Suite, found: Remains, content: RootContent) -> None:
    """Signs a root over `content`, above all that blocks tell of, and has a majority accept it."""
    register = RootRegister(key.vault_id, found.connect, found.family)
    view = await register.read()
    seen = [header.ballot for header in found.headers.values()]
    proven = max(seen if view.proven is None else [*seen, view.proven])
    ballot = Ballot(1, os.urandom(16), proven.lineage + 1)  # it leaves the history that was lost
    seq = max(h.seq for h in found.headers.values()) + 1
    root = sign_root(
        key, suite, ballot, seq, bytes(16), found.raw_family, content, int(time.time())
    )
    register.follow(found.family)
    await register.found(root, found.raw_family, claim_ballot(key.signing, ballot))


async def build_tree(vault: WritableVault, found: Remains) -> Recovered:
    """Fills an empty, open vault with the files that data blocks tell of."""
    unnamed = 0
    caller = Caller(os.getuid(), os.getgid())
    files: dict[int, list[Written]] = defaultdict(list)
    for written in found.extents:
        if written.entry.kind == Kind.DATA:
            files[written.entry.inode].append(written)
    await vault.volume.make_root(caller)
    await vault.volume.tree.run(_reserve, files)
    folders = {b"": ROOT_INODE}
    names = vault.volume.names
    for inode, extents in sorted(files.items()):
        hint = found.hints[inode][1] if inode in found.hints else None
        path = hint.path if hint is not None and hint.path else b""
        if not path:
            path = LOST + b"/inode-%d" % inode
            unnamed += 1
        parent, _, name = path.rpartition(b"/")
        folder = await _folder(vault, folders, parent, caller)
        await vault.volume.tree.run(_add_file, names, folder, name, inode, hint, caller)
        for at in range(0, len(extents), STEP):
            await vault.volume.tree.run(_add_extents, inode, extents[at : at + STEP])
        if hint is not None:
            await vault.content.truncate(inode, hint.size)
    return Recovered(False, len(found.headers), found.unreadable, len(files), unnamed)


def _reserve(tx: Transaction, inodes: Collection[int]) -> None:
    """New inode numbers begin above all that blocks tell of."""
    counters, root = load_counters(tx), load_inode(tx, ROOT_INODE)
    small = max((inode for inode in inodes if inode < SMALL_NUMBERS), default=0)
    keep_clear_of(root, counters, small, max(inodes, default=0))
    tx.put(inode_key(ROOT_INODE), encode_item(root))
    tx.put(COUNTERS_KEY, encode_item(counters))


async def _folder(
    vault: WritableVault, folders: dict[bytes, int], path: bytes, caller: Caller
) -> int:
    """The inode of a folder, made with all above it when it is not there."""
    if path not in folders:
        above, _, name = path.rpartition(b"/")
        parent = await _folder(vault, folders, above, caller)
        found = await vault.volume.create(parent, name, stat.S_IFDIR | 0o755, caller)
        folders[path] = found.inode
    return folders[path]


def _add_file(
    tx: Transaction,
    names: Names,
    folder: int,
    name: bytes,
    inode: int,
    hint: InodeHint | None,
    caller: Caller,
) -> None:
    """An empty file under the name it had, or another one where that is taken."""
    time_ = now() if hint is None else split_time(hint.mtime)
    mode = stat.S_IFREG | 0o600 if hint is None else hint.mode
    made = Inode(1, mode, caller.uid, caller.gid, 1, 0, 0, time_, time_, now())
    cookie, taken = names.entry(tx, folder, name)
    if taken is not None:  # two files had this name one after the other
        name = name[:200] + b".inode-%d" % inode
        cookie, _ = names.entry(tx, folder, name)
    tx.put(inode_key(inode), encode_item(made))
    tx.put(entry_key(folder, cookie), encode_item(Entry(1, name, inode, stat.S_IFMT(mode))))
    counters = load_counters(tx)
    counters.inodes += 1
    tx.put(COUNTERS_KEY, encode_item(counters))


def _add_extents(tx: Transaction, inode: int, extents: Sequence[Written]) -> None:
    """Maps some extents of a file, in the order in which they were written."""
    made = load_inode(tx, inode)
    pieces = (Mapped(w.entry.file_offset, w.entry.plain_length, w.place, 0) for w in extents)
    live = put_extents(tx, inode, made, pieces)
    tx.put(inode_key(inode), encode_item(made))
    add_live(tx, live)
