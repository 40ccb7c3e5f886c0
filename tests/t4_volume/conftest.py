"""What the tests over a vault in one process start from."""

import pytest
from machine import Net

from bitdustfs.blocks import patience

SOON = 1.0  #: seconds that stand for the minute for which roots wait for more suppliers


@pytest.fixture(autouse=True)
def _a_minute_is_a_second(monkeypatch):
    monkeypatch.setattr(patience, "SOON", SOON)


@pytest.fixture
async def net():
    """Seven memory suppliers and an empty vault on them."""
    made = Net()
    await made.create()
    return made
