"""What the tests over a vault in one process start from."""

import pytest
from machine import Net


@pytest.fixture
async def net():
    """Seven memory suppliers and an empty vault on them."""
    made = Net()
    await made.create()
    return made
