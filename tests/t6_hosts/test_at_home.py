"""Two friends and you, each behind a router of its own, from a line of invitation to 24 words.

You and Anna have IPv4 only, and routers that masquerade. Bert's home has IPv6 only, and a router
that lets nobody in. Two others can be dialled, by both: what the three say to each other goes
through them.
"""

import json
import random
import re
import shutil

import pytest
from asked import until
from homes import RELAYS, Homes
from hosts import LIMIT, ip, missing, sh

from bitdustfs.supplier.nodekey import node_key

YOU, ANNA, BERT = 0, 3, 4
PEOPLE = (YOU, ANNA, BERT)
DUAL = {1: "fd77::2", 2: "fd77::3"}  #: the relays have IPv6 as well
SIZE = 2_000_000
#: of Bert's router: what his own side asks for comes back, and nothing else comes in
NOBODY_IN = """
table ip6 filter {
    chain through {
        type filter hook forward priority 0; policy drop;
        iifname "lan" accept
        ct state established,related accept
        counter
    }
}
"""


class AtHome(Homes):
    """You, Anna and Bert, and two in the world who pass on for them."""

    behind = {YOU: (YOU,), ANNA: (ANNA,)}

    def __init__(self, root):
        super().__init__(root)
        self.running = {}  # host -> its supplier

    def lay(self):
        super().lay()
        for host, address in DUAL.items():
            self.address(host, "add", f"{address}/64")
            ip("-n", f"{self.name}h{host}", "route", "add", "fd77:5::/64", "via", "fd77::5")
        self._lay_bert()

    def _lay_bert(self):
        home, router = f"{self.name}h{BERT}", f"{self.name}g{BERT}"
        ip("netns", "add", router)
        ip("-n", home, "addr", "flush", "dev", "eth0")
        ip("-n", home, "link", "set", "eth0", "down")
        ip("-n", home, "link", "set", "eth0", "netns", router)
        ip("-n", router, "link", "set", "eth0", "name", "wan")
        ip("-n", router, "link", "add", "lan", "type", "veth", "peer", "name", "eth0",
           "netns", home)  # fmt: skip
        for name, link, address in (
            (router, "wan", "fd77::5/64"), (router, "lan", "fd77:5::1/64"),
            (home, "eth0", "fd77:5::2/64"),
        ):  # fmt: skip
            ip("-n", name, "addr", "add", address, "dev", link, "nodad")
            ip("-n", name, "link", "set", link, "up")
        ip("-n", home, "route", "add", "default", "via", "fd77:5::1")
        rules = self.root / "rules-bert"
        rules.write_text(NOBODY_IN)
        self.at_router(BERT, "nft", "-f", rules)
        self.at_router(BERT, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        self.inside[BERT] = "[fd77:5::2]"

    def at_router(self, host, *words):
        return sh("nsenter", f"--net=/run/netns/{self.name}g{host}", *words).stdout

    def begin(self):
        self.lay()
        keys = [node_key(self._folder(host)).verify_key.encode().hex() for host in PEOPLE]
        for host in RELAYS:
            other = f"10.77.0.{4 - host}:4000"
            self.start(
                host, "--listen", "[::]:4000", "--bootstrap", other, "--relay", "circle", *keys
            )
        for host in PEOPLE:
            relays = [f"[{a}]:4000" for a in DUAL.values()] if host == BERT else RELAYS.values()
            words = [
                word for relay in relays for word in ("--through", relay, "--bootstrap", relay)
            ]
            self.start(host, "--listen", f"{self.inside[host]}:4000", *words)

    def start(self, host, *words):
        super().start(host, *words)
        self.running[host] = self.processes[-1]

    def of(self, person, *words, stdin=None):
        """A command on somebody's machine."""
        return self.on(person, *words, home=f"supplier-{person}/home", stdin=stdin).stdout.strip()

    def _shelf(self, person):
        return self.root / f"supplier-{person}"

    def wait_until_it_runs(self, person):
        """Until a supplier stands by at the relays, and says so to who has IPv4."""
        until((self._shelf(person) / "control").exists, LIMIT, "a supplier does not start")
        until(
            lambda: "@10.77." in self.of(person, "supplier", "status"), LIMIT, "no way leads here"
        )

    def join(self, person):
        """By a line of yours; by an answer of theirs where the line does not lead to you."""
        said = self.of(person, "join", self.of(YOU, "invite", "--space", "400M"))
        if "pass this line back" in said:
            self.of(YOU, "join", said.splitlines()[-1])

    def rows(self):
        return json.loads(self.of(YOU, "suppliers", self.mountpoint, "--json"))

    def status(self):
        return json.loads(self.of(YOU, "status", self.mountpoint, "--json"))

    def write(self, name):
        """A file, that both friends have in the end. What it holds."""
        content = random.Random(name).randbytes(SIZE)
        (self.mountpoint / name).write_bytes(content)
        self.of(YOU, "sync", self.mountpoint)
        self.wait_until_nothing_is_owed()
        ways = [(row["state"], row["way"]) for row in self.rows()]
        assert ways == [("online", "relayed")] * 2
        return content

    # -- what happens to them

    def move(self, person, address):
        """The provider gives somebody's router another address."""
        router = f"{self.name}g{person}"
        ip("-n", router, "addr", "flush", "dev", "wan")
        ip("-n", router, "addr", "add", address, "dev", "wan")

    def restart_router(self, person):
        """It forgets whose ports are whose."""
        for word in ("down", "up"):
            ip("-n", f"{self.name}g{person}", "link", "set", "wan", word)

    def kill_relay(self, host):
        """Without a word."""
        self.running[host].kill()
        self.running[host].wait(LIMIT)

    def lose_machine(self, person):
        """With its supplier, and all that it knows."""
        self.running[person].kill()
        self.running[person].wait(LIMIT)
        shutil.rmtree(self._shelf(person))

    def dropped(self, person):
        """Packets that came to somebody's router of themselves."""
        listed = self.at_router(person, "nft", "list", "ruleset")
        return sum(map(int, re.findall(r"counter packets (\d+)", listed)))

    def close(self):
        super().close()
        ip("netns", "del", f"{self.name}g{BERT}", check=False)


@pytest.fixture
def homes(tmp_path):
    why = missing() or ("" if shutil.which("nft") else "routers need nftables")
    if why:
        pytest.skip(why)
    made = AtHome(tmp_path)
    try:
        made.begin()
        yield made
    finally:
        made.close()


def test_promise_6_and_9_three_homes_from_a_line_to_24_words(homes):
    for person in (ANNA, BERT):
        homes.wait_until_it_runs(person)
        homes.join(person)
    assert "any 1 of the 2 suppliers may be lost" in homes.of(YOU, "vault", "create")
    homes.of(YOU, "mount", homes.mountpoint)
    files = {"first": homes.write("first")}
    nodes = [row["node"] for row in homes.rows()]

    homes.move(ANNA, "10.77.0.104/24")
    files["moved"] = homes.write("moved")
    homes.restart_router(YOU)
    files["restarted"] = homes.write("restarted")
    homes.kill_relay(1)
    files["by another relay"] = homes.write("by another relay")
    assert all(row["address"].endswith(RELAYS[2]) for row in homes.rows())
    assert [row["node"] for row in homes.rows()] == nodes
    assert homes.dropped(BERT) == 0  # nobody tries where nobody gets in

    words = homes.of(YOU, "key", "words")
    homes.of(YOU, "unmount", homes.mountpoint)
    homes.lose_machine(YOU)
    homes.of(YOU, "key", "restore", stdin=words)
    homes.of(YOU, "mount", homes.mountpoint, "-o", f"bootstrap={RELAYS[2]}")
    for name, content in files.items():
        assert (homes.mountpoint / name).read_bytes() == content, name
    assert "nothing is wrong" in homes.of(YOU, "verify", homes.mountpoint)
    homes.write("and goes on")
    homes.of(YOU, "unmount", homes.mountpoint)
