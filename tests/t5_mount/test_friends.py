"""Three friends, each with a machine and a supplier: from one line to a vault, and its end."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from world import LIMIT, World

from bitdustfs.cli.cmd_swarm import held_port
from bitdustfs.net.joinline import write_join_line
from bitdustfs.supplier.befriend import own_supplier

MINE = "127.0.0.1"
SPACE, NAMES = "400M", ("anna", "bert", "carl", "dora")


class Friend:
    """A person with a machine (BITDUST_HOME), and a supplier on it."""

    def __init__(self, world, name, port):
        self.name, self.home, self.shelf = name, world.root / name, world.root / f"{name}-shelf"
        self.world, self.address, self.process = world, f"{MINE}:{port}", None

    def run(self, *words, check=True, **kept):
        return self.world.run(*words, home=self.home, check=check, **kept)

    def start(self):
        command = [sys.executable, "-m", "bitdustfs.cli.main", "supplier", "run", "--dir",
                   str(self.shelf), "--space", "6G", "--listen", self.address,
                   "--log", str(self.shelf) + ".log"]  # fmt: skip
        environment = {**os.environ, "BITDUST_HOME": str(self.home)}
        self.process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + LIMIT
        while not (self.shelf / "control").exists():
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.05)
        with socket.create_connection((MINE, int(self.address.rpartition(":")[2])), 5):
            pass

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(LIMIT)
            self.process = None

    def invites(self, *more):
        return self.run("invite", "--space", SPACE, *more).stdout.strip()

    def told(self, *words):
        """What a program gets to read."""
        out = self.run(*words, "--json").stdout
        assert out.startswith(("[", "{")), out
        return json.loads(out)

    def friends(self):
        return self.told("friends")


@pytest.fixture
def circle(tmp_path):
    """A world with Anna, Bert and Carl in it, whose suppliers run, and Dora, whose does not yet."""
    world = World(tmp_path)
    with ExitStack() as held:
        ports = [held.enter_context(held_port()) for _ in NAMES]
        people = [Friend(world, name, port) for name, port in zip(NAMES, ports, strict=True)]
        for person in people[:3]:
            person.start()
    world.home = people[0].home
    yield world, *people
    world.detach()
    for person in people:
        person.stop()


def test_two_friends_and_you_from_a_line_to_a_folder_and_back_from_words(circle):
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    world, anna, bert, carl, _ = circle
    for friend, name in ((bert, "Bert"), (carl, "Carl")):
        said = friend.run("join", anna.invites("--name", name), "--name", "Anna").stdout
        assert "keeps up to 400.0 MiB for you" in said and "(Anna" not in anna.run("name").stdout
    assert {(line["name"], line["state"], line["way"]) for line in anna.friends()} == {
        ("Bert", "online", "direct"), ("Carl", "online", "direct")
    }  # fmt: skip
    created = anna.run("vault", "create").stdout
    assert "on 2 suppliers" in created and "any 1 of the 2 suppliers may be lost" in created
    world.mount()
    data = random.Random(1).randbytes(3 << 20)
    (world.mountpoint / "photo").write_bytes(data)
    anna.run("sync", world.mountpoint)
    assert all(line["keeps"] > len(data) for line in anna.friends())
    assert [line["kept"] > len(data) for line in bert.friends()] == [True]
    listed = json.loads(anna.run("list", "--json").stdout)
    assert [(v["mountpoint"], v["code"], len(v["contracts"])) for v in listed] == [
        (str(world.mountpoint), "1/2", 2)
    ]
    refused = anna.run("vault", "delete", "--yes", check=False)
    assert refused.returncode == 2 and "unmount first" in refused.stderr
    anna.run("unmount", world.mountpoint)
    bert.stop()  # one friend is off, Anna's machine is lost: 24 words and one address are left
    words = anna.run("key", "words").stdout
    world.home = world.root / "new"
    world.run("key", "restore", stdin=words)
    world.mount(f"bootstrap={carl.address}")
    assert (world.mountpoint / "photo").read_bytes() == data
    world.run("unmount", world.mountpoint)
    bert.start()
    world.mount(f"bootstrap={carl.address}")
    carl.stop()
    carl.start()  # who has not heard of the lease since, and would delete at once
    held = anna.run("vault", "delete", "--yes", check=False)
    assert held.returncode and "has this vault mounted" in held.stderr, held.stderr
    assert (anna.home / "keys" / "vault.key").exists()
    [customer] = json.loads(carl.run("supplier", "customers", "--dir", carl.shelf, "--json").stdout)
    assert customer["used"] > len(data)
    world.run("unmount", world.mountpoint)


@pytest.mark.slow
def test_a_larger_deal_makes_a_larger_vault_and_a_friend_takes_a_lost_ones_place(circle):
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    world, anna, bert, carl, dora = circle
    for friend in (bert, carl):
        friend.run("join", anna.invites())
    anna.run("vault", "create", "--space", "100M")
    world.mount()
    (world.mountpoint / "photo").write_bytes(bytes(100_000))
    few = anna.run("vault", "set", "space=300M", check=False)
    assert few.returncode == 1, few.stdout
    for friend in (bert, carl):
        friend.run("join", anna.run("invite", "--space", "700M").stdout.strip())
    assert "takes 300.0 MiB" in anna.run("vault", "set", "space=300M").stdout
    assert "takes 100.0 MiB" in anna.run("vault", "set", "space=100M").stdout
    dora.start()
    unknown = anna.run("supplier", "replace", "1", "--friend", "Dora", check=False)
    assert unknown.returncode == 2 and "is no friend with space" in unknown.stderr
    dora.run("join", anna.run("invite", "--space", "600M", "--name", "Dora").stdout.strip())
    anna.friends()  # which gives the name
    carl.stop()
    position = next(
        line["position"] for line in json.loads(anna.run("suppliers", "--json").stdout)
        if line["address"] == carl.address
    )  # fmt: skip
    anna.run("supplier", "replace", position, "--friend", "Dora")
    [hers] = dora.run("supplier", "customers", "--dir", dora.shelf, "--json").stdout.splitlines()
    assert json.loads(hers)[0]["used"] > 0
    assert [line["vaults"] for line in anna.friends() if line["name"] == "Dora"] != [[]]
    anna.run("unmount", world.mountpoint)


def test_what_was_promised_to_a_friend_or_by_an_invitation_is_taken_back(circle):
    _, anna, bert, carl, _ = circle
    unused = anna.invites("--name", "Carl")
    bert.run("join", anna.invites("--name", "Bert"))
    anna.invites("--name", "Carl")
    refused = anna.run("friends", "--forget", "Carl", check=False)
    assert refused.returncode == 2 and "Carl was invited 2 times" in refused.stderr
    second = anna.run("friends").stdout.splitlines()[-1].rpartition(" by ")[2]
    anna.run("friends", "--forget", second)
    assert "nobody gets the 400.0 MiB" in anna.run("friends", "--forget", "Carl").stdout
    refused = carl.run("join", unused, check=False)
    assert refused.returncode == 1 and "taken back" in refused.stderr and carl.friends() == []
    carl.run("join", anna.invites())
    friend = next(line for line in anna.friends() if line["name"] == "Bert")
    anna.run("friends", "--forget", friend["node"][:16])
    assert len(anna.friends()) == 1
    refused = bert.run("vault", "create", "--ecc", "1/1", check=False)
    assert refused.returncode == 1 and "the token was taken back" in refused.stderr


def test_a_vault_is_deleted_at_all_who_keep_it_also_at_who_was_away(circle):
    _, anna, bert, carl, _ = circle
    deal = anna.told("join", bert.invites())
    assert (deal["gives"], deal["given"], deal["settled"]) == (400 << 20, 400 << 20, True)
    carl.run("join", anna.invites())
    made, key = anna.told("vault", "create"), anna.told("key", "show")
    assert (made["k"], made["n"], made["suppliers"][1]["position"]) == (1, 2, 1)
    assert (made["vault"], made["key"]) == (key["vault"], key["key"]) and not key["locked"]
    nobody = anna.run("vault", "delete", check=False, stdin="")
    assert nobody.returncode == 2 and "nobody to answer" in nobody.stderr
    assert anna.run("vault", "delete", check=False, stdin="yes\n").returncode == 1
    assert all(line["vaults"] for line in anna.friends())  # no word but `delete` is enough
    carl.stop()
    away = anna.run("vault", "delete", "--yes", "--json", check=False)
    assert away.returncode == 1 and "1 of 2 suppliers still keep their part" in away.stderr
    assert "did not say that it deleted it" in away.stderr  # it may have, and be slow
    told = json.loads(away.stdout)
    assert not told["done"] and sum(line["error"] != "" for line in told["suppliers"]) == 1
    assert (anna.home / "keys" / "vault.key").exists()
    carl.start()
    done = anna.run("vault", "delete", "--yes", "--json")
    assert "goes on" in done.stderr and "has deleted it" in done.stderr
    told = json.loads(done.stdout)
    assert told["done"] and told["sure"] and {line["error"] for line in told["suppliers"]} == {""}
    assert not (anna.home / "keys" / "vault.key").exists()
    for friend in (bert, carl):
        customers = friend.run("supplier", "customers", "--dir", friend.shelf, "--json").stdout
        assert json.loads(customers) == []
    anna.run("vault", "create")  # what they give is free for another one


def test_a_friend_who_moved_is_found_by_the_others(circle, port):
    _, anna, bert, carl, _ = circle
    for friend in (bert, carl):
        friend.run("join", anna.invites())
    carl.run("join", bert.invites())  # Carl's supplier knows where Bert's announces itself
    bert.stop()
    bert.address = f"{MINE}:{port}"
    bert.start()
    deadline = time.monotonic() + LIMIT
    while {line["address"] for line in anna.friends()} != {bert.address, carl.address}:
        assert time.monotonic() < deadline, anna.friends()
    assert "on 2 suppliers" in anna.run("vault", "create").stdout


def test_a_line_is_passed_back_by_hand_where_the_friend_is_not_reached(circle):
    _, anna, bert, carl, _ = circle
    line = anna.invites()
    anna.stop()
    said = bert.run("join", line).stdout
    answer = said.strip().splitlines()[-1]
    assert "pass this line back" in said and answer.startswith("bitdust-join-1-")
    [waiting] = bert.friends()
    assert not waiting["settled"] and waiting["state"] == "away"
    anna.start()
    stranger = carl.run("join", answer, check=False)
    assert stranger.returncode == 2 and "does not know" in stranger.stderr
    assert "keeps up to 400.0 MiB for you" in anna.run("join", answer).stdout
    assert [line["settled"] for line in (*anna.friends(), *bert.friends())] == [True, True]


def test_joining_that_is_interrupted_goes_on_by_the_same_line(circle):
    _, anna, bert, *_ = circle
    deal = own_supplier(anna.shelf).friendship.invite(1 << 28, int(time.time()) + 3600)
    with socket.create_server((MINE, 0)) as silent:  # whoever is there says nothing
        line = write_join_line(deal.ours, (f"{MINE}:{silent.getsockname()[1]}",))
        # what a shell starts in the background ignores interrupts, and so does all that it starts
        command = ["env", "--default-signal=INT", sys.executable, "-m", "bitdustfs.cli.main",
                   "join", line]  # fmt: skip
        environment = {**os.environ, "BITDUST_HOME": str(bert.home)}
        joining = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        with silent.accept()[0]:
            joining.send_signal(signal.SIGINT)
            _, said = joining.communicate(timeout=LIMIT)
    assert joining.returncode == 130 and "by the same line again to go on" in said
    assert [(line["node"] != "", line["settled"]) for line in bert.friends()] == [(True, False)]
    bert.run("join", write_join_line(deal.ours, (anna.address,)))
    assert [line["settled"] for line in bert.friends()] == [True]


def test_a_line_that_is_wrong_old_used_or_ones_own_is_answered_by_a_sentence(circle):
    world, anna, bert, carl, _ = circle
    line = anna.invites()
    bert.run("join", line)
    bert.run("join", line)  # again is the same deal
    past = own_supplier(anna.shelf).friendship.invite(1 << 30, 1_700_000_000)
    old = write_join_line(past.ours, (anna.address,))
    token = anna.run("supplier", "invite", "--dir", anna.shelf).stdout.strip()
    (world.root / "line").write_text(line)
    for friend, words, code, said in (
        (carl, [line], 1, "somebody else came by this invitation already"),
        (carl, [old], 2, "this invitation ended on"),
        (carl, [line[:-4]], 2, "cut or mistyped"),
        (carl, [token], 2, "vault create --invitation"),
        (carl, ["hello"], 2, "it is no invitation"),
        (carl, [anna.invites(), "--space", "9G"], 2, "your supplier has 6.0 GiB to give"),
        (anna, [f"@{world.root / 'line'}"], 2, "this invitation is your own"),
    ):
        done = friend.run("join", *words, check=False)
        assert done.returncode == code and said in done.stderr, done.stderr
    assert carl.friends() == []
    carl.stop()
    stopped = carl.run("invite", check=False)
    assert stopped.returncode == 2 and "does not run" in stopped.stderr
    nowhere = world.run("join", line, home=world.root / "empty", check=False)
    assert nowhere.returncode == 2 and "bitdust supplier run --dir" in nowhere.stderr
    few = carl.run("vault", "create", "--friends", check=False)
    assert few.returncode == 2 and "no friend joined yet" in few.stderr


def test_friends_that_give_too_little_or_are_away_are_named(circle):
    _, anna, bert, carl, _ = circle
    bert.run("join", anna.invites())
    line = anna.invites("--name", "Carl")
    alone = anna.run("vault", "create", check=False)
    assert alone.returncode == 2 and "one friend alone" in alone.stderr
    assert "Carl was invited and did not join yet" in alone.stderr
    carl.run("join", line)
    large = anna.run("vault", "create", "--space", "10G", check=False)
    assert large.returncode == 2 and "gives 400.0 MiB: --space 144M fits" in large.stderr
    carl.stop()
    away = anna.run("vault", "create", check=False)
    assert away.returncode == 1 and "your friend's supplier, made no contract" in away.stderr
    assert not (anna.home / "keys" / "vault.key").exists()
    assert "on 1 suppliers" not in away.stdout
    carl.start()
    assert "of 144.0 MiB on 2 suppliers" in anna.run("vault", "create").stdout
