"""A swarm and a vault for each test of real mounts."""

import os

import pytest
from world import World


@pytest.fixture
def world(tmp_path):
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    made = World(tmp_path)
    made.start()
    made.create()
    yield made
    made.close()
