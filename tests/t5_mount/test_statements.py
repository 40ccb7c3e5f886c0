"""What a mount is asked and what it says: keys that programs rely on, garbage, warnings, the
end.
"""

import json
import logging
import os

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs import plain
from bitdustfs.cache.machine import machine_id
from bitdustfs.errors import BitdustError, Malformed
from bitdustfs.mount import statefolder
from bitdustfs.mount.background import run_in_background
from bitdustfs.mount.commands import MOUNT_COMMANDS, SetPolicy, Sync, Verify, WaitEnd
from bitdustfs.mount.ending import Farewell
from bitdustfs.mount.mountpoint import ending_marker, socket_path
from bitdustfs.mount.statements import (
    Ended,
    RebuildingLine,
    ReserveLine,
    Status,
    SupplierLine,
    VisitLine,
)
from bitdustfs.mount.supplier_warnings import thin_warning, warning_of
from bitdustfs.net.listening import serve
from bitdustfs.vault.assemble import open_state_folder

VERBS = ["status", "risk", "suppliers", "sync", "replace", "rebuild", "set", "verify", "wait-end"]
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUE = SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(st.text(), SCALAR, max_size=3)
FIELDS = ["patience", "position", "address", "words", "local", "sample", "other"]
NEARLY = st.builds(
    lambda verb, fields: {"verb": verb, **fields},
    st.sampled_from(VERBS),
    st.dictionaries(st.sampled_from(FIELDS), VALUE, max_size=2),
)


@given(st.binary(max_size=300) | NEARLY.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_malformed_or_a_command_within_its_bounds(line):
    try:
        command = MOUNT_COMMANDS.decode_untrusted(line)
    except Malformed:
        return
    match command:
        case Sync(patience=patience):
            assert patience >= 0
        case Verify(sample=sample):
            assert 0 <= sample <= 1
        case SetPolicy(words=words):
            assert all(isinstance(n, str) and isinstance(v, int) for n, v in words.items())


def test_every_verb_is_known():
    for verb in [*VERBS, "turn", "unmounted"]:
        more = {
            "turn": {"read_only": True},
            "replace": {"position": 1},
            "set": {"words": {"margin": 1}},
        }.get(verb, {})
        line = json.dumps({"verb": verb, **more}).encode()
        assert msgspec.to_builtins(MOUNT_COMMANDS.decode_untrusted(line))["verb"] == verb


def line(**changes):
    plain = SupplierLine(
        position=2, node="ab" * 32, address="192.0.2.1:4000", state="online", uptime=None, gone="",
        latency=0.01, away=0.0, stored=7, full=False, audits=5, audits_failed=1, lacks=0, damaged=0,
        last_error="",
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def test_the_keys_that_programs_rely_on_stay():
    status = Status(
        vault="cd" * 32, state="local", message="", inodes=1, live=2, dirty=3, may_lose=3,
        thinnest="", rebuilding=RebuildingLine(1, 4), local_blocks=0, owed_blocks=0, warnings=[],
        bench=[ReserveLine(node="", address="", state="online", ready=True, stands_in_for=None)],
        visits=[VisitLine(node="", position=1, bytes=5, until=6)], suppliers=[line()],
    )  # fmt: skip
    said = json.loads(msgspec.json.encode(status))
    assert msgspec.json.decode(json.dumps(said), type=Status) == status
    assert set(said) == {
        "kind", "version", "vault", "state", "message", "inodes", "live", "dirty", "may_lose",
        "thinnest", "rebuilding", "bench", "visits", "local_blocks", "owed_blocks",
        "thin_blocks", "suppliers", "warnings", "unpublished", "safety", "verdict", "only_here",
        "to_send", "rate", "seconds_left", "complete", "judged", "read_only", "program",
        "thinned", "bandwidth", "paused", "risk", "follows", "retain", "retained", "retained_until",
        "pins", "pins_why",
    }  # fmt: skip
    assert said["version"] == 1 and said["rebuilding"] == [1, 4]
    assert set(said["bench"][0]) == {
        "node", "address", "state", "ready", "stands_in_for", "keeps_for",
    }  # fmt: skip
    assert set(said["visits"][0]) == {"node", "position", "bytes", "until"}
    assert set(said["suppliers"][0]) == {
        "position", "node", "address", "state", "uptime", "gone", "latency", "away", "stored",
        "audits", "audits_failed", "full", "lacks", "damaged", "last_error", "own",
        "heard", "owed", "rate", "space", "way",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"own": True}, "is on this very machine: it is lost with it"),
        (
            {"lacks": 3, "own": True},
            "lacks 3 fragments that it should have; 1 of 5 audits failed so far",
        ),
        ({"lacks": 3, "full": True}, "has much less room left than the others"),
        ({"full": True, "damaged": 2}, "returned damaged data 2 times"),
        (
            {"damaged": 2, "gone": "said that it leaves"},
            "is to be replaced: it said that it leaves",
        ),
    ],
)
def test_the_gravest_thing_is_said_of_a_supplier(changes, said):
    name = "supplier abababababababab at 192.0.2.1:4000 "
    assert warning_of(line(**changes)) == (name + said if said else "")


def test_thin_blocks_are_warned_of_and_for_whom_they_wait_is_said():
    assert thin_warning(0, [line(state="suspect")]) == ""
    said = thin_warning(2, [line(), line(state="suspect", address="192.0.2.9:4000")])
    assert said.startswith("2 blocks are published thinly")
    assert said.endswith("until supplier abababababababab at 192.0.2.9:4000 is back")


