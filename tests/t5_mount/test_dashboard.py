"""The page over a real mount and real suppliers: its figures are those of `status --json`."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import msgspec
import pytest
from browser import CHROMIUM, MISSING, browser
from world import LIMIT, World

from bitdustfs.mount.statements import Status
from bitdustfs.units import format_size
from bitdustfs.web.views import Overview

#: figures that change by themselves between two questions
MOVING = ("latency", "heard", "uptime", "audits", "away", "rate")
LOOKS = 0.2  #: seconds between looks of a test that waits


class Visitor:
    """A plain HTTP client that opened the printed address."""

    def __init__(self, address):
        parts = urlsplit(address)
        self.host, self.origin = parts.netloc, f"http://{parts.netloc}"
        status, headers, page = self.ask("GET", f"/?{parts.query}")
        assert status == 200
        self.cookie = headers["Set-Cookie"].partition(";")[0]
        self.action = re.search(r'name="bitdust-action" content="([\w-]{43})"', page.decode())[1]

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.host, timeout=LIMIT)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path):
        return self.ask("GET", path, Cookie=self.cookie)

    def post(self, path, body):
        return self.ask(
            "POST", path, json.dumps(body), Cookie=self.cookie, Origin=self.origin,
            **{"X-Bitdust-Action": self.action},
        )  # fmt: skip

    def overview(self):
        status, _, raw = self.get("/api/overview")
        assert status == 200
        return msgspec.json.decode(raw, type=Overview)

    def until(self, what):
        """The first overview of which `what` is true."""
        deadline = time.monotonic() + LIMIT
        while not what(seen := self.overview()):
            assert time.monotonic() < deadline, seen
            time.sleep(LOOKS)
        return seen


@contextmanager
def dashboard(world, *words):
    """The process as a user starts it; the address that it prints."""
    command = [sys.executable, "-m", "bitdustfs.cli.main", "dashboard", "--no-open", *words]
    environment = {**os.environ, "BITDUST_HOME": str(world.home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            assert process.wait(LIMIT) == 0


@pytest.fixture
def four(tmp_path):
    """A vault that is mounted and published at four suppliers, any two of which have it."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    made = World(tmp_path)
    made.start(4)
    made.create("2/4")
    made.mount()
    (made.mountpoint / "letter").write_bytes(os.urandom(300_000))
    made.run("sync", made.mountpoint)
    made.wait_until_nothing_is_owed()
    yield made
    made.close()


def still(status):
    """A status without what moves by itself."""
    plain = msgspec.to_builtins(status)
    for line in plain["suppliers"]:
        for name in MOVING:
            del line[name]
    del plain["rate"]
    return plain


def judged_of(overview):
    """The verdict of the one mount in a word; None where it did not answer in time."""
    status = overview.mounts[0].status
    return status and status.judged


def test_the_page_shows_what_status_says_live(four):
    with dashboard(four, str(four.mountpoint)) as address:
        visitor = Visitor(address)
        seen = visitor.until(lambda overview: judged_of(overview) == "safe")
        printed = four.run("status", four.mountpoint, "--json").stdout
        said = msgspec.json.decode(printed, type=Status)
        [mount] = seen.mounts
        assert still(mount.status) == still(said)
        assert mount.verdict == said.verdict and mount.verdict.startswith("safe: ")
        assert (mount.policy.k, mount.policy.n) == (2, 4)
        assert four.run("status", four.mountpoint).stdout.splitlines()[0] == mount.verdict
        path = f"/api/mounts/{mount.id}"
        assert json.loads(visitor.get(f"{path}/status")[2]).keys() == json.loads(printed).keys()
        blocks = json.loads(visitor.get(f"{path}/map")[2])["lines"]
        assert blocks and all(line["has"] == [0, 1, 2, 3] for line in blocks)

        gone = mount.status.suppliers[2]
        addresses = [line.address for line in mount.status.suppliers]
        four.kill_supplier(four.addresses.index(addresses[2]))
        later = visitor.until(
            lambda overview: (
                judged_of(overview) and overview.mounts[0].status.suppliers[2].state != "online"
            )
        )
        assert later.mounts[0].verdict != mount.verdict
        called = f"supplier {gone.node[:16]}, at position 2,"
        assert any(one.said.startswith(f"{called} is ") for one in later.events)

        status, _, raw = visitor.post(f"{path}/snapshot", {"name": "before"})
        assert status == 202 and json.loads(raw)["state"] == "running"
        done = visitor.until(lambda overview: overview.errands[0].ended)
        assert done.errands[0].said == ["snapshot before is made and published"]
        assert [
            one["name"] for one in json.loads(visitor.get(f"{path}/snapshots")[2])["snapshots"]
        ] == ["before"]
        assert (four.mountpoint / ".snapshots" / "before" / "letter").exists()
        four.run("unmount", four.mountpoint, check=False)
        assert not visitor.until(lambda overview: not overview.mounts).mounts


