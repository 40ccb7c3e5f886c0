"""What this machine itself remembers of a vault, and its vote, without mounting it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bitdustfs.cache.state import State
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.quorum import Known
from bitdustfs.core.records import open_family_untrusted, open_root_untrusted
from bitdustfs.core.sealing import Suite
from bitdustfs.net.supplier import Supplier
from bitdustfs.vault.assemble import open_state_folder
from bitdustfs.vault.seat import SeatBench


@contextmanager
def own_state(
    key: VaultKey, home: Path, machine: bytes, suite: Suite
) -> Iterator[tuple[Known | None, Mapping[bytes, Supplier]]]:
    """The newest root that this machine knows to have been accepted (None: of none), its seats.

    Raises StateLocked while the vault is mounted here, and StateForeign.
    """
    folder = open_state_folder(home, key.vault_id, machine)
    try:
        state = State(folder.path / "state", key.cache_key, key.vault_id, suite)
        try:
            yield _newest(key, state), SeatBench(key.vault_id, folder, state)
        finally:
            state.close()
    finally:
        folder.close()


def put_aside(home: Path, vault: bytes) -> Path:
    """Moves this machine's state of a vault where no mount finds it: the folder that it is then."""
    folder, aside = home / "vaults" / vault.hex(), home / "left"
    aside.mkdir(mode=0o700, exist_ok=True)
    target = aside / f"{vault.hex()}-{time.time_ns()}"
    folder.rename(target)
    return target


def _newest(key: VaultKey, state: State) -> Known | None:
    row = state.published()
    if row is None:
        return None
    root = open_root_untrusted(row.root, key.vault_id)
    return Known(root, row.root, open_family_untrusted(row.family, key.vault_id), row.family)
