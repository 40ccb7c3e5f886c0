"""What a mount whose process died has left on this machine. It takes no key and no suppliers.

Such a mount leaves the marker of its vault behind, and the vault's state as its last commit made
it. So does one that the kernel dropped, whose process ended in order. A mount of another
BITDUST_HOME leaves nothing here, and nothing is known of it. Looking makes no file.
"""

import re
from contextlib import closing
from pathlib import Path

from bitdustfs import config
from bitdustfs.cache.folder import MARKER
from bitdustfs.cache.machine import machine_id
from bitdustfs.cache.state import keeps_unpublished
from bitdustfs.errors import LocalError
from bitdustfs.mount.mountpoint import attached_marker, is_dead, markers_of, take_away
from bitdustfs.vault.account import left_by_another
from bitdustfs.vault.assemble import open_state_folder

VAULT_NAME = re.compile("[0-9a-f]{64}")  #: of the folder with a vault's state


def clear_dead(mountpoint: Path, vault: bytes) -> str:
    """Clears a dead mount away, before `vault` is mounted there; what to say of it, or "".

    Marks of other vaults go with it. What they left is published by their own next mount. Raises
    LocalError.
    """
    if not is_dead(mountpoint):
        return ""
    take_away(mountpoint, lazily=True)
    said = [f"a dead mount was at {mountpoint}: it is cleared away"]
    own = attached_marker(vault).stem  # its mount sees to what is left of it
    for digits, kept in _cleared(mountpoint, own).items():
        if left := left_by_another(kept):
            said.append(f"it was of another vault, {digits}: {left}")
    return "; ".join(said)


def clear_marks(mountpoint: Path) -> bool | None:
    """Whether unpublished changes are kept of what was mounted there.

    False only where a marker named this very path, and the state of its vault says so; None:
    nothing here tells. Its markers are cleared away in any case. Raises OSError.
    """
    kept = _cleared(mountpoint).values()
    if True in kept:
        return True
    return False if kept and None not in kept else None


def _cleared(mountpoint: Path, but: str = "") -> dict[str, bool | None]:
    """The same of each vault that was mounted there, by how its name begins, `but` this one."""
    markers = [marker for marker in markers_of(mountpoint) if marker.stem != but]
    try:
        return {digits: _keeps(digits) for digits in sorted({marker.stem for marker in markers})}
    finally:
        for marker in markers:
            marker.unlink(missing_ok=True)


def _keeps(digits: str) -> bool | None:
    """The same of the vault whose name begins so; None: its state is not there, is in use, or
    cannot be read.
    """
    folders = (config.home() / "vaults").glob(f"{digits}*")
    kept = [_read(folder) for folder in folders if VAULT_NAME.fullmatch(folder.name)]
    return kept[0] if len(kept) == 1 else None


def _read(folder: Path) -> bool | None:
    state = folder / "state"
    try:
        if not (folder / MARKER).is_file() or not (state / "data.mdb").stat().st_size:
            return None
        owned = open_state_folder(config.home(), bytes.fromhex(folder.name), machine_id())
        with closing(owned):
            return keeps_unpublished(state)
    except (LocalError, OSError):
        return None
