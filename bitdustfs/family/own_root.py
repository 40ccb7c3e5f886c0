"""What this machine itself remembers of a vault's newest root, without asking anybody."""

from pathlib import Path

from bitdustfs.cache.state import State
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.quorum import Known
from bitdustfs.core.records import open_family_untrusted, open_root_untrusted
from bitdustfs.core.sealing import Suite
from bitdustfs.vault.assemble import open_state_folder


def own_root(key: VaultKey, home: Path, machine: bytes, suite: Suite) -> Known | None:
    """The newest root that this machine knows to have been accepted, and its family; None: of none.

    Raises StateLocked while the vault is mounted here, and StateForeign.
    """
    folder = open_state_folder(home, key.vault_id, machine)
    try:
        state = State(folder.path / "state", key.cache_key, key.vault_id, suite)
        try:
            row = state.published()
        finally:
            state.close()
    finally:
        folder.close()
    if row is None:
        return None
    root = open_root_untrusted(row.root, key.vault_id)
    return Known(root, row.root, open_family_untrusted(row.family, key.vault_id), row.family)
