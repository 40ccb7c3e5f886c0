"""What a command of this version says to a process of the version before it, and the other way."""

import json

import msgspec
import pytest

from bitdustfs.mount import commands
from bitdustfs.mount.commands import MOUNT_COMMANDS
from bitdustfs.net.control import COMMAND_MAX
from bitdustfs.supplier import orders
from bitdustfs.supplier.orders import SUPPLIER_COMMANDS

#: as the version before `bandwidth=` said them, every field of each
RECORDED = [
    (commands.AskStatus(), b'{"verb":"status"}'),
    (commands.AskSuppliers(), b'{"verb":"suppliers"}'),
    (commands.Sync(), b'{"verb":"sync","patience":30.0}'),
    (commands.Sync(patience=5.0), b'{"verb":"sync","patience":5.0}'),
    (commands.Keep(), b'{"verb":"keep"}'),
    (commands.Turn(read_only=True), b'{"verb":"turn","read_only":true}'),
    (
        commands.Replace(position=1),
        b'{"verb":"replace","position":1,"address":"","own":false,"tokens":[]}',
    ),
    (
        commands.Replace(position=2, address="a:4000", own=True, tokens=("t",)),
        b'{"verb":"replace","position":2,"address":"a:4000","own":true,"tokens":["t"]}',
    ),
    (commands.AskGone(), b'{"verb":"gone"}'),
    (commands.Forgive(supplier="ab"), b'{"verb":"forgive","supplier":"ab"}'),
    (commands.Rebuild(), b'{"verb":"rebuild"}'),
    (commands.AskMap(), b'{"verb":"map"}'),
    (commands.AskPolicy(), b'{"verb":"policy"}'),
    (commands.SetPolicy(words={"margin": 1}), b'{"verb":"set","words":{"margin":1}}'),
    (commands.SetSpace(size=1 << 30), b'{"verb":"space","size":1073741824,"tokens":[]}'),
    (commands.Verify(), b'{"verb":"verify","local":false,"sample":1.0}'),
    (commands.Verify(local=True, sample=0.5), b'{"verb":"verify","local":true,"sample":0.5}'),
    (commands.AskSnapshots(), b'{"verb":"snapshots"}'),
    (commands.AskSchedule(), b'{"verb":"schedule"}'),
    (commands.MakeSnapshot(name="n"), b'{"verb":"snapshot","name":"n","patience":30.0}'),
    (
        commands.DropSnapshot(name="n", patience=5.0),
        b'{"verb":"drop-snapshot","name":"n","patience":5.0}',
    ),
    (commands.WaitEnd(), b'{"verb":"wait-end"}'),
    (commands.Unmounted(), b'{"verb":"unmounted"}'),
    (orders.Leave(), b'{"verb":"leave"}'),
    (orders.AskSelf(), b'{"verb":"status"}'),
    (orders.AskCustomers(), b'{"verb":"customers"}'),
    (orders.Pause(), b'{"verb":"pause"}'),
    (orders.Resume(), b'{"verb":"resume"}'),
    (orders.Donate(space=1 << 30), b'{"verb":"set","space":1073741824}'),
]
#: what those fields were where they were not said
DEFAULTS = {
    "sync": {"patience": 30.0},
    "replace": {"address": "", "own": False, "tokens": []},
    "space": {"tokens": []},
    "verify": {"local": False, "sample": 1.0},
    "snapshot": {"patience": 30.0},
    "drop-snapshot": {"patience": 30.0},
}


@pytest.mark.parametrize(("command", "line"), RECORDED, ids=lambda value: type(value).__name__)
def test_who_asks_for_nothing_new_is_understood_by_the_version_before(command, line):
    """It refuses fields that it does not know; those not said have their defaults there."""
    said, before = json.loads(msgspec.json.encode(command)), json.loads(line)
    assert DEFAULTS.get(before["verb"], {}) | said == before


@pytest.mark.parametrize(("command", "line"), RECORDED, ids=lambda value: type(value).__name__)
def test_what_the_version_before_says_is_understood(command, line):
    assert len(line) <= COMMAND_MAX
    understood = (
        MOUNT_COMMANDS if type(command).__module__ == commands.__name__ else SUPPLIER_COMMANDS
    )
    assert understood.decode_untrusted(line) == command


def test_what_is_new_is_said():
    said = [commands.Sync(within=5.0), commands.WaitEnd(now=True), orders.Donate(bandwidth="1M")]
    assert [json.loads(msgspec.json.encode(command)) for command in said] == [
        {"verb": "sync", "within": 5.0},
        {"verb": "wait-end", "now": True},
        {"verb": "set", "bandwidth": "1M"},
    ]
