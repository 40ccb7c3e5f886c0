"""The hosts that the tests of this layer share: laying them takes longer than what is tried."""

import pytest
from hosts import missing, running


@pytest.fixture(scope="session")
def hosts(tmp_path_factory):
    """Eight suppliers at addresses of their own, and a vault of seven that is not mounted."""
    if why := missing():
        pytest.skip(why)
    with running(tmp_path_factory.mktemp("hosts"), 8) as made:
        made.create()
        yield made
