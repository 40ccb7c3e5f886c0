"""What the page is told: statements unchanged, sentences with names, changes, work that runs."""

import json
import re
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from one_home import CUSTOMER, MAP, MOUNTPOINT, SELF, SILENT, STATUS, OneHome, Page, line, opened

from bitdustfs.cli.main import main
from bitdustfs.core.bandwidth import parse_bandwidth
from bitdustfs.errors import Malformed
from bitdustfs.mount import client
from bitdustfs.mount.commands import MakeSnapshot, Replace, SetPolicy, Verify
from bitdustfs.mount.statements import BlockMap, SnapshotList, Status
from bitdustfs.net.control import Failure, address_of
from bitdustfs.supplier.orders import Customers, SupplierSelf
from bitdustfs.web.endpoints import BODY_MAX, body_untrusted
from bitdustfs.web.looking import place_id
from bitdustfs.web.views import ErrandLine, Overview, ReplaceWords, SnapshotWords, VerifyWords

MOUNT = f"/api/mounts/{place_id(MOUNTPOINT)}"


@pytest.fixture
async def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    async with OneHome(tmp_path).answering() as made:
        yield made


async def seen(page, browser):
    page.looking.forget()
    return msgspec.json.decode((await browser.get("/api/overview")).content, type=Overview)


async def ended(page, browser):
    """The errands, once none runs."""
    with trio.fail_after(30):
        while True:
            errands = (await seen(page, browser)).errands
            if all(one.ended for one in errands):
                return errands
            await trio.sleep(0.01)


async def test_every_answer_is_the_statement_itself(home):
    supplier = f"/api/suppliers/{place_id(home.shelf)}"
    async with opened() as (page, browser):
        for path, kind, expected in (
            (f"{MOUNT}/status", Status, STATUS),
            (f"{MOUNT}/map", BlockMap, MAP),
            (f"{MOUNT}/snapshots", SnapshotList, SnapshotList(snapshots=[], held=None)),
            (f"{supplier}/status", SupplierSelf, SELF),
            (f"{supplier}/customers", Customers, Customers(customers=[CUSTOMER])),
        ):
            answer = await browser.get(path)
            assert msgspec.json.decode(answer.content, type=kind) == expected
            assert answer.headers["content-type"] == "application/json"
        overview = await seen(page, browser)
        [mount], [shelf] = overview.mounts, overview.suppliers
        assert mount.status == STATUS and mount.verdict == STATUS.verdict and mount.grade != "ok"
        assert shelf.told == SELF and shelf.customers == [CUSTOMER]
        assert (mount.policy.k, mount.policy.n) == (1, 2) and mount.history[0].online == [0, 1]
        gets = {row.path for row in page.rows if row.method == "GET"}
        assert len(gets) == 6, "an endpoint is not asked here"


async def test_sentences_have_the_names_that_were_given(home, tmp_path):
    (tmp_path / "names").write_text(f"{'01' * 32} Anna\n{'ab' * 32} her vault\n")
    async with opened() as (page, browser):
        overview = await seen(page, browser)
        assert overview.mounts[0].warnings == [f"Anna ({'01' * 8}) is on this machine"]
        assert overview.mounts[0].names == {"01" * 32: "Anna"}
        assert overview.suppliers[0].names == {"ab" * 32: "her vault"}
        home.status = msgspec.structs.replace(STATUS, suppliers=[line(0), line(1, state="silent")])
        events = (await seen(page, browser)).events
        assert [one.said for one in events] == [
            "Anna, at position 1, is silent now, and was online"
        ]


