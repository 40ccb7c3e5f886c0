"""The promises on real mounts: copy, kill, remount elsewhere, suppliers gone or damaged."""

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import real_input
from asked import until

from bitdustfs.net import loglines

COPY_LIMIT = 400  #: seconds for a copy or comparison of everything
NOISE_HERE = 64 << 20  #: bytes of the large file; --long and scripts/try copy one of 1 GiB
STATED_DEADLINE = 25  #: seconds within which a read without enough suppliers is an error


def copy(source, target):
    subprocess.run(["cp", "-a", source, target], check=True, timeout=COPY_LIMIT)


def same(source, target):
    subprocess.run(
        ["diff", "-r", "--no-dereference", "--exclude=fifo", source, target],
        check=True, timeout=COPY_LIMIT,
    )  # fmt: skip
    assert real_input.manifest(source) == real_input.manifest(target)


@pytest.mark.slow
def test_promise_6_remount_elsewhere_from_words_with_three_suppliers_stopped(world, tmp_path, long):
    noise, remark = real_input.noise_size(tmp_path)
    if remark:
        warnings.warn(remark, stacklevel=1)
    source = tmp_path / "source"
    real_input.make_all(source, noise if long else min(noise, NOISE_HERE), whole=long)
    world.mount()
    copy(source, world.mountpoint / "copy")
    same(source, world.mountpoint / "copy")
    world.run("unmount", world.mountpoint)
    bootstrap = world.move_to("two")
    for number in (0, 2, 5):
        world.stop_supplier(number)
    world.mount(bootstrap)
    same(source, world.mountpoint / "copy")
    world.run("unmount", world.mountpoint)


def test_promise_5_four_suppliers_stopped_is_eio_in_time_and_heals(world):
    world.mount()
    content = random.Random(2).randbytes(2_000_000)
    (world.mountpoint / "file").write_bytes(content)
    world.run("unmount", world.mountpoint)
    bootstrap = world.move_to("two")
    world.mount(bootstrap)
    for number in range(4):
        world.stop_supplier(number)
    began = time.monotonic()
    with pytest.raises(OSError) as caught:
        (world.mountpoint / "file").read_bytes()
    assert caught.value.errno == errno.EIO
    assert time.monotonic() - began < STATED_DEADLINE
    world.start()
    deadline = time.monotonic() + STATED_DEADLINE
    while True:
        try:
            assert (world.mountpoint / "file").read_bytes() == content
            break
        except OSError:
            assert time.monotonic() < deadline, "reads do not work again"


@pytest.mark.parametrize("gone", [4, 7], ids=["too few are there", "nobody is there"])
def test_promise_9_a_mount_at_boot_publishes_when_suppliers_are_back(world, gone):
    content = random.Random(5).randbytes(2_000_000)
    world.mount()
    (world.mountpoint / "published").write_bytes(content)
    world.run("sync", world.mountpoint)
    (world.mountpoint / "kept here").write_bytes(content)
    with open(world.mountpoint / "kept here", "rb") as file:
        os.fsync(file.fileno())
    world.kill_mount()
    for number in range(gone):
        world.stop_supplier(number)
        world.wait_supplier_ended(number)
    assert "what is written stays on this machine" in world.mount().stderr
    (world.mountpoint / "new").write_bytes(content)
    (world.mountpoint / "published").unlink()
    with open(world.mountpoint / "kept here", "rb") as file:
        world.start()
        until(lambda: world.status()["judged"] == "safe", 60, "nothing is published")
        assert file.read() == content  # it was open all the time
    assert "is unmounted and published" in world.run("unmount", world.mountpoint).stdout
    world.mount(world.move_to("two"))
    assert sorted(os.listdir(world.mountpoint)) == ["kept here", "new"]
    for name in ("kept here", "new"):
        assert (world.mountpoint / name).read_bytes() == content