async def test_everybody_who_waits_for_the_end_hears_of_it():
    farewell, told = Farewell(), []

    async def say(progress):
        waiting.append(progress)

    async def listen():
        told.append(await farewell.listen(say))

    waiting = []
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        assert len(waiting) == 3
        await farewell.tell(Ended(message="some of it is left"))
        assert told == 3 * [Ended(message="some of it is left")]


def test_a_verb_that_waits_takes_no_words():
    with pytest.raises(Malformed):
        MOUNT_COMMANDS.decode_untrusted(b'{"verb":"wait-end","patience":1}')
    assert MOUNT_COMMANDS.decode_untrusted(b'{"verb":"wait-end"}') == WaitEnd()


def refuse(ready, waits):
    raise ExceptionGroup("", [BitdustError("nothing can be mounted today")])


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (refuse, "nothing can be mounted today"),
        (lambda ready, waits: {}["a bug"], "a bug"),
        (lambda ready, waits: os._exit(9), "the mount process died"),
    ],
    ids=["refusal", "bug", "death"],
)
def test_what_fails_in_the_background_is_told_in_front(work, said, tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    with pytest.raises(BitdustError, match=said):
        run_in_background("a.log", work, print)


def test_the_background_says_when_it_is_ready_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path / "home"))
    begun, done = os.pipe()

    def work(ready, waits):
        ready("but only to look at")
        os.write(1, b"this goes to the log")
        os.write(done, f"{os.getcwd()} {os.getsid(0) == os.getpid()}".encode())

    assert run_in_background("a.log", work, print) == "but only to look at"
    os.close(done)
    assert os.read(begun, 1000) == b"/ True"
    os.close(begun)
    assert "this goes to the log" in (tmp_path / "home" / "logs" / "a.log").read_text()


def test_what_is_waited_for_is_told_before_it_is_ready(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    told = []

    def work(ready, waits):
        waits("a mount before it: 60 MiB left")
        waits("30 MiB left")
        ready("but only to look at")
        waits("nobody hears this")

    assert run_in_background("a.log", work, told.append) == "but only to look at"
    assert told == ["a mount before it: 60 MiB left", "30 MiB left"]


def test_a_mount_whose_command_was_interrupted_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    (go, go_on), (begun, done) = os.pipe(), os.pipe()

    def work(ready, waits):
        waits("a mount before it: 60 MiB left")
        os.read(go, 1)
        waits("30 MiB left")
        ready("")
        os.write(done, b"it serves")

    def interrupted(sentence):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_background("a.log", work, interrupted)
    os.write(go_on, b"1")
    os.close(done)
    assert os.read(begun, 100) == b"it serves"
    for fd in (go, go_on, begun):
        os.close(fd)


async def test_a_mount_that_waits_says_how_far_the_one_before_it_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    monkeypatch.setattr(statefolder, "TELL_EVERY", 0.05)
    monkeypatch.setattr(statefolder, "LOCK_TICK", 0.02)
    vault, told, done = b"v" * 32, trio.open_memory_channel(999), trio.Event()
    before = open_state_folder(tmp_path, vault, machine_id())
    status = Status(
        vault="", state="local", message="", inodes=1, live=2, dirty=3, may_lose=3, thinnest="",
        rebuilding=RebuildingLine(), local_blocks=0, owed_blocks=0, warnings=[], bench=[],
        visits=[], suppliers=[], verdict="NOT safe yet: 60 MiB only here",
    )  # fmt: skip

    async def answer(command, say):
        return status

    async def take():
        (await statefolder.take_state_folder(vault, told[0].send_nowait)).close()
        done.set()

    async with trio.open_nursery() as nursery:
        with caplog.at_level(logging.INFO), trio.fail_after(20):
            nursery.start_soon(take)
            assert (await told[1].receive()).endswith("still uploads; waiting")
            mountpoint = tmp_path / "mnt"
            await nursery.start(serve, socket_path(mountpoint), MOUNT_COMMANDS, answer)
            ending_marker(vault).write_bytes(os.fsencode(mountpoint))
            while "waiting: NOT safe yet: 60 MiB only here" not in await told[1].receive():
                pass
            before.close()
            await done.wait()
        nursery.cancel_scope.cancel()
    assert sum("waiting for it to finish" in r.getMessage() for r in caplog.records) == 1


def test_a_log_in_the_background_stays_within_its_bound(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    monkeypatch.setattr(plain, "LOG_MAX", 10_000)
    begun, done = os.pipe()

    def work(ready, waits):
        ready("")
        log = logging.getLogger("bitdustfs.vault")
        for number in range(1000):
            log.info("line %d of many", number)
        os.write(2, b"what an interpreter says that dies")
        os.close(done)

    run_in_background("a.log", work, print)
    os.close(done)
    assert os.read(begun, 1) == b""  # it has ended
    os.close(begun)
    logs = tmp_path / "logs"
    assert {path.name for path in logs.iterdir()} == {"a.log", "a.log.1"}
    assert sum(path.stat().st_size for path in logs.iterdir()) < 21_000
    told = (logs / "a.log").read_text()
    assert "line 999 of many" in told and told.endswith("that dies")


def test_a_log_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "logs").write_text("in the way")
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    with pytest.raises(BitdustError, match="the log cannot be written"):
        run_in_background("a.log", lambda ready, waits: None, print)
