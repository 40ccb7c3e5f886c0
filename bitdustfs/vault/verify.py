"""Verifies a vault: its tree, what this machine keeps, and what the suppliers keep.

The tree is walked as it was at one instant, while the mount goes on. Three questions: does the tree
agree with itself; is what this machine keeps what the tree names; could every block be rebuilt, and
how many suppliers may each still lose? What cannot be looked at, because whoever has it does not
answer, is no fault, and is said as well: not having looked is not the same as nothing being wrong.
"""

import stat
from collections import Counter, OrderedDict

from bitdustfs.core.hashing import digest
from bitdustfs.core.items import (
    ENTRY,
    EXTENT,
    INODE,
    ORPHAN,
    ROOT_INODE,
    SNAPSHOT,
    USE,
    XATTR,
    Counters,
    Inode,
    decode_counters,
    decode_entry,
    decode_extent,
    decode_inode,
    decode_snapshot,
    decode_use,
    decode_xattr,
    key_object,
    tail_u64,
)
from bitdustfs.core.leaves import Index, Leaf
from bitdustfs.core.records import Place
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import Unavailable
from bitdustfs.tree.transaction import page
from bitdustfs.tree.tree import Tree
from bitdustfs.vault.findings import Report
from bitdustfs.vault.fragments import Fragments, OnItems
from bitdustfs.vault.reading import ReadVault

PAGE = 2000  #: items looked at in one transaction


