"""Keys stay in memory: no file that survives a kill, no core, no swap where that can be had."""

import os
import stat
import subprocess
import sys

import pytest

from bitdustfs.cache import keyfile
from bitdustfs.cache.folder import write_durably
from bitdustfs.core.keys import VaultKey

IN_A_PROCESS = """
import os, resource, ctypes
from nacl.signing import SigningKey
from bitdustfs.cache.secrecy import forbid_dumps, lock_node_key, lock_vault_key
from bitdustfs.core.keys import VaultKey
from bitdustfs.net.tls import make_context

def halves(key):
    return [key._seed, key._signing_key]

def is_locked(secret):
    "Whether each page on which it lies is, by proc_pid_smaps(5)."
    there = range(id(secret), id(secret) + bytes.__basicsize__ + len(secret))
    found = []
    for line in open("/proc/self/smaps"):
        words = line.split()
        if not words[0].endswith(":"):
            begin, end = (int(word, 16) for word in words[0].split("-"))
        elif words[0] == "VmFlags:" and begin < there.stop and end > there.start:
            found.append("lo" in words)
    return bool(found) and all(found)

forbid_dumps()
make_context(os.urandom(32), server_side=True)
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
node, vault = SigningKey(os.urandom(32)), VaultKey(os.urandom(32))
of_node = halves(node)
of_vault = [vault.secret, vault.cache_key, vault.name_key]
of_vault += [*halves(vault.signing), *halves(vault.record)]
print(all(map(is_locked, of_node)), all(map(is_locked, of_vault)))
print(lock_node_key(node), all(map(is_locked, of_node)))
print(lock_vault_key(vault), all(map(is_locked, of_vault)))
"""


def test_a_process_with_keys_leaves_no_core_and_its_keys_do_not_go_to_swap():
    said = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS], capture_output=True, text=True, check=True,
        timeout=30, env={n: v for n, v in os.environ.items() if n != "BITDUST_DUMPABLE"},
    ).stdout.splitlines()  # fmt: skip
    assert said == ["(0, 0) 0", "False False", "True True", "True True"]


MADE = """
import os, sys
from bitdustfs.net.tls import make_context
made = []
def hook(event, arguments):
    named = event == "open" and isinstance(arguments[0], str)
    creates = named and (arguments[2] or 0) & os.O_CREAT
    if creates or event in ("os.mkdir", "tempfile.mkdtemp", "tempfile.mkstemp"):
        made.append((event, arguments))
sys.addaudithook(hook)
make_context(bytes(32), False)
print(made)
"""


def test_the_tls_key_is_in_no_file_that_a_kill_would_leave():
    done = subprocess.run(
        [sys.executable, "-c", MADE], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("mask", [0, 0o777])
def test_a_key_file_is_its_owners_whatever_lies_there(tmp_path, mask):
    victim, path = tmp_path / "victim", tmp_path / "vault.key"
    victim.write_text("mine")
    (tmp_path / "vault.key.new").symlink_to(victim)
    before = os.umask(mask)
    try:
        keyfile.save(path, VaultKey(bytes(32)))
    finally:
        os.umask(before)
    assert victim.read_text() == "mine"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_written_over_a_link_replaces_the_link(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_text("mine")
    path.symlink_to(victim)
    write_durably(path, b"new")
    assert victim.read_text() == "mine" and path.read_bytes() == b"new" and not path.is_symlink()