@pytest.mark.parametrize("position", [1, 5], ids=["slice", "parity"])
def test_promise_9_a_flipped_byte_in_every_fragment_names_the_supplier(world, position):
    world.mount()
    content = random.Random(3).randbytes(5_000_000)
    (world.mountpoint / "file").write_bytes(content)
    world.run("sync", world.mountpoint)
    world.wait_until_nothing_is_owed()  # a root needs five of seven; here all must hold their own
    status = json.loads(world.run("status", world.mountpoint, "--json").stdout)
    rotten = status["suppliers"][position]["address"]
    world.run("unmount", world.mountpoint)
    for path in (world.supplier(world.addresses.index(rotten)) / "store" / "shelf").glob("*/*"):
        data = bytearray(path.read_bytes())
        data[-len(data) // 4] ^= 0x40
        path.write_bytes(data)
    bootstrap = world.move_to("two")
    world.mount(bootstrap)
    assert (world.mountpoint / "file").read_bytes() == content

    def damaged():
        return [s["address"] for s in world.status()["suppliers"] if s["damaged"]]

    # a read meets a damaged slice; parity is found by audits
    assert until(damaged, 60, "nobody is named") == [rotten]
    assert rotten in world.status()["warnings"][0]


WRITER = """
import os, sys
folder, done = sys.argv[1:]
mount = os.open(folder, os.O_RDONLY)  # by its path one would write below it, once it is detached
for i in range(100000):
    data = (b"%09d" % i) * 5000
    fd = os.open(str(i), os.O_WRONLY | os.O_CREAT, dir_fd=mount)
    os.write(fd, data)
    if i % 5 == 0:
        os.fsync(fd)
        with open(done, "a") as log: log.write(f"{i}\\n")
    os.close(fd)
"""


def test_promise_2_what_was_fsynced_survives_kill_9_in_the_middle_of_a_copy(world, tmp_path):
    done = tmp_path / "fsynced"
    done.touch()
    world.mount()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(world.mountpoint), str(done)],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(done.read_text().split()) < 20:
        assert time.monotonic() < deadline and writer.poll() is None
    world.kill_mount()
    writer.wait(30)
    world.mount()
    fsynced = [int(i) for i in done.read_text().split()]
    assert len(fsynced) >= 20
    for i in fsynced:
        assert (world.mountpoint / str(i)).read_bytes() == (b"%09d" % i) * 5000
    kept = sorted(p.name for p in world.mountpoint.iterdir())
    world.run("unmount", world.mountpoint)
    bootstrap = world.move_to("two")
    world.mount(bootstrap)
    assert sorted(p.name for p in world.mountpoint.iterdir()) == kept
    for i in fsynced:
        assert (world.mountpoint / str(i)).read_bytes() == (b"%09d" % i) * 5000


def test_promise_8_nothing_readable_is_left_anywhere(world):
    marker = b"MARKER-8c1f-family-photos"
    world.mount()
    folder = world.mountpoint / marker.decode()
    folder.mkdir()
    (folder / marker.decode()).write_bytes(marker * 3)
    (folder / "large").write_bytes(marker * 100_000)
    os.setxattr(folder, "user." + marker.decode(), marker)
    os.symlink(marker.decode(), folder / "link")
    world.run("unmount", world.mountpoint)
    looked_at = 0
    for path in [*world.swarm.rglob("*"), *world.home.rglob("*")]:
        if path.is_file():
            looked_at += 1
            assert marker not in path.read_bytes(), path
    assert looked_at > 20


def test_promise_10_a_held_vault_is_refused_and_taken_over_on_request(world, tmp_path):
    world.mount()
    (world.mountpoint / "file").write_bytes(b"first")
    world.run("sync", world.mountpoint)
    first, place = world.home, world.mountpoint
    bootstrap = world.move_to("two")
    world.mountpoint = tmp_path / "mnt2"
    world.mountpoint.mkdir()
    refused = world.mount(bootstrap, check=False)
    assert refused.returncode == 1 and "take-over" in refused.stderr
    world.mount(bootstrap, "ro")
    assert (world.mountpoint / "file").read_bytes() == b"first"
    with pytest.raises(OSError):
        (world.mountpoint / "new").touch()
    world.run("unmount", world.mountpoint)
    world.mount(bootstrap, "take-over")
    (world.mountpoint / "file").write_bytes(b"second")
    world.run("unmount", world.mountpoint)
    failed = world.run("sync", place, home=first, check=False)
    assert failed.returncode == 0 or "another machine" in failed.stderr
    world.home, world.mountpoint = first, place


def test_unlinked_but_open_files_and_renames_behave(world):
    world.mount()
    path = world.mountpoint / "file"
    path.write_bytes(b"x" * 200_000)
    with open(path, "r+b") as file:
        path.unlink()
        assert not path.exists()
        file.seek(100_000)
        file.write(b"still here")
        file.flush()
        file.seek(100_000)
        assert file.read(10) == b"still here"
        assert os.fstat(file.fileno()).st_nlink == 0
    (world.mountpoint / "a").write_bytes(b"a")
    (world.mountpoint / "b").write_bytes(b"b")
    os.replace(world.mountpoint / "a", world.mountpoint / "b")
    assert (world.mountpoint / "b").read_bytes() == b"a"
    (world.mountpoint / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(OSError) as caught:
        os.rename(world.mountpoint / "folder", world.mountpoint / "folder" / "inner" / "x")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError) as caught:
        os.rmdir(world.mountpoint / "folder")
    assert caught.value.errno == errno.ENOTEMPTY


