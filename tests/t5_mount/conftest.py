"""A swarm and a vault for each test of real mounts."""

import os

import pytest
from world import World

from bitdustfs.cli.cmd_swarm import held_port


@pytest.fixture
def world(tmp_path):
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    made = World(tmp_path)
    made.start()
    made.create()
    yield made
    made.close()


@pytest.fixture
def port():
    """Of 127.0.0.1, for a supplier that the test starts by itself."""
    with held_port() as held:
        yield held
