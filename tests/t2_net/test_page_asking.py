"""What the page asks for many who look: nothing old is shown as now, nobody asks again in a row."""

import threading
from pathlib import Path

import pytest
import trio

from bitdustfs.web import looking
from bitdustfs.web.asking import STALE, Prompt, Shared
from bitdustfs.web.looking import ASKED_AT_ONCE

PLACE = Path("/mnt")


async def test_an_answer_is_shown_for_a_while_and_then_no_more(mock_clock):
    goes_on = threading.Event()
    goes_on.set()

    def question(place):
        goes_on.wait(20)
        return "answer"

    async def look(patience=0.0):
        return await prompt.look([PLACE], question, patience, lambda place: "unknown")

    async with trio.open_nursery() as nursery:
        prompt = Prompt(nursery, trio.CapacityLimiter(2))
        assert await look(patience=20) == ["answer"]
        goes_on.clear()  # it hangs from now on
        try:
            mock_clock.jump(STALE / 2)
            assert await look() == ["answer"]
            mock_clock.jump(STALE)
            assert await look() == ["unknown"]
        finally:
            goes_on.set()
            nursery.cancel_scope.cancel()


async def test_however_many_mounts_hang_the_list_of_them_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    goes_on, hanging = threading.Event(), [Path(f"/mnt/{n}") for n in range(ASKED_AT_ONCE + 8)]
    monkeypatch.setattr(looking, "attached_unasked", lambda: hanging)
    monkeypatch.setattr(looking, "status_of", lambda path: goes_on.wait(30))
    monkeypatch.setattr(looking, "PROMPT", 0.1)
    monkeypatch.setattr(looking, "FRESH", 0.0)
    async with trio.open_nursery() as nursery:
        page = looking.Looking(nursery, None)
        try:
            with trio.fail_after(10):
                for _ in range(3):
                    assert len((await page.overview([])).mounts) == len(hanging)
                assert await page.mountpoint(looking.place_id(hanging[-1])) == hanging[-1]
        finally:
            goes_on.set()
            nursery.cancel_scope.cancel()


async def test_who_waited_for_a_question_that_failed_does_not_ask_it_again(autojump_clock):
    asked = []

    async def ask():
        asked.append(trio.current_time())
        await trio.sleep(5)
        raise OSError("nobody is there")

    shared = Shared(1.0, ask)

    async def one():
        with pytest.raises(OSError, match="nobody is there"):
            await shared.answer()

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert len(asked) == 1
    await one()
    assert len(asked) == 2
