"""Who reaches the page: other users, other hosts, other origins, wrong tokens get nothing."""

import os
import re
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from one_home import HOST, MOUNTPOINT, OneHome, opened

from bitdustfs.web.callers import is_own, user_of
from bitdustfs.web.gate import ACTION, Gate, Inquiry
from bitdustfs.web.looking import place_id
from bitdustfs.web.serving import host_of

LIMIT = 60
ENDS = ("127.0.0.1", 5000), ("127.0.0.1", 4242)
#: what a program of root's begins with; others may not read the interpreter's folder
AS_NOBODY = (
    "import os, socket, sys, encodings.idna; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
    "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 60); "
)
PLACE = place_id(MOUNTPOINT)
PATHS = ("/", "/page.js", "/page.css", "/api/overview", f"/api/mounts/{PLACE}/status",
         "/api/openapi.json", "/nothing")  # fmt: skip


@pytest.fixture
async def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    async with OneHome(tmp_path).answering() as made:
        yield made


@pytest.mark.parametrize("path", PATHS)
async def test_without_the_token_nothing_is_served(home, path):
    async with opened() as (page, _), page.browser() as stranger:
        for said in ("", "?token=", "?token=x", f"?token={page.gate.action}"):
            answer = await stranger.get(path + said)
            assert answer.status_code == 401 and "set-cookie" not in answer.headers
            assert page.gate.action not in answer.text and "verdict" not in answer.text
        secret = page.gate.address.partition("?")[2]
        if path != "/":  # the token opens the page, and is no key to anything else
            assert (await stranger.get(f"{path}?{secret}")).status_code == 401


async def test_the_cookie_is_for_this_page_only(home):
    async with opened() as (page, browser):
        again = await browser.get(page.gate.address)
        cookie = again.headers["set-cookie"]
        assert re.fullmatch(r"bitdust-4242=[\w-]{43}; Path=/; HttpOnly; SameSite=Strict", cookie)
        assert page.gate.address.rpartition("=")[2] not in cookie
        assert page.gate.action not in cookie
        assert (await browser.get("/")).status_code == 200
        assert "set-cookie" not in (await browser.get("/")).headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4242", "localhost:4242", "127.0.0.1", "127.0.0.1:80"]
)
async def test_a_name_that_leads_here_gets_nothing(home, host):
    """DNS rebinding: the browser has the cookie, and the page of elsewhere has our address."""
    async with opened() as (_, browser):
        for path in PATHS:
            assert (await browser.get(path, headers={"Host": host})).status_code == 403


@pytest.mark.parametrize(
    ("at", "host", "cookie"),
    [
        (("127.0.0.1", 80), "127.0.0.1", "bitdust-80"),
        (("::1", 80, 0, 0), "[::1]", "bitdust-80"),
        (("::1", 8384, 0, 0), "[::1]:8384", "bitdust-8384"),
    ],
)
def test_the_port_of_http_is_what_no_browser_writes(at, host, cookie):
    gate = Gate(host_of(SimpleNamespace(getsockname=lambda: at)), lambda client, server: True)
    assert gate.origin == f"http://{host}"
    asked = Inquiry("GET", "/", gate.address.partition("?")[2].encode(), {"host": host}, *ENDS)
    assert gate.refuse(asked) is None and gate.cookie(asked).startswith(f"{cookie}=")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:4243"},
        {"Origin": "https://127.0.0.1:4242"},
        {"Origin": f"http://{HOST}, http://{HOST}"},
    ],
)
async def test_a_foreign_origin_gets_nothing_and_changes_nothing(home, headers):
    async with opened() as (page, browser):
        assert (await browser.get("/api/overview", headers=headers)).status_code == 403
        words = {**page.words(), **headers}
        answer = await browser.post(f"/api/mounts/{PLACE}/rebuild", json={}, headers=words)
        assert answer.status_code == 403 and not home.asked


async def test_what_another_site_asks_for_is_refused(home):
    async with opened() as (_, browser):
        for site in ("cross-site", "same-site"):
            headers = {"Sec-Fetch-Site": site}
            assert (await browser.get("/api/overview", headers=headers)).status_code == 403
            assert (await browser.get("/page.js", headers=headers)).status_code == 403


async def test_a_change_needs_the_origin_and_the_word_of_the_page(home):
    async with opened() as (page, browser):
        for missing in ("Origin", "X-Bitdust-Action"):
            words = page.words()
            del words[missing]
            answer = await browser.post(f"/api/mounts/{PLACE}/rebuild", json={}, headers=words)
            assert answer.status_code == 403
        words = {**page.words(), "X-Bitdust-Action": page.gate.address.rpartition("=")[2]}
        answer = await browser.post(f"/api/mounts/{PLACE}/rebuild", json={}, headers=words)
        assert answer.status_code == 403
        async with page.browser() as stranger:
            answer = await stranger.post(
                f"/api/mounts/{PLACE}/rebuild", json={}, headers=page.words()
            )
        assert answer.status_code == 401 and not home.asked
        assert f'content="{page.gate.action}"' in (await browser.get("/")).text


async def test_a_program_of_another_user_gets_nothing_whatever_it_has(home):
    async with opened(own=False) as (page, browser):
        for path in (page.gate.address, *PATHS):
            assert (await browser.get(path)).status_code == 403
        answer = await browser.post("/api/overview", headers=page.words())
        assert answer.status_code == 403


async def test_a_header_that_is_there_twice_is_not_guessed_at(home):
    async with opened() as (page, browser):
        for name, value in (("Host", HOST), ("Origin", page.gate.origin), (ACTION, "x")):
            headers = [(name, value), (name, value)]
            assert (await browser.get("/api/overview", headers=headers)).status_code == 400


