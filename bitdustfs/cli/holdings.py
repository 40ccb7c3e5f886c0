"""What this machine has: keys, its state of vaults, mounts, and contracts with suppliers.

Nobody else is asked. A key that is locked by a passphrase is not opened, so its vault is known only
while that is mounted. `bitdust list --json` prints these lines: a field may be added, and none is
renamed.
"""

import re
from contextlib import suppress
from pathlib import Path

import msgspec

from bitdustfs import config
from bitdustfs.cache import keyfile
from bitdustfs.cache.machine import known_addresses, machine_id
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Member
from bitdustfs.errors import BitdustError, KeyFileError
from bitdustfs.family.own_root import own_state
from bitdustfs.mount.client import MountClient
from bitdustfs.mount.cpu import suite
from bitdustfs.mount.mountpoint import attached

VAULT_NAME = re.compile("[0-9a-f]{64}")  #: of the folder of a vault's state
BLOCK = 512  #: bytes in which the kernel counts what a file takes


class ContractLine(msgspec.Struct, frozen=True, kw_only=True):
    """A supplier that promised something to a vault, as this machine knows."""

    node: str  #: empty where the vault was never mounted here: only the address is known
    address: str
    space: int  #: bytes that it promised; 0 where that is not known


class VaultLine(msgspec.Struct, frozen=True, kw_only=True):
    """A vault of which this machine has something."""

    vault: str  #: empty for a locked key that is not mounted
    key: str  #: the key file; empty where the key is somewhere else
    locked: bool  #: the key file needs a passphrase
    mountpoint: str  #: empty where it is not mounted here
    state: str  #: of a mount: published, local or read-only; dead; deleting; or "not mounted"
    code: str  #: K/N; empty where it is not known
    contracts: list[ContractLine]
    local: int  #: bytes that its blocks and state take on this machine's disk


class _KeyFile(msgspec.Struct, frozen=True):
    path: str
    key: VaultKey | None  #: None: it is locked


def vault_lines() -> list[VaultLine]:
    """All of them: those that are mounted, then those that are not."""
    keys = _keys()
    by_vault = {one.key.vault_id.hex(): one for one in keys if one.key is not None}
    lines = [line for path in attached() for line in _mounted(path, by_vault)]
    there = {line.vault for line in lines}
    lines += [_idle(vault, one) for vault, one in by_vault.items() if vault not in there]
    there |= by_vault.keys()
    lines += [_idle(name, None) for name in sorted(_state_folders()) if name not in there]
    return lines + [_line("", one) for one in keys if one.key is None]


def _keys() -> list[_KeyFile]:
    found = []
    for path in sorted(config.default_key_path().parent.glob("*")):
        if keyfile.is_locked(path):
            found.append(_KeyFile(str(path), None))
            continue
        with suppress(KeyFileError):  # no key
            found.append(_KeyFile(str(path), keyfile.load(path)))
    return found


def _state_folders() -> list[str]:
    folder = config.home() / "vaults"
    return [path.name for path in folder.glob("*") if VAULT_NAME.fullmatch(path.name)]


def _mounted(path: Path, keys: dict[str, _KeyFile]) -> list[VaultLine]:
    """The line of a mount; none where it ends just now."""
    try:
        mount = MountClient(path)
    except BitdustError:  # dead
        return [_line("", None, mountpoint=str(path), state="dead")]
    with suppress(BitdustError):
        status, policy = mount.status(), mount.policy()
        contracts = [
            ContractLine(node=line.node, address=line.address, space=line.space)
            for line in status.suppliers
        ]
        key, code = keys.get(status.vault), f"{policy.k}/{policy.n}"
        return [_line(status.vault, key, str(path), status.state, code, contracts)]
    return []


def _idle(vault: str, key: _KeyFile | None) -> VaultLine:
    """The line of a vault that is not mounted, by what is kept of it here."""
    members: tuple[Member, ...] = ()
    code = ""
    if key is not None and key.key is not None and vault in _state_folders():
        # an error: it is being unmounted, or of another machine
        with (
            suppress(BitdustError),
            own_state(key.key, config.home(), machine_id(), suite()) as (
                own,
                _,
            ),
        ):
            if own is not None:
                group, members = own.family.group, own.family.members
                code = f"{group.k}/{group.n}"
    contracts = [
        ContractLine(node=m.node.hex(), address=" ".join(m.addresses[:1]), space=m.space)
        for m in members
    ] or [
        ContractLine(node="", address=address, space=0)
        for address in known_addresses(bytes.fromhex(vault))
    ]
    deleting = config.deleting_path(bytes.fromhex(vault)).exists()
    return _line(vault, key, "", "deleting" if deleting else "not mounted", code, contracts)


def _line(
    vault: str,
    key: _KeyFile | None,
    mountpoint: str = "",
    state: str = "not mounted",
    code: str = "",
    contracts: list[ContractLine] | None = None,
) -> VaultLine:
    return VaultLine(
        vault=vault, key="" if key is None else key.path,
        locked=key is not None and key.key is None, mountpoint=mountpoint, state=state, code=code,
        contracts=contracts or [], local=_local(vault) if vault else 0,
    )  # fmt: skip


def _local(vault: str) -> int:
    """Bytes of this machine's disk. What goes meanwhile is not counted."""
    size = 0
    for path in (config.home() / "vaults" / vault).rglob("*"):
        with suppress(OSError):
            size += path.lstat().st_blocks * BLOCK
    return size
