"""A supplier on the owner's own machine: taken when asked for, once, and not counted on."""

import json
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from world import LIMIT, World

from bitdustfs.cache.machine import note_own_supplier, own_suppliers
from bitdustfs.core.records import Member
from bitdustfs.errors import UsageError
from bitdustfs.family import own
from bitdustfs.net.addresses import is_here


def test_the_suppliers_that_ran_here_are_known(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    assert own_suppliers() == frozenset()
    for node in (b"a" * 32, b"b" * 32, b"a" * 32):
        note_own_supplier(node)
    assert own_suppliers() == {b"a" * 32, b"b" * 32}
    assert own.on_this_machine(Member(b"a" * 32, ("127.0.0.1:4000",), 0))
    assert not own.on_this_machine(Member(b"c" * 32, ("127.0.0.1:4000",), 0))  # a swarm's
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path / "another"))
    assert own_suppliers() == frozenset()


def test_an_interface_s_address_is_this_machine_and_loopback_says_nothing(monkeypatch):
    assert not any(map(is_here, ("127.0.0.1:4000", "[::1]:4000", "0.0.0.0:4000", "nas:4000", "x")))
    assert not is_here("203.0.113.77:4000")  # of nobody (RFC 5737)

    class Probe(socket.socket):
        def bind(self, address):
            assert address == ("203.0.113.77", 0)

    monkeypatch.setattr(socket, "socket", Probe)
    assert is_here("203.0.113.77:4000")


def test_one_position_at_most_and_never_one_that_reading_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    note_own_supplier(b"a" * 32)
    mine, friend = (Member(node * 32, ("127.0.0.1:4000",), 0) for node in (b"a", b"f"))
    own.check_own(1, 2, [friend])
    with pytest.raises(UsageError, match="already"):
        own.check_own(1, 3, [mine, friend])
    with pytest.raises(UsageError, match="every supplier is needed"):
        own.check_own(2, 2, [friend])


@pytest.fixture
def circle(tmp_path, port):
    """Two strangers, and a supplier of the owner's, who has no vault yet."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    world = World(tmp_path)
    world.start(suppliers=2)
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "bitdustfs.cli.main", "supplier", "run", "--dir",
               str(tmp_path / "mine"), "--space", "5G", "--listen", address, "--bootstrap",
               world.addresses[0], "--for", "anyone"]  # fmt: skip
    with open(tmp_path / "mine.log", "wb") as log:
        supplier = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "BITDUST_HOME": str(world.home)}
        )
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline and supplier.poll() is None
            time.sleep(0.05)
    yield SimpleNamespace(world=world, address=address)
    world.close()
    supplier.terminate()
    supplier.wait(LIMIT)


def test_an_own_supplier_is_taken_when_asked_for_and_is_no_loss_that_can_be_borne(circle):
    world = circle.world
    words = ["vault", "create", "--space", "1G", "--ecc"]
    named = ["--supplier", circle.address, "--bootstrap", world.addresses[0]]
    refused = world.run(*words, "1/2", *named, check=False)
    assert refused.returncode and "--own" in refused.stderr
    found = world.run(*words, "1/3", "--bootstrap", world.addresses[0], check=False)
    assert found.returncode and "2 were found" in found.stderr  # not that of this machine
    done = world.run(*words, "1/2", *named, "--own")
    assert "no supplier may be lost: the code 1/2 needs all of them" in done.stdout
    world.mount()
    (world.mountpoint / "file").write_bytes(b"x" * 1000)
    world.run("sync", world.mountpoint)
    said = json.loads(world.run("status", world.mountpoint, "--json").stdout)
    assert [line["own"] for line in said["suppliers"]] == [True, False]
    assert said["may_lose"] == 0 and any("this very machine" in w for w in said["warnings"])
    elsewhere = next(a for a in world.addresses if a not in str(said["suppliers"]))
    moved = world.run("supplier", "replace", world.mountpoint, 0, "--with", elsewhere)
    assert moved.returncode == 0
    back = world.run(
        "supplier", "replace", world.mountpoint, 1, "--with", circle.address, check=False
    )
    assert back.returncode and "--own" in back.stderr
    world.run("unmount", world.mountpoint)