class _Walk:
    """One pass over all items, in key order: everything of one inode comes together."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.modes: dict[int, tuple[int, int, int]] = {}  # inode -> (mode, nlink, parent)
        self.names: Counter[int] = Counter()
        self.folders: Counter[int] = Counter()  # folder -> folders in it
        self.entries: list[tuple[int, int, int]] = []  # folder, inode, type bits
        self.orphans: set[int] = set()
        self.uses: dict[bytes, int] = {}
        self.live: Counter[bytes] = Counter()
        self.places: list[Place] = []  # of extents, since they were taken last
        self.counters: Counters | None = None
        self._inode = 0
        self._attributes: Inode | None = None
        self._reached = 0

    def take(self, key: bytes, value: bytes) -> None:
        """One item."""
        self.report.checked(items=1)
        inode, kind = key_object(key), key[8]
        if kind == INODE:
            self._end()
            self._inode, self._attributes = inode, decode_inode(value)
            made = self._attributes
            self.modes[inode] = (made.mode, made.nlink, made.parent)
        elif kind == ENTRY:
            entry = decode_entry(value)
            self.entries.append((inode, entry.inode, stat.S_IFMT(entry.mode)))
        elif kind == EXTENT:
            self._extent(inode, tail_u64(key), value)
        elif kind == XATTR:
            for place in decode_xattr(value).extents:
                self._place(place, 1)
        elif kind == ORPHAN:
            self.orphans.add(tail_u64(key))
        elif kind == USE:
            self.uses[key[-16:]] = decode_use(value).live
        elif kind == SNAPSHOT:
            decode_snapshot(value)
        else:
            self.counters = decode_counters(value)

    def _place(self, place: Place, live: int) -> None:
        self.live[place.block] += live
        if not self.places or self.places[-1] != place:  # overwriting leaves parts of one extent
            self.places.append(place)

    def take_places(self) -> list[Place]:
        """Where the extents are that were met since the last call."""
        taken, self.places = self.places, []
        return taken

    def _extent(self, inode: int, offset: int, value: bytes) -> None:
        extent = decode_extent(value)
        if inode != self._inode or offset != self._reached:
            self.report.fault(f"inode {inode}: its extents have a gap or overlap at {offset}")
        self._reached = offset + extent.length
        if extent.place is not None:
            self._place(extent.place, extent.length)

    def _end(self) -> None:
        """The items of one inode are complete."""
        made, self._attributes = self._attributes, None
        if made is not None:
            size = len(made.inline) if made.inline is not None else self._reached
            if stat.S_ISREG(made.mode) and size != made.size:
                self.report.fault(f"inode {self._inode}: {size} bytes are mapped of {made.size}")
        self._reached = 0

    def finish(self) -> None:
        """What can only be said at the end."""
        self._end()
        fault = self.report.fault
        for folder, inode, kind in self.entries:
            self.names[inode] += 1
            found = self.modes.get(inode)
            if found is None:
                fault(f"folder {folder} names inode {inode}, which is not there")
            elif stat.S_IFMT(found[0]) != kind:
                fault(f"folder {folder} names inode {inode} as something else than it is")
            elif stat.S_ISDIR(kind):
                self.folders[folder] += 1
                if found[2] != folder:
                    fault(f"folder {inode} lies in {folder} but says {found[2]}")
        for inode, (mode, nlink, _) in self.modes.items():
            names = self.names[inode] + (inode == ROOT_INODE)
            is_folder = stat.S_ISDIR(mode)
            wanted = (2 + self.folders[inode] if names else 0) if is_folder else names
            if nlink != wanted:
                fault(f"inode {inode} counts {nlink} names and has {wanted}")
            if not names and inode not in self.orphans:
                fault(f"inode {inode} has no name")
        for block in {*self.uses, *self.live}:
            if self.uses.get(block, 0) != self.live[block]:
                fault(
                    f"block {block.hex()}: {self.uses.get(block, 0)} bytes are counted as in use, "
                    f"{self.live[block]} are"
                )
        counters = self.counters
        if counters is not None and counters.inodes != len(self.modes):
            fault(f"{counters.inodes} inodes are counted, {len(self.modes)} are there")
        self.report.walked(len(self.modes), len(self.live))


async def _walk(vault: ReadVault, report: Report, progress: OnItems) -> _Walk:
    """All items of the tree as it is at the call, and the extents that this machine has.

    Extents are checked as they are met: what is kept in memory grows with files and blocks only.
    """
    shadow = vault.volume.tree.shadow()
    found = _Walk(report)
    low = b""
    while items := await shadow.run(page, low, b"\xff" * 9, PAGE):
        for key, value in items:
            found.take(key, value)
        low = items[-1][0] + b"\0"
        for place in found.take_places():
            await _check_local(vault, place, report)
        await progress("items", report.items, 0)
    found.finish()
    return found


async def _walk_past(vault: ReadVault, report: Report, progress: OnItems) -> set[bytes]:
    """The trees of all snapshots, each leaf once; the blocks that they are in and refer to.

    What two snapshots share is looked at once. Extents are checked as those of the tree are.
    """
    blocks: set[bytes] = set()
    walked: set[bytes] = set()  # hashes of branches and leaves
    nodes: OrderedDict[bytes, Leaf | Index] = OrderedDict()
    for kept in await vault.catalogue.kept():
        tree, index = Tree(vault.reader, kept.item.index, nodes=nodes), kept.item.index
        try:
            refs = () if index is None else (await tree.load_index(index)).refs
            blocks |= set() if index is None else {index.block}
            for branch in (ref.place for ref in refs if ref.place.hash not in walked):
                for leaf in (ref.place for ref in (await tree.load_index(branch)).refs):
                    if leaf.hash not in walked:
                        blocks |= await _look_into(vault, tree, leaf, report)
                        await progress("items", report.items, 0)
                    walked.add(leaf.hash)
                    blocks.add(leaf.block)
                walked.add(branch.hash)
                blocks.add(branch.block)
        except Unavailable as error:
            name = kept.name.decode(errors="replace")
            report.not_seen(f"snapshot {name} could not be read to its end: {error}")
        else:
            report.checked(snapshots=1)
    return blocks


async def _look_into(vault: ReadVault, tree: Tree, place: Place, report: Report) -> set[bytes]:
    """The blocks that the items of one leaf of a snapshot refer to."""
    leaf = await tree.load(place, Kind.LEAF)
    assert isinstance(leaf, Leaf)
    places: set[Place] = set()
    for key, value in zip(leaf.keys, leaf.values, strict=True):
        if key[8] == EXTENT and (extent := decode_extent(value).place) is not None:
            places.add(extent)
        elif key[8] == XATTR:
            places.update(decode_xattr(value).extents)
    report.checked(items=len(leaf.keys))
    for extent in places:
        await _check_local(vault, extent, report)
    return {extent.block for extent in places}


async def verify(vault: ReadVault, local_only: bool, sample: float, progress: OnItems) -> Report:
    """The tree and this machine's blocks; unless `local_only`, a share `sample` of all
    fragments. Raises LocalError.
    """
    report = Report()
    try:
        found = await _walk(vault, report, progress)
        past = await _walk_past(vault, report, progress)
        if not local_only:
            blocks = {
                *past,
                *found.live,
                *(place.block for place in await vault.volume.tree.nodes()),
            }
            published = vault.state.published()
            blocks |= {ref.place.block for ref in published.journal} if published else set()
            await Fragments(vault, report, sample).check(blocks, progress)
    except Unavailable as error:  # leaves of the tree that this machine does not have
        report.not_seen(f"the vault's tree could not be read to its end: {error}")
    report.conclude(local_only, sample, (await vault.account()).published)
    return report


async def _check_local(vault: ReadVault, place: Place, report: Report) -> None:
    """An extent that is in use, if this machine still has its block."""
    row = vault.state.blocks.get(place.block)
    if row is None or not row.local:
        return
    sealed = await vault.reader.read_sealed_local(place)
    report.checked(extents=1)
    if sealed is None or digest(sealed) != place.hash:
        report.fault(
            f"this machine's copy of block {place.block.hex()} is damaged at {place.offset}"
        )
