"""Addresses that strangers name: what is dialled, and what a strange one does to who tries it."""

import pytest
import trio
from family import credentials

from bitdustfs.errors import Unreachable, UsageError
from bitdustfs.net.addresses import acceptable, check_address, dialable
from bitdustfs.net.peer import PeerSupplier

STRANGE = [
    "127.0.0.1:99999999999999999999", "127.0.0.1:-1", "127.0.0.1:99999", "a..b:80", "a\0b:1", ":5",
    "x" * 300 + ":80", "[::1]:70000", "127.0.0.1", "",
]  # fmt: skip

#: with a zone, an IPv4 address inside, of a range that is nobody's, or written as nobody writes it
SPECIAL = [
    "[2606:4700::1%eth0]:4000", "[2606:4700::1%\x1b[31m]:4000", "[fe80::1%1]:4000",
    "[::ffff:127.0.0.1]:4000", "[::ffff:8.8.8.8]:4000", "[::ffff:808:808]:4000", "[::7f00:1]:4000",
    "[64:ff9b::7f00:1]:4000", "[64:ff9b:1::a00:1]:4000", "[2002:7f00:1::]:4000",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]:4000", "[2001:db8::1]:4000", "[fec0::1]:4000",
    "[100::1]:4000", "[5f00::1]:4000", "192.0.0.8:4000", "198.18.0.1:4000", "203.0.113.5:4000",
    "240.0.0.1:4000", "255.255.255.255:4000", "0.1.2.3:4000", "192.88.99.1:4000",
    "8.8.8.8: 8000", "8.8.8.8:8000\n", "8.8.8.8:+8000", "8.8.8.8:8_000", "8.8.8.8:\u0668000",
    "8.8.8.08:8000", "2606:4700::1:8000", "[8.8.8.8]:8000", "[2606:4700:0:0::1]:8000",
    " 8.8.8.8:8000", "8.8.8.8:08000000", "134744072:8000", "0x8.8.8.8:8000",
]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("8.8.8.8:4000", True, True),
        ("[2606:4700::1]:4000", True, True),
        ("8.8.8.8:80", False, False),
        ("192.168.1.7:4000", False, True),
        ("127.0.0.1:4000", False, True),
        ("169.254.169.254:4000", False, False),
        ("224.0.0.1:4000", False, False),
        ("0.0.0.0:4000", False, False),
        ("localhost:4000", False, False),
        ("[::1]:4000", False, True),
        ("[fd00::1]:4000", False, True),
        ("100.64.0.1:4000", False, True),
        *[(address, False, False) for address in SPECIAL],
        *[(address, False, False) for address in STRANGE],
    ],
)
def test_what_a_stranger_names_is_dialled_only_if_it_is_a_host_of_the_kind_that_is_wanted(
    address, public, private
):
    assert dialable([address], False) == ((address,) if public else ())
    assert dialable([address], True) == ((address,) if private else ())


@pytest.mark.parametrize(
    "host",
    ["2606:4700::1%eth0", "fe80::1%1", "::1%lo", "::1%\x1b[2J", "::ffff:8.8.8.8", "8.8.8.08"],
)
def test_a_host_with_a_zone_or_written_unusually_is_no_contact(host):
    """Contacts of the DHT come as host and port."""
    assert not acceptable(host, 4000, False) and not acceptable(host, 4000, True)


@pytest.mark.parametrize("text", ["8.8.8.8:\u00b2", "8.8.8.8:0", ":4000", "8.8.8.8", "8.8.8.8:-1"])
def test_what_a_user_writes_for_an_address_is_named_if_it_is_none(text):
    with pytest.raises(UsageError):
        check_address(text)


@pytest.mark.parametrize("address", STRANGE)
async def test_a_strange_address_is_unreachable_and_nothing_worse(address):
    async with trio.open_nursery() as nursery:
        with pytest.raises(Unreachable):
            await PeerSupplier(bytes(32), (address,), credentials(), nursery).ping()
