"""Friends of whom one cannot be dialled, as behind a router that forwards nothing."""

import json
import time

import pytest
from hosts import LIMIT, Hosts, missing

ANNA, BERT = 1, 2
#: Anna's supplier knows this address of itself alone, and no way leads there from outside
INSIDE = "192.168.5.1"


class Friends(Hosts):
    """Anna, whose machine dials out and cannot be dialled, and Bert."""

    def __init__(self, root):
        super().__init__(root, 2, "j")

    def begin(self):
        self.lay()
        self.address(ANNA, "add", f"{INSIDE}/24")
        for host, address in ((ANNA, INSIDE), (BERT, "10.77.0.3")):
            self.start(host, "--listen", f"{address}:4000")
            deadline = time.monotonic() + LIMIT
            while not (self.root / f"supplier-{host}" / "control").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def say(self, host, *words):
        return self.on(host, *words, home=f"supplier-{host}/home").stdout.strip()

    def friend(self, host):
        """The only one."""
        [line] = json.loads(self.say(host, "friends", "--json"))
        return line


@pytest.fixture
def friends(tmp_path):
    if why := missing():
        pytest.skip(why)
    made = Friends(tmp_path)
    try:
        made.begin()
        yield made
    finally:
        made.close()


def test_who_cannot_be_dialled_joins_and_the_other_side_has_the_deal(friends):
    said = friends.say(ANNA, "join", friends.say(BERT, "invite", "--space", "1G"))
    assert "pass this line back" not in said
    assert friends.friend(ANNA)["settled"] and friends.friend(BERT)["settled"]
    assert friends.friend(ANNA)["state"] == "online"
    assert friends.friend(BERT)["state"] == "away"  # until something leads through the router


def test_who_cannot_be_dialled_invites_and_the_line_goes_back_by_hand(friends):
    said = friends.say(BERT, "join", friends.say(ANNA, "invite", "--space", "1G"))
    assert "pass this line back" in said and not friends.friend(BERT)["settled"]
    friends.say(ANNA, "join", said.splitlines()[-1])
    assert friends.friend(ANNA)["settled"] and friends.friend(BERT)["settled"]
