"""Steps that only a mount of ours knows: publishing, mounting on another machine, many files."""

import json
import os
import subprocess
import sys
import time

from benchmarks.folder import Figures, Folder, Watch, check
from benchmarks.settings import MIB
from benchmarks.steps import create, write
from bitdustfs.mount.client import MountClient, ignore


def publish(folder: Folder) -> Figures:
    """Writing until the vault is published, and until every supplier has its fragments."""
    watch = Watch()
    with watch.running():
        write(folder)
    return _published(folder, watch, folder.mebibytes * MIB / 1e6)


def create_published(folder: Folder) -> Figures:
    """The same for small files. `created`: files a second, before anybody waits."""
    watch = Watch()
    with watch.running():
        created = create(folder)
    return {**_published(folder, watch, folder.count), "created": created["rate"]}


def _published(folder: Folder, watch: Watch, amount: float) -> Figures:
    client = MountClient(folder.path)
    with watch.running():
        client.sync(ignore)
    published = watch.rate(amount)
    with watch.running():
        while client.status().owed_blocks:
            time.sleep(0.05)
    return {**published, "delivered": amount / watch.seconds}


def mount_and_list(folder: Folder) -> Figures:
    """Seconds from the command (standard input, a JSON list) until its mount's first ls."""
    words, watch = json.load(sys.stdin), Watch()
    with watch.running():
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        os.listdir(folder.path)
    return watch.rate(1)


def list_one(folder: Folder) -> Figures:
    """Milliseconds that `ls -l` takes for one folder of a vault made by `populate`."""
    watch = Watch()
    with watch.running(), os.scandir(folder.path / "folder-0") as entries:
        count = len([entry.stat() for entry in entries])
    check(count > 0, True)
    return {"ms": 1000 * watch.seconds}


def find(folder: Folder) -> Figures:
    """Names a second, all of a vault made by `populate`, each with its attributes."""
    watch, seen = Watch(), 0
    with watch.running():
        for path, folders, files in os.walk(folder.path):
            for name in (*folders, *files):
                os.lstat(os.path.join(path, name))
            seen += len(files)
    check(seen, folder.count)
    return watch.rate(seen)


#: what may be done to a mount of ours, by work.py
STEPS = (publish, create_published, mount_and_list, list_one, find)