async def test_what_changes_is_said_in_sentences(home):
    async with opened() as (page, browser):
        assert not (await seen(page, browser)).events
        home.status = msgspec.structs.replace(
            STATUS, judged="unsafe", verdict="NOT safe: 60 MiB only here",
            suppliers=[line(0, node="0a" * 32), line(1, lacks=2)], complete=2,
        )  # fmt: skip
        home.told = msgspec.structs.replace(SELF, state="leaving")
        home.customers = []
        said = {one.said for one in (await seen(page, browser)).events}
        assert said == {
            "/proc: NOT safe: 60 MiB only here",
            f"supplier {'0a' * 8}, at position 0, takes the place of supplier {'00' * 8}",
            "/proc: all 2 suppliers have everything",
            f"supplier {'01' * 8}, at position 1, was found without 2 fragments",
            f"the supplier in {home.shelf} is leaving now",
            f"the supplier in {home.shelf} keeps nothing for vault {'ab' * 8} any more",
        }


async def test_a_mount_that_hangs_or_died_has_a_page_that_says_so(home, monkeypatch):
    async with opened() as (page, browser):
        await seen(page, browser)
        monkeypatch.setattr(client, "ANSWERED_IN", 0.05)
        home.status = SILENT
        overview = await seen(page, browser)
        [mount] = overview.mounts
        assert mount.status is None and mount.grade == "wrong"
        assert mount.verdict.startswith("the mount at /proc hangs: ")
        assert overview.events[0].said == f"/proc: {mount.verdict}"
        assert overview.suppliers[0].told == SELF  # whoever answers is shown all the same
        assert (await browser.get(f"{MOUNT}/status")).status_code == 503
        client.socket_path(MOUNTPOINT).unlink()
        [mount] = (await seen(page, browser)).mounts
        assert "is dead" in mount.verdict and "bitdust unmount /proc" in mount.verdict


async def test_who_hangs_holds_up_nobody_who_looks(home):
    async with opened() as (page, browser):
        home.status = SILENT
        with trio.fail_after(client.ANSWERED_IN):
            overview = await seen(page, browser)
        assert overview.mounts[0].verdict == f"the mount at {MOUNTPOINT} has not answered as yet"
        assert overview.mounts[0].grade == "warning" and overview.suppliers[0].told == SELF
        home.status = STATUS
        with trio.fail_after(30):  # who is asked already is not asked again before it is given up
            while True:
                if (await seen(page, browser)).mounts[0].status == STATUS:
                    break
                await trio.sleep(0.05)
        home.status = SILENT
        with trio.fail_after(client.ANSWERED_IN):  # it is shown as it was, until it is given up
            assert (await seen(page, browser)).mounts[0].status == STATUS


async def test_all_tabs_are_one_question_for_the_map(home):
    asked, answer = [], home.mount

    async def counted(command, say):
        asked.append(type(command).__name__)
        return await answer(command, say)

    home.mount = counted
    async with opened() as (_, browser), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(browser.get, f"{MOUNT}/map")
    assert asked.count("AskMap") == 1


async def test_a_mount_that_dies_while_it_is_asked_is_no_fault_of_the_page(home):
    """Closing a Unix socket with something unread in it resets the other end (unix(7))."""
    place = client.socket_path(MOUNTPOINT)
    place.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        with address_of(place) as address:
            listening.bind(address)
        listening.listen()

        def hang_up():
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    connection.recv(1)
                    connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        async with opened() as (page, browser):
            [mount] = (await seen(page, browser)).mounts
            assert mount.status is None and "does not answer" in mount.verdict
            answer = await browser.get(f"{MOUNT}/status")
            assert answer.status_code == 503 and "reset" in answer.text
        listening.shutdown(socket.SHUT_RDWR)


async def test_many_who_look_are_one_question(home):
    asked = 0
    answer = home.mount

    async def counted(command, say):
        nonlocal asked
        asked += type(command).__name__ == "AskStatus"
        return await answer(command, say)

    home.mount = counted
    async with opened() as (_, browser), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(browser.get, "/api/overview")
    assert 1 <= asked <= 5  # one look; another one for each second that twenty answers take


