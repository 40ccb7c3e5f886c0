"""What this machine has, read off its home: nobody else is asked, and no passphrase."""

import json
import os

import pytest

from bitdustfs.cache import keyfile
from bitdustfs.cache.folder import write_durably
from bitdustfs.cli import cmd_delete
from bitdustfs.cli.main import main
from bitdustfs.config import deleting_path, peers_path
from bitdustfs.core.keys import VaultKey
from bitdustfs.family.deleting import Keeping

OPEN, LOCKED = VaultKey(b"o" * 32), VaultKey(b"l" * 32)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    monkeypatch.setattr(keyfile, "OPS", 1)
    monkeypatch.setattr(keyfile, "MEMORY", 8192)
    keyfile.save(tmp_path / "keys" / "vault.key", OPEN)
    keyfile.save(tmp_path / "keys" / "locked.key", LOCKED, "a word")
    (tmp_path / "keys" / "notes.txt").write_text("no key")
    write_durably(peers_path(OPEN.vault_id), b"192.0.2.1:4000\n192.0.2.2:4000")
    for name in ("ab" * 32, "no vault"):
        (tmp_path / "vaults" / name).mkdir(parents=True)
    return tmp_path


def listed(capsys):
    assert main(["list", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_keys_and_states_are_listed_and_a_locked_key_is_not_opened(home, capsys):
    mine, stray, locked = listed(capsys)
    assert (mine["vault"], mine["state"]) == (OPEN.vault_id.hex(), "not mounted")
    assert [line["address"] for line in mine["contracts"]] == ["192.0.2.1:4000", "192.0.2.2:4000"]
    assert (stray["vault"], stray["key"]) == ("ab" * 32, "")
    assert (locked["vault"], locked["locked"]) == ("", True)
    deleting_path(OPEN.vault_id).write_bytes(b"\x90")
    assert listed(capsys)[0]["state"] == "deleting"
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "a supplier at  192.0.2.1:4000" in said and "locked by a passphrase" in said


def test_where_nothing_is_it_is_said_how_to_begin(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    assert listed(capsys) == []
    assert main(["list"]) == 0
    assert "bitdust vault create" in capsys.readouterr().out


def test_a_deletion_that_this_disk_refuses_to_end_is_said_and_goes_on_later(
    home, monkeypatch, capsys
):
    """Its state, its key, and what friends gave it: nothing is said to be gone that is not."""

    async def nobody_left(*_):
        return Keeping((), False, True, None)

    def refuse(*_, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cmd_delete, "who_keeps", nobody_left)
    state = home / "vaults" / OPEN.vault_id.hex()
    (state / "blocks").mkdir(parents=True)
    for stubborn in ((os, "rmdir"), (cmd_delete, "set_free")):
        with monkeypatch.context() as patched:
            patched.setattr(*stubborn, refuse)
            assert main(["vault", "delete", "--yes"]) == 1
        said = capsys.readouterr()
        assert "is gone" not in said.out and "Permission denied" in said.err
        assert listed(capsys)[0]["state"] == "deleting"
    assert main(["vault", "delete", "--yes"]) == 0
    assert not state.exists() and not deleting_path(OPEN.vault_id).exists()
