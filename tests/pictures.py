"""What scripts/pictures does once everything is installed: the page in a browser, as PNG files.

The home is one that a user could have: a vault at seven friends with names, one of whom is away,
and a supplier of one's own that keeps something for two others.
"""

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
    ("page-light", {"width": 1120, "height": 1500}),
    ("page-dark", {"width": 1120, "height": 1500, "dark": True}),
    ("page-phone", {"width": 390, "height": 1700, "phone": True}),
)


def main():
    """Raises what fails: nothing is drawn by half."""
    if browser.CHROMIUM is None:
        sys.exit(browser.MISSING)
    with tempfile.TemporaryDirectory(prefix="bitdust-pictures-") as folder:
        world = World(Path(folder))
        own = None
        try:
            world.start()
            world.create(space="40G")
            world.mount()
            own = own_supplier(world, Path(folder) / "shelf")
            furnish(world, Path(folder))
            draw(world, Path(folder))
        finally:
            world.close()
            if own is not None:
                own.terminate()
                own.wait(LIMIT)
    return 0


def own_supplier(world, shelf):
    """A supplier in the owner's home."""
    with held_port() as port:
        bootstrap = (world.swarm / "bootstrap").read_text()
        process = subprocess.Popen(
            [sys.executable, "-m", "bitdustfs.cli.main", "supplier", "run", "--dir", str(shelf),
             "--space", "60G", "--listen", f"127.0.0.1:{port}", "--bootstrap", bootstrap,
             "--for", "anyone", "--log", str(shelf) + ".log"],
            env={**os.environ, "BITDUST_HOME": str(world.home)}, text=True,
        )  # fmt: skip
        wait_for((shelf / "control").exists)
    return process


def furnish(world, folder):
    """Files, names, snapshots, a customer of one's own supplier, and a friend who is away."""
    for number in range(24):
        place = world.mountpoint / f"photos-{number % 4}"
        place.mkdir(exist_ok=True)
        (place / f"{number}.raw").write_bytes(os.urandom(4 << 20))
    world.run("snapshot", "create", world.mountpoint, "before-the-move")
    for position, name in enumerate(FRIENDS):
        world.run("name", str(position), name)
    world.wait_until_nothing_is_owed()
    status = world.run("suppliers", world.mountpoint).stdout.splitlines()[1 + AWAY]
    number = next(n for n, address in enumerate(world.addresses) if address in status)
    os.kill(world.supplier_pid(number), signal.SIGTERM)
    world.wait_supplier_ended(number)
    (world.mountpoint / "letter.txt").write_bytes(os.urandom(3 << 20))
    world.run("sync", world.mountpoint)


def draw(world, folder):
    """One picture each."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bitdustfs.cli.main", "dashboard", "--no-open"],
        env={**os.environ, "BITDUST_HOME": str(world.home)}, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    address = process.stdout.readline().strip()
    PICTURES.mkdir(exist_ok=True)
    try:
        with browser.browser(folder / "profile") as tab:
            for name, words in SHOTS:
                tab.open(address, **words)
                tab.until("document.querySelectorAll('#suppliers tr').length === 7")
                tab.until("document.querySelectorAll('#map-body tr').length > 0")
                path = PICTURES / f"{name}.png"
                path.write_bytes(tab.picture())
                shrink(path)
                print(f"{path.relative_to(ROOT)}: {path.stat().st_size >> 10} KiB")
                assert path.stat().st_size <= SIZE_MAX, "too large for the README"
            assert not tab.complaints, tab.complaints
    finally:
        process.terminate()
        process.wait(LIMIT)


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
