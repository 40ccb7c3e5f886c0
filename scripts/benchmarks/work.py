"""One step of the work, in a process of its own: `python -m benchmarks.work STEP FOLDER`.

It prints the step's figures as one JSON line. What hangs in a mount hangs here, and is killed.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks.folder import Figures, Folder
from benchmarks.steps import (
    create,
    fsync,
    look,
    ls,
    prepare_looks,
    random_read,
    random_write,
    read_cold,
    read_small,
    read_warm,
    rename,
    stat,
    unlink,
    write,
)  # fmt: skip
from benchmarks.vault_steps import create_published, find, list_one, mount_and_list, publish

STEPS: dict[str, Callable[[Folder], Figures]] = {
    step.__name__.replace("_", "-"): step
    for step in (
        write, fsync, read_cold, read_warm, random_read, random_write, create, stat, ls,
        read_small, rename, unlink, prepare_looks, look, publish, create_published,
        mount_and_list, list_one, find,
    )
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--big", type=int, default=64)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--random", type=int, default=300)
    args = parser.parse_args()
    folder = Folder(args.folder, args.big, args.files, args.random)
    print(json.dumps(STEPS[args.step](folder)))


if __name__ == "__main__":
    main()