def set_a_limit(four, tab):
    """As bitdust vault set has it. And whoever was there all the time is drawn so."""
    tab.tell("document.querySelector('#limit').focus()")
    tab.press("Enter")
    tab.until("document.querySelector('#sure').open")
    assert tab.tell("document.querySelector('#sure-fields input').placeholder") == "no bound"
    tab.do("Input.insertText", text="10M")
    tab.press("Enter")
    tab.until("document.querySelector('#errands').textContent.includes('at most 10.0 MiB')")
    assert json.loads(four.run("vault", "set", "--json").stdout)["bandwidth"] == 10 << 20
    strips = "[...document.querySelectorAll('#suppliers td svg')].map(e => e.ariaLabel)"
    assert sum("it was there for 100 %" in label for label in tab.tell(strips)) == 4


def test_a_browser_draws_the_page_live_and_is_used_by_keys_alone(four, tmp_path):
    """Debian's chromium runs our scripts under our policy, at the width of a phone as well."""
    if CHROMIUM is None:
        pytest.skip(MISSING)
    with dashboard(four) as address, browser(tmp_path / "profile") as tab:
        tab.open(address)
        tab.until("document.querySelector('#verdict').textContent.startsWith('safe: ')")
        assert tab.tell("location.search") == "" and tab.tell("document.cookie") == ""
        assert tab.tell("document.querySelectorAll('.arc.has').length") == 4
        status = json.loads(four.run("status", four.mountpoint, "--json").stdout)
        assert tab.tell("document.querySelector('#verdict').textContent") == status["verdict"]
        assert tab.tell("document.querySelector('#spoken').textContent") == status["verdict"]
        assert tab.tell("document.querySelector('#content').textContent") == format_size(
            status["live"]
        )
        rows = tab.tell("[...document.querySelectorAll('#suppliers .hex')].map(e => e.textContent)")
        assert rows == [line["node"][:16] for line in status["suppliers"]]

        # a snapshot, by keys alone
        for _ in range(60):
            if tab.tell("document.activeElement.id") == "snapshot":
                break
            tab.press("Tab")
        tab.press("Enter")
        tab.until("document.querySelector('#sure').open")
        assert tab.tell("document.activeElement.closest('#sure-fields') !== null")
        tab.do("Input.insertText", text="by-keys")
        tab.press("Enter")
        tab.until("document.querySelector('#errands').textContent.includes('by-keys is made')")
        tab.until("document.querySelector('#snapshots').textContent.includes('by-keys')")
        assert (four.mountpoint / ".snapshots" / "by-keys" / "letter").exists()

        set_a_limit(four, tab)

        # what cannot be taken back is asked for first, and Escape leaves it
        tab.tell("document.querySelector('#suppliers button').focus()")
        tab.press("Enter")
        tab.until("document.querySelector('#sure').open")
        assert tab.tell("document.activeElement.id") == "sure-no"
        tab.press("Escape")
        tab.until("!document.querySelector('#sure').open")

        # what is refused is said
        refused = {"position": 0, "node": "no key"}
        [place] = [mount.id for mount in Visitor(address).overview().mounts]
        asked = f"by.post('/api/mounts/{place}/replace', {json.dumps(refused)})"
        tab.tell(f"import('/actions.js').then((by) => by.attempt({{}}, () => {asked}))")
        assert "not what is asked for" in tab.tell("document.querySelector('#refused').innerText")
        tab.until_complained("400")

        four.kill_supplier(0)
        tab.until("document.querySelectorAll('#suppliers .state.online').length === 3")
        tab.until("document.querySelector('#events').textContent.includes('at position')")

        tab.open(address, width=390, height=800, dark=True, phone=True)
        tab.until("document.querySelectorAll('#suppliers tr').length === 4")
        assert tab.tell("document.documentElement.scrollWidth") <= 390
        assert tab.tell("getComputedStyle(document.documentElement).backgroundColor") == (
            "rgb(19, 22, 24)"
        )
        assert not tab.complaints, tab.complaints
    with browser(tmp_path / "another") as tab:
        tab.open(address)  # nobody serves there any more
        assert tab.tell("document.querySelector('#verdict') === null")
