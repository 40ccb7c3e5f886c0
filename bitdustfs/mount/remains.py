"""What a mount whose process died has left on this machine. It takes no key and no suppliers.

Such a mount leaves the marker of its vault behind, and the vault's state as its last commit made
it. A process that ended in order, since the kernel dropped it, leaves no marker.
"""

from contextlib import closing
from pathlib import Path

from bitdustfs import config
from bitdustfs.cache.machine import machine_id
from bitdustfs.cache.state import keeps_unpublished
from bitdustfs.errors import StateLocked
from bitdustfs.mount.mountpoint import markers_of
from bitdustfs.vault.assemble import open_state_folder


def clear_marks(mountpoint: Path) -> bool | None:
    """Whether unpublished changes are kept of what was mounted there; None: nobody can tell.

    Its markers are cleared away. Raises LocalError.
    """
    markers = markers_of(mountpoint)
    marked = [folder for marker in markers for folder in _states(marker.stem)]
    kept = {_keeps(folder) for folder in marked or _states("")}
    for marker in markers:
        marker.unlink()
    if kept <= {False}:
        return False  # whichever vault it was
    return True if marked and True in kept else None


def _states(digits: str) -> list[Path]:
    """The states of this machine's vaults whose names begin so."""
    return list((config.home() / "vaults").glob(f"{digits}*"))


def _keeps(state: Path) -> bool | None:
    """The same of one vault; None while another process has its state."""
    try:
        folder = open_state_folder(config.home(), bytes.fromhex(state.name), machine_id())
    except StateLocked:
        return None
    with closing(folder):
        return keeps_unpublished(folder.path / "state")