def test_promise_6_any_node_of_the_network_is_a_good_enough_bootstrap(world):
    world.mount()
    (world.mountpoint / "file").write_bytes(b"found through the DHT")
    world.run("unmount", world.mountpoint)
    world.start(8)  # the eighth has no contract with this vault
    stranger = world.addresses[7]
    world.move_to("two")
    world.mount(f"bootstrap={stranger}")
    assert (world.mountpoint / "file").read_bytes() == b"found through the DHT"


def test_large_xattrs_survive_a_remount(world):
    world.mount()
    value = bytes(range(256)) * 200
    (world.mountpoint / "file").touch()
    os.setxattr(world.mountpoint / "file", "user.large", value)
    world.run("unmount", world.mountpoint)
    world.mount()
    assert os.getxattr(world.mountpoint / "file", "user.large") == value
    assert os.getxattr(world.mountpoint / "file", "user.bitdust.state") == b"published"


def test_a_folder_of_5000_files_lists_completely(world):
    world.mount()
    folder = world.mountpoint / "many"
    folder.mkdir()
    names = {f"file-{i:05d}" for i in range(5000)}
    for name in names:
        (folder / name).touch()
    assert set(os.listdir(folder)) == names
    world.run("unmount", world.mountpoint)
    world.mount()
    assert set(os.listdir(folder)) == names


def test_sigterm_ends_in_a_clean_flush(world):
    world.mount()
    content = random.Random(4).randbytes(3_000_000)
    (world.mountpoint / "file").write_bytes(content)
    log = os.open(world.mountpoint / "log", os.O_WRONLY | os.O_CREAT)  # as at shutdown: still open
    os.write(log, content)
    pid = world.mount_pid()
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, "SIGTERM does not end the mount"
        time.sleep(0.05)
    assert not os.path.ismount(world.mountpoint)
    with contextlib.suppress(OSError):  # its mount is gone
        os.close(log)
    world.mount(world.move_to("two"))
    assert (world.mountpoint / "file").read_bytes() == content
    assert (world.mountpoint / "log").read_bytes() == content


def test_promise_11_fsync_that_waits_for_suppliers_ends_and_hangs_nobody_else(world):
    world.mount("durability=published")
    for number in range(4):
        world.stop_supplier(number)

    def write_and_sync(number):
        fd = os.open(world.mountpoint / f"file {number}", os.O_WRONLY | os.O_CREAT)
        try:
            os.write(fd, b"x" * 1000)
            os.fsync(fd)
        except OSError as error:
            return error.errno
        finally:
            os.close(fd)
        return 0

    began = time.monotonic()
    with ThreadPoolExecutor(24) as pool:
        codes = list(pool.map(write_and_sync, range(24)))
    assert codes == [errno.EIO] * 24 and time.monotonic() - began < 60
    assert len(os.listdir(world.mountpoint)) == 24
    world.start()  # they are back: what was refused was kept, and goes out
    world.run("sync", world.mountpoint)
    assert write_and_sync(0) == 0


def test_a_supplier_survives_strangers_and_says_one_line_each(world):
    host, port = world.addresses[0].split(":")
    log = next(world.supplier(0).glob("*log*"))
    before = log.read_text().count("\n")
    rng = random.Random(6)
    strangers = [
        rng.randbytes(4000),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
    ] * 20
    for garbage in strangers:
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.settimeout(20)
            with contextlib.suppress(OSError):  # it hangs up on us
                connection.sendall(garbage)
                while connection.recv(4096):
                    pass
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for size in (0, 1, 100, 1400, 9000):
        datagrams.sendto(rng.randbytes(size), (host, int(port)))
    datagrams.close()
    world.mount()
    (world.mountpoint / "file").write_bytes(b"still served" * 10_000)
    world.run("sync", world.mountpoint)
    world.wait_until_nothing_is_owed()
    said = log.read_text().splitlines()[before:]
    assert 3 <= len(said) <= loglines.AT_ONCE + 5 + 5, said
    assert any("closed" in line for line in said)
    assert not any("Traceback" in line for line in said)


def test_unmount_ends_although_another_mount_namespace_holds_a_copy_of_the_mount(world):
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("a private mount namespace needs root and unshare")
    world.mount()
    (world.mountpoint / "file").write_bytes(b"x" * 100_000)
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo held; read _"]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        world.run("unmount", world.mountpoint)
        world.mount(world.move_to("two"))  # the lease was given back
        assert (world.mountpoint / "file").read_bytes() == b"x" * 100_000
    finally:
        holder.communicate("\n", timeout=30)
