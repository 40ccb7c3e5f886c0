"""A metered connection: NetworkManager is asked, and bulk work waits for another one."""

import os
import shutil
import subprocess
import sys
import time

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.blocks.throttle import Throttle
from bitdustfs.net import metered
from bitdustfs.net.metered import Metered, ask_manager, is_metered_untrusted

#: plays NetworkManager on the bus that it is told of: METERED, and says when it is there
MANAGER = """
import sys
from jeepney import HeaderFields, MessageType, new_error, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection
connection = open_dbus_connection(sys.argv[1])
connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.NetworkManager"))
print("there", flush=True)
while True:
    asked = connection.receive()
    if asked.header.message_type is not MessageType.method_call:
        continue
    if asked.body == ("org.freedesktop.NetworkManager", "Metered"):
        answer = new_method_return(asked, "v", (("u", int(sys.argv[2])),))
    else:
        answer = new_error(asked, "org.freedesktop.DBus.Error.UnknownProperty")
    connection.send(answer)
"""


@pytest.fixture
def bus(tmp_path, monkeypatch):
    """A bus of our own in the system's place."""
    pytest.importorskip("jeepney", reason="the test extra has it")
    for program in ("dbus-daemon", "busctl"):
        if shutil.which(program) is None:
            pytest.skip(f"this machine has no {program}")
    address = f"unix:path={tmp_path}/bus"
    words = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}"]
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    with subprocess.Popen(words) as daemon:
        deadline = time.monotonic() + 20
        while not (tmp_path / "bus").exists():
            assert time.monotonic() < deadline and daemon.poll() is None
            time.sleep(0.02)
        yield address
        daemon.terminate()


@pytest.mark.parametrize(("number", "expected"), [(0, False), (1, True), (2, False), (3, True)])
def test_what_network_manager_says_counts(number, expected, bus):
    words = [sys.executable, "-c", MANAGER, bus, str(number)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as manager:
        assert manager.stdout.readline() == "there\n"
        assert trio.run(ask_manager) is expected
        manager.kill()


async def test_where_no_network_manager_runs_nothing_is_metered(bus):
    assert await ask_manager() is False


async def test_a_manager_that_hangs_is_given_up(tmp_path, monkeypatch):
    program = tmp_path / "busctl"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(metered, "DEADLINE", 0.2)
    with trio.fail_after(20):
        assert await ask_manager() is False


async def test_where_nobody_can_be_asked_nobody_is_asked_again(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with trio.fail_after(20):
        await Metered(True).run()


@given(st.binary(max_size=40) | st.integers(0, 5000).map(lambda n: b"u %d\n" % n))
def test_any_answer_is_read(said):
    assert is_metered_untrusted(said) == (said.strip() in (b"u 1", b"u 3") and said[:1] == b"u")


@pytest.mark.deadline(1000)  # virtual seconds
async def test_bulk_work_waits_while_it_is_heeded(nursery, autojump_clock):
    answers = [True]

    async def ask():
        return answers[0]

    link = Metered(True, ask)
    nursery.start_soon(link.run)
    await trio.testing.wait_all_tasks_blocked()
    assert link.pauses and "metered" in link.said
    answers[0] = False
    await link.wait_free()
    assert not link.pauses and not link.said and trio.current_time() >= metered.EVERY
    answers[0] = True
    await trio.sleep(metered.EVERY + 1)
    assert link.pauses
    link.heed(False)
    await link.wait_free()
    assert not link.pauses


@pytest.mark.deadline(1000)
async def test_where_it_cannot_be_asked_for_a_while_nothing_waits_for_ever(nursery, autojump_clock):
    """No process can be started just now; later it is asked again."""
    answers = [True, BlockingIOError("no process just now"), True]

    async def ask():
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    link = Metered(True, ask)
    nursery.start_soon(link.run)
    await trio.testing.wait_all_tasks_blocked()
    assert link.pauses
    await trio.sleep(metered.EVERY + 1)
    assert not link.pauses
    await trio.sleep(metered.EVERY)
    assert link.pauses
    nursery.cancel_scope.cancel()


@pytest.mark.deadline(1000)
async def test_uploads_wait_unless_somebody_hurries(nursery, autojump_clock):
    async def ask():
        return True

    link = Metered(True, ask)
    nursery.start_soon(link.run)
    await trio.testing.wait_all_tasks_blocked()
    throttle = Throttle(lambda: 4.0, metered=link)
    with trio.move_on_after(100) as waiting:
        await throttle.wait_turn()
    assert waiting.cancelled_caught
    began = trio.current_time()

    async def hurry():
        await trio.sleep(10)
        with throttle.hurrying():
            await trio.sleep(10)

    nursery.start_soon(hurry)
    await throttle.wait_turn()
    assert trio.current_time() - began == pytest.approx(10)