async def test_every_answer_forbids_scripts_and_styles_of_elsewhere(home):
    async with opened() as (page, browser), page.browser() as stranger:
        for client in (browser, stranger):
            for path in PATHS:
                headers = (await client.get(path)).headers
                policy = headers["content-security-policy"]
                assert "default-src 'none'" in policy and "unsafe" not in policy
                assert "http" not in policy and "*" not in policy and "data:" not in policy
                assert headers["cache-control"] == "no-store"
                assert headers["referrer-policy"] == "no-referrer"
                assert headers["x-content-type-options"] == "nosniff"
                assert "access-control-allow-origin" not in headers
        html = (await browser.get("/")).text
        assert "<style" not in html and " style=" not in html and " on" + "click" not in html
        assert re.findall(r"<script(?![^>]*src=\"/)", html) == []
        assert re.findall(r"(?:src|href)=\"(?!/|#)", html) == []


WORDS = st.none() | st.text(max_size=80) | st.sampled_from([HOST, f"http://{HOST}", "null"])


@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]),
    st.sampled_from(PATHS) | st.text(max_size=40),
    st.binary(max_size=80),
    st.fixed_dictionaries(
        {}, optional={
            name: WORDS.filter(bool)
            for name in ("host", "origin", "cookie", "sec-fetch-site", ACTION)
        },
    ),
)  # fmt: skip
def test_nobody_guesses_their_way_in(method, path, query, headers):
    gate = Gate(HOST, lambda client, server: True)
    asked = Inquiry(method, path, query, headers, *ENDS)
    assert gate.refuse(asked) is not None and gate.cookie(asked) == ""


def test_the_page_and_its_cookie_are_let_in():
    gate = Gate(HOST, lambda client, server: True)
    query = gate.address.partition("?")[2].encode()
    asked = Inquiry("GET", "/", query, {"host": HOST}, *ENDS)
    cookie = gate.cookie(asked).partition(";")[0]
    assert gate.refuse(asked) is None
    for others in ("other=1", 'secure=1; a="b c', "path; =; a=\x7f", cookie.replace("=", "=x")):
        headers = {"host": HOST, "cookie": f"{others}; {cookie}; theme=dark"}
        assert gate.refuse(Inquiry("GET", "/api/overview", b"", headers, *ENDS)) is None
    words = {**headers, "origin": f"http://{HOST}", ACTION: gate.action}
    assert gate.refuse(Inquiry("POST", "/api/x", b"", words, *ENDS)) is None
    other = Gate(HOST, lambda client, server: True)
    assert other.refuse(Inquiry("GET", "/api/overview", b"", headers, *ENDS)) is not None


# -- whose the other end of a connection is


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernel_says_whose_a_connection_is(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        try:
            listening.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        listening.listen()
        with socket.create_connection(listening.getsockname()[:2], LIMIT) as ours:
            client, server = ours.getsockname()[:2], ours.getpeername()[:2]
            assert is_own(client, server)
            assert not is_own((host, 1), server) and not is_own(client, (host, 1))


def test_a_connection_of_another_user_is_seen_as_theirs():
    if os.geteuid():
        pytest.skip("only root may run a program as another user")
    code = AS_NOBODY + "print(s.getsockname()[1], flush=True); s.recv(1)"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with subprocess.Popen(
            [sys.executable, "-c", code, str(port)], stdout=subprocess.PIPE, text=True
        ) as process:
            theirs = ("127.0.0.1", int(process.stdout.readline()))
            accepted, _ = listening.accept()
            with accepted:
                assert not is_own(theirs, ("127.0.0.1", port))
            process.wait(LIMIT)


def test_a_connection_that_its_program_closed_is_nobodys():
    """The kernel's table shows it as root's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname(), LIMIT)
        client, server = ours.getsockname(), ours.getpeername()
        accepted, _ = listening.accept()
        with accepted:
            assert is_own(client, server)
            ours.close()
            assert not is_own(client, server)


@given(st.lists(st.text(alphabet=st.characters(codec="ascii"), max_size=120), max_size=5))
def test_a_table_that_says_nothing_of_it_names_nobody(lines):
    assert user_of(*ENDS, [["  sl  local_address ...", *lines]]) is None


async def test_the_page_is_served_over_a_real_socket_with_an_end_at_the_signal(tmp_path):
    """`bitdust dashboard` as a user starts it, in an empty home."""
    command = [sys.executable, "-m", "bitdustfs.cli.main", "dashboard", "--no-open"]
    environment = {**os.environ, "BITDUST_HOME": str(tmp_path)}
    process = await trio.lowlevel.open_process(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        said = b""
        while not said.endswith(b"\n"):
            said += await process.stdout.receive_some() or b"\n"
        address = said.decode().strip()
        host = re.fullmatch(r"http://(127\.0\.0\.1:\d+)/\?token=[\w-]{43}", address)[1]
        path = address.partition(host)[2]
        assert (await _asked(host, path)).startswith(b"HTTP/1.1 200")
        assert (await _asked(host, "/")).startswith(b"HTTP/1.1 401")
        if os.geteuid() == 0:
            code = AS_NOBODY + "s.sendall(sys.argv[2].encode()); print(s.recv(12))"
            other = await trio.run_process(
                [sys.executable, "-c", code, host.rpartition(":")[2], _head(host, path)],
                capture_stdout=True,
            )
            assert other.stdout == b"b'HTTP/1.1 403'\n"
    finally:
        process.terminate()
        await process.wait()
    assert process.returncode == 0


async def _asked(host, path):
    name, _, port = host.rpartition(":")
    stream = await trio.open_tcp_stream(name, int(port))
    async with stream:
        await stream.send_all(_head(host, path).encode())
        return b"".join([part async for part in stream])


def _head(host, path):
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
