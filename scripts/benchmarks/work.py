"""One step of the work, in a process of its own: `python -m benchmarks.work STEP FOLDER`.

It prints the step's figures as one JSON line. What hangs in a mount hangs here, and is killed.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks import steps
from benchmarks.folder import Figures, Folder


def find(name: str) -> Callable[[Folder], Figures]:
    """The function of a step. Raises KeyError."""
    known = {step.__name__: step for step in steps.STEPS}
    wanted = name.replace("-", "_")
    if wanted not in known:
        from benchmarks import vault_steps  # it takes long to import, with nothing cached

        known = {step.__name__: step for step in vault_steps.STEPS}
    return known[wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--big", type=int, default=64)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--random", type=int, default=300)
    args = parser.parse_args()
    folder = Folder(args.folder, args.big, args.files, args.random)
    print(json.dumps(find(args.step)(folder)))


if __name__ == "__main__":
    main()