async def test_work_goes_on_and_says_how_far_it_is(home):
    async with opened() as (page, browser):

        async def post(verb, **body):
            return await browser.post(f"{MOUNT}/{verb}", json=body, headers=page.words())

        begun = await post("rebuild")
        assert begun.status_code == 202
        assert msgspec.json.decode(begun.content, type=ErrandLine).state == "running"
        with trio.fail_after(30):
            while not (errand := (await seen(page, browser)).errands[0]).total:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert (errand.done, errand.total, errand.what) == (1, 4, "block")
        again = await post("rebuild")
        assert again.status_code == 409 and "runs there already" in again.text
        home.go_on.set()
        [errand] = await ended(page, browser)
        assert errand.state == "done" and errand.said[0].startswith("3 fragments were made again")
        assert (await post("verify", sample=0.5)).status_code == 202
        assert (await post("snapshot", name="before")).status_code == 202
        assert (await post("snapshot")).status_code in (202, 409)
        await ended(page, browser)
        assert Verify(local=False, sample=0.5) in home.asked
        assert "before" in [one.name for one in home.asked if isinstance(one, MakeSnapshot)]
        said = {one.said for one in (await seen(page, browser)).events}
        assert {
            "snapshot: snapshot before is made and published",
            "verify: nothing is wrong",
        } < said


async def test_a_replacement_names_the_supplier_that_was_confirmed(home):
    async with opened() as (page, browser):

        async def replace(position, node):
            body = {"position": position, "node": node}
            await browser.post(f"{MOUNT}/replace", json=body, headers=page.words())
            return (await ended(page, browser))[0]

        done = await replace(1, "01" * 32)
        assert done.said == ["position 1 has another supplier; 2.0 KiB were sent to it"]
        # the mount compares it, where nobody can change it in between
        assert home.asked == [Replace(position=1, node="01" * 32)]


async def test_a_supplier_is_paused_and_resumed(home):
    async with opened() as (page, browser):
        for verb, state in (("pause", "paused"), ("resume", "serving")):
            path = f"/api/suppliers/{place_id(home.shelf)}/{verb}"
            answer = await browser.post(path, json={}, headers=page.words())
            assert msgspec.json.decode(answer.content, type=SupplierSelf).state == state


async def test_limits_are_those_of_the_command_line(home):
    supplier = f"/api/suppliers/{place_id(home.shelf)}/set"
    async with opened() as (page, browser):

        async def post(path, **body):
            return await browser.post(path, json=body, headers=page.words())

        said = await post(supplier, space="2G", bandwidth="up:1M/down:8M")
        told = msgspec.json.decode(said.content, type=SupplierSelf)
        assert (told.space, told.bandwidth) == (2 << 30, str(parse_bandwidth("up:1M/down:8M")))
        assert (await post(supplier, bandwidth="0")).json()["space"] == 2 << 30
        assert (await seen(page, browser)).suppliers[0].told.bandwidth == "0"
        for wrong in ({"space": "much"}, {"bandwidth": "sideways:1M"}, {"space": "1" * 300}):
            assert (await post(supplier, **wrong)).status_code == 400
        assert (await post(f"{MOUNT}/limit", bandwidth="much")).status_code == 400
        assert (await post(f"{MOUNT}/limit", bandwidth="10M")).status_code == 202
        [errand] = await ended(page, browser)
        assert errand.said == [
            "rebuilding moves at most 10.0 MiB a second from now on, on all machines"
        ]
        assert home.asked == [SetPolicy(words={"bandwidth": 10 << 20})]


async def test_what_cannot_be_says_why(home):
    async with opened() as (page, browser):
        for method, path, body, code in (
            ("GET", "/api/mounts/000000000000/status", b"", 404),
            ("POST", "/api/suppliers/000000000000/pause", b"{}", 404),
            ("POST", f"{MOUNT}/rebuild", b"", 400),
            ("POST", f"{MOUNT}/rebuild", b'{"more": 1}', 400),
            ("POST", f"{MOUNT}/verify", b'{"sample": 2}', 400),
            ("POST", f"{MOUNT}/replace", b'{"position": 1}', 400),
            ("POST", f"{MOUNT}/replace", b'{"position": -1, "node": "%s"}' % (b"00" * 32), 400),
            ("POST", f"{MOUNT}/snapshot", b"[" * BODY_MAX * 2, 413),
        ):
            answer = await browser.request(method, path, content=body, headers=page.words())
            assert answer.status_code == code
            assert msgspec.json.decode(answer.content, type=Failure).error
        assert (await browser.get(f"{MOUNT}/rebuild")).status_code == 405
        assert not home.asked


