"""A supplier for those it invited: the token that it prints, and where an owner gives it."""

import os
import socket
import subprocess
import sys
import time

import pytest
from world import LIMIT, World

MINE = "127.0.0.1"


@pytest.fixture
def invited(tmp_path, port):
    """A world without a swarm, and the address of a supplier that runs as it does by default."""
    world = World(tmp_path)
    address = f"{MINE}:{port}"
    command = [sys.executable, "-m", "bitdustfs.cli.main", "supplier", "run", "--dir",
               str(tmp_path / "theirs"), "--space", "512M", "--listen", address]  # fmt: skip
    home = {**os.environ, "BITDUST_HOME": str(tmp_path / "their-home")}
    with open(tmp_path / "log", "wb") as log:
        supplier = subprocess.Popen(command, stdout=log, stderr=log, env=home)
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            socket.create_connection((MINE, int(address.rpartition(":")[2])), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline and supplier.poll() is None
            time.sleep(0.05)
    yield world, address
    supplier.terminate()
    supplier.wait(LIMIT)


def test_one_vault_comes_by_a_token_and_nobody_without(invited):
    world, address = invited
    words = ["vault", "create", "--ecc", "1/1", "--space", "64M", "--supplier", address]
    refused = world.run(*words, check=False)
    assert refused.returncode == 1 and "invites whom it keeps data for" in refused.stderr
    token = world.run("supplier", "invite", "--dir", world.root / "theirs").stdout.strip()
    (world.root / "token").write_text(token + "\n")
    world.run(*words, "--invitation", f"@{world.root / 'token'}")
    again = world.run(*words, "--invitation", token, "--key", world.root / "second", check=False)
    assert again.returncode == 1 and "another vault came by this token" in again.stderr
    assert not (world.root / "second").exists()


def test_a_vault_that_comes_to_nothing_leaves_its_invitation_for_the_next(invited):
    world, address = invited
    with socket.socket() as probe:
        probe.bind((MINE, 0))
        nobody = f"{MINE}:{probe.getsockname()[1]}"
        words = ["--space", "64M", "--supplier", address, "--key", world.root / "key"]
        token = world.run("supplier", "invite", "--dir", world.root / "theirs").stdout.strip()
        create = ["vault", "create", *words, "--invitation", token]
        failed = world.run(*create, "--ecc", "1/2", "--supplier", nobody, check=False)
    assert failed.returncode == 1 and nobody in failed.stderr
    world.run(*create, "--ecc", "1/1")
