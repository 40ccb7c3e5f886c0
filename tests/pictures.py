"""What scripts/pictures does once everything is installed: the page in a browser, as PNG files.

The home is one that a user could have: a vault at seven friends with names, one of whom is away,
and a supplier of one's own that keeps something for two others.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import browser
from world import World

from bitdustfs.cli.cmd_swarm import held_port

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
FRIENDS = ("Anna", "Bert", "Carl", "Dora", "Emil", "Frida", "Gustav")
AWAY = 4  #: the position whose supplier is stopped
SIZE_MAX = 150 << 10  #: bytes of one picture
LIMIT = 120
SHOTS = (
    ("page-light", "#mapped", {"width": 1120, "height": 1500}),
    ("page-dark", "body", {"width": 1120, "height": 1500, "dark": True}),
    ("page-phone", "body", {"width": 390, "height": 1700, "phone": True}),
)


def main():
    """Raises what fails: nothing is drawn by half."""
    if browser.CHROMIUM is None:
        sys.exit(browser.MISSING)
    with tempfile.TemporaryDirectory(prefix="anna-") as folder:
        world = World(Path(folder))
        world.mountpoint = world.mountpoint.rename(Path(folder) / "vault")
        others = []
        try:
            world.start()
            world.create(space="400M")
            world.mount()
            others.append(own_supplier(world, Path(folder) / "shelf"))
            furnish(world, Path(folder))
            others.append(dashboard(world))
            draw(world, others[-1].stdout.readline().strip(), Path(folder))
        finally:
            for process in others:
                process.terminate()
                process.wait(LIMIT)
            world.close()
    return 0


def own_supplier(world, shelf):
    """A supplier in the owner's home."""
    with held_port() as port:
        bootstrap = (world.swarm / "bootstrap").read_text()
        process = subprocess.Popen(
            [sys.executable, "-m", "bitdustfs.cli.main", "supplier", "run", "--dir", str(shelf),
             "--space", "2G", "--listen", f"127.0.0.1:{port}", "--bootstrap", bootstrap,
             "--for", "anyone", "--log", str(shelf) + ".log"],
            env={**os.environ, "BITDUST_HOME": str(world.home)}, text=True,
        )  # fmt: skip
        wait_for((shelf / "control").exists)
    return process


def dashboard(world):
    """The page's process."""
    return subprocess.Popen(
        [sys.executable, "-m", "bitdustfs.cli.main", "dashboard", "--no-open"],
        env={**os.environ, "BITDUST_HOME": str(world.home)}, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip


def furnish(world, folder):
    """Files, a snapshot, names, and a vault of somebody else at one's own supplier."""
    for number in range(24):
        place = world.mountpoint / f"photos-{number % 4}"
        place.mkdir(exist_ok=True)
        (place / f"{number}.raw").write_bytes(os.urandom(6 << 20))
    world.run("snapshot", "create", world.mountpoint, "before-the-move")
    for position, name in enumerate(FRIENDS):
        world.run("name", str(position), name)
    world.wait_until_nothing_is_owed()
    status = json.loads(world.run("supplier", "status", "--dir", folder / "shelf", "--json").stdout)
    words = [w for one in (status["address"], world.addresses[0]) for w in ("--supplier", one)]
    theirs, there = folder / "hanna", folder / "hannas"
    there.mkdir()
    world.run("vault", "create", "--ecc", "1/2", "--space", "300M", *words, home=theirs)
    world.run("mount", there, home=theirs)
    (there / "songs").write_bytes(os.urandom(60 << 20))
    world.run("unmount", there, home=theirs)
    [line] = json.loads(
        world.run("supplier", "customers", "--dir", folder / "shelf", "--json").stdout
    )
    world.run("name", line["vault"], "Hanna")


def draw(world, address, folder):
    """One picture each, after something happened that the page has seen."""
    PICTURES.mkdir(exist_ok=True)
    with browser.browser(folder / "profile") as tab:
        tab.open(address)
        tab.until("document.querySelectorAll('#suppliers .state.online').length === 7")
        line = json.loads(world.run("suppliers", world.mountpoint, "--json").stdout)[AWAY]
        number = world.addresses.index(line["address"])
        os.kill(world.supplier_pid(number), signal.SIGTERM)
        world.wait_supplier_ended(number)
        for more in range(8):
            (world.mountpoint / f"letter-{more}").write_bytes(os.urandom(3 << 20))
        tab.until("document.querySelectorAll('#suppliers .state.online').length === 6")
        world.run("sync", world.mountpoint)
        tab.until("document.querySelector('.spark') !== null")
        for name, down_to, words in SHOTS:
            tab.open(address, **words)
            tab.until("document.querySelectorAll('#suppliers tr').length === 7")
            tab.until("document.querySelectorAll('#map-body tr').length > 0")
            path = PICTURES / f"{name}.png"
            path.write_bytes(tab.picture(words["width"], down_to))
            shrink(path)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size >> 10} KiB")
            assert path.stat().st_size <= SIZE_MAX, "too large for the README"
        assert not tab.complaints, tab.complaints


def shrink(path):
    """By a palette, where the tool for it is installed."""
    if shutil.which("pngquant"):
        subprocess.run(["pngquant", "--force", "--ext", ".png", "--strip", str(path)], check=True)


def wait_for(what):
    deadline = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < deadline, "that takes too long"
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