@given(
    st.sampled_from([ReplaceWords, SnapshotWords, VerifyWords]),
    st.binary(max_size=300)
    | st.fixed_dictionaries(
        {}, optional={
            name: st.none() | st.integers() | st.floats() | st.text() | st.lists(st.booleans())
            for name in ("position", "node", "name", "sample", "local", "else")
        },
    ).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip
def test_bodies_are_what_is_asked_for_or_malformed(kind, raw):
    try:
        said = body_untrusted(raw, kind)
    except Malformed:
        return
    match said:
        case ReplaceWords(position=position, node=node):
            assert 0 <= position < 64 and re.fullmatch("[0-9a-f]{64}", node)
        case SnapshotWords(name=name):
            assert len(name) <= 1024
        case VerifyWords(sample=sample):
            assert 0 <= sample <= 1


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]),
    st.lists(st.sampled_from(["api", "mounts", "suppliers", "..", "%2e", "status", "rebuild",
                              "000000000000", "overview", "page.js", "é", ""]), max_size=5),
    st.binary(max_size=200),
)  # fmt: skip
def test_no_request_is_answered_by_a_fault_of_ours(empty_home, method, words, body):
    async def asked():
        async with trio.open_nursery() as nursery:
            page = Page(nursery)
            async with page.browser() as browser:
                await browser.get(page.gate.address)
                path = "/" + "/".join(words)
                return await browser.request(method, path, content=body, headers=page.words())

    answer = trio.run(asked)
    assert answer.status_code < 500 and "content-security-policy" in answer.headers


@pytest.fixture(scope="module")
def empty_home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITDUST_HOME", str(tmp_path_factory.mktemp("empty")))
        yield


# -- the description


async def test_the_description_is_of_what_is_served(home):
    async with opened() as (page, browser):
        document = (await browser.get("/api/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    described = {(m.upper(), path) for path, all_ in document["paths"].items() for m in all_}
    assert described == {(row.method, row.path) for row in page.rows}
    operations = [one for all_ in document["paths"].values() for one in all_.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    schemas = document["components"]["schemas"]
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named == set(schemas), "a schema is missing, or idle"
    assert set(schemas["Status"]["properties"]) == {"kind", *Status.__struct_fields__}
    for row in page.rows:
        one = document["paths"][row.path][row.method.lower()]
        answer = one["responses"][str(row.status)]["content"]["application/json"]["schema"]
        assert answer == {"$ref": f"#/components/schemas/{row.answer.__name__}"}
        assert ("requestBody" in one) == (row.method == "POST")


# -- the command


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.delitem(sys.modules, "bitdustfs.web.serving", raising=False)
    monkeypatch.delitem(sys.modules, "bitdustfs.web.application", raising=False)
    assert main(["dashboard", "--no-open"]) == 2
    assert "pip install 'bitdustfs[web]'" in capsys.readouterr().err


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "192.0.2.1:0", "localhost:0", "[::]:0"])
def test_the_page_is_served_on_loopback_only(listen, capsys):
    assert main(["dashboard", "--no-open", "--listen", listen]) == 2
    assert "no loopback address" in capsys.readouterr().err


def test_only_who_opens_the_page_pays_for_it():
    """The libraries are imported by the command that uses them."""
    code = (
        "import sys; from bitdustfs.cli.main import make_parser; make_parser(); "
        "import bitdustfs.mount.process, bitdustfs.supplier.daemon; "
        "sys.exit(any(name in sys.modules for name in ('starlette', 'hypercorn')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
