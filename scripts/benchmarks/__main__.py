"""`scripts/bench`: measures, shows, draws. See --help."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path

from benchmarks import gauges, plot, scenes, table, vault_scenes
from benchmarks.results import Results, load
from benchmarks.rows import ROWS, SCENES, Row, select
from benchmarks.running import end_on_signals, run_folder
from benchmarks.settings import MIB, QUICK, Failed, Settings
from benchmarks.stage import Stage
from benchmarks.systems import Floor, Gocryptfs, Plain, S3ql, System, check_room
from benchmarks.vault import Vault

ABOUT = """\
Measures a vault on suppliers of this machine, and other file systems on the same work.

Systems and rounds are interleaved; medians are shown. Everything lies in one new folder, which is
gone afterwards with all mounts and processes, whatever happened. Figures are worth something on a
machine that does nothing else, as root (else caches cannot be dropped).

  scripts/bench --rows workload --peers --json now.json --plot now.svg
  scripts/bench --rows publish far 'busy-*' --big 1024 --grow 256,4096
  scripts/bench --from now.json --against before.json
"""
#: in the order in which they are shown; ours first
KINDS: dict[str, type[System]] = {
    kind.name: kind for kind in (Vault, S3ql, Gocryptfs, Floor, Plain)
}
PLAYS: dict[str, Callable[[Stage], None]] = {
    "workload": scenes.workload,
    "busy": scenes.busy,
    "publish": vault_scenes.publish,
    "far": vault_scenes.far,
    "small": vault_scenes.small,
    "many": vault_scenes.many,
    "rebuild": vault_scenes.rebuild,
    "idle": vault_scenes.idle,
}
STOPPED = "it was stopped before its end"
FOR_ALL = ("workload", "busy")  #: scenes that every system plays
ROUNDS_WITHIN = ("many",)  #: scenes that go through all rounds themselves
COPIES = 5  #: times that the largest file may lie on the disk: fragments, caches of machines


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--rows", nargs="+", default=[], metavar="NAME",
        help="rows, scenes or patterns to measure (all); --list shows them")  # fmt: skip
    add("--list", action="store_true", help="the rows by scene, and the systems; nothing is run")
    add("--peers", action="store_true", help="every system beside ours that is installed")
    add("--systems", nargs="+", choices=KINDS, metavar="SYSTEM", help=f"of {', '.join(KINDS)}")
    add("--quick", action="store_true", help="small sizes, one round: only to see that it works")
    for name, (metavar, text) in SIZES.items():
        default = getattr(Settings(), name)
        shown = ",".join(map(str, default)) or "none" if isinstance(default, tuple) else default
        kind = _numbers if isinstance(default, tuple) else _positive
        add(f"--{name}", type=kind, metavar=metavar, help=f"{text} ({shown})")
    add("--code", type=_code, default=(4, 7), metavar="K/N", help="suppliers of a vault (4/7)")
    add("--dir", type=Path, help="where the folder is made; its file system is compared with")
    add("--json", type=Path, metavar="FILE", help="write all values; also while it goes on")
    add("--plot", type=Path, metavar="FILE.svg", help="draw them")
    add("--from", type=Path, dest="source", metavar="FILE", help="show and draw what --json wrote")
    add("--against", type=Path, metavar="FILE", help="show earlier results of the first system")
    return parser.parse_args(words)


SIZES = {
    "big": ("MIB", "size of the large file"),
    "files": ("N", "files of 4 KiB in the workload"),
    "random": ("N", "reads and writes at random"),
    "small": ("N", "files of 4 KiB that are published and read elsewhere"),
    "many": ("N,N...", "files of vaults that are mounted anew"),
    "grow": ("MIB,MIB...", "sizes at which publishing is measured as well"),
    "busy": ("MIB", "what is copied while small files are looked at"),
    "idle": ("SECONDS", "how long an idle mount is watched"),
    "rounds": ("N", "rounds"),
    "limit": ("SECONDS", "how long any one step may take"),
}


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("it has to be at least 1")
    return number


def _numbers(word: str) -> tuple[int, ...]:
    return tuple(sorted(map(_positive, word.split(","))))


def _code(word: str) -> tuple[int, int]:
    k, n = map(int, word.split("/"))
    if not 1 <= k <= n <= 64:
        raise argparse.ArgumentTypeError("1 <= K <= N <= 64")
    return k, n


def settings_of(args: argparse.Namespace) -> Settings:
    base = QUICK if args.quick else Settings()
    k, n = args.code
    named = {name: getattr(args, name) for name in SIZES if getattr(args, name) is not None}
    return replace(base, k=k, n=n, **named)


def choose(args: argparse.Namespace) -> tuple[list[type[System]], list[str]]:
    """The systems to measure, and sentences about those that are not here."""
    names = args.systems or (list(KINDS) if args.peers else [Vault.name])
    kinds = [KINDS[name] for name in KINDS if name in names]
    missing = [f"{kind.title}: {why}" for kind in kinds if (why := kind.missing())]
    return [kind for kind in kinds if not kind.missing()], missing


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _say_of(place: str, words: str) -> None:
    say(f"[{place}] {words}")


def measure(args: argparse.Namespace, settings: Settings, rows: list[Row], folder: Path) -> Results:
    """Every scene that has one of `rows`, round by round, system by system."""
    kinds, missing = choose(args)
    facts = {**gauges.machine(folder), "own_network": gauges.own_network()}
    facts["command"] = " ".join(sys.argv[1:])
    facts["versions"] = {kind.name: kind.version() for kind in kinds if kind.version()}
    titles = {kind.name: kind.title for kind in kinds}
    if Plain.name in titles:
        titles[Plain.name] = str(facts["file_system"])
    results = Results(titles, facts, asdict(settings), missing=missing)
    for sentence in missing:
        say(sentence)
    wanted = {row.name for row in rows}
    try:
        for scene in SCENES:
            if any(row.scene == scene for row in rows):
                _play(scene, kinds, folder, settings, wanted, results, args.json)
    except KeyboardInterrupt:
        results.failures.append(STOPPED)
        if args.json is not None:
            results.save(args.json)
    return results


def _play(
    scene: str,
    kinds: list[type[System]],
    folder: Path,
    settings: Settings,
    wanted: set[str],
    results: Results,
    target: Path | None,
) -> None:
    players = kinds if scene in FOR_ALL else [kind for kind in kinds if kind is Vault]
    rounds = 1 if scene in ROUNDS_WITHIN else settings.rounds
    for number in range(rounds):
        turn = number % max(1, len(players))  # nobody is always the first
        for kind in players[turn:] + players[:turn]:
            place = f"{scene} {number + 1}/{rounds} {kind.name}"
            began = time.monotonic()
            inside, line = folder / f"{scene}-{number}", partial(_say_of, place)
            stage = Stage(kind, inside, settings, wanted, results, line)
            try:
                PLAYS[scene](stage)
            except (Failed, OSError) as error:
                results.failures.append(f"{place}: {error}")
                line(f"FAILED: {error}")
            line(f"{time.monotonic() - began:.0f} s")
            if target is not None:
                results.save(target)


def show_list() -> None:
    for scene, meaning in SCENES.items():
        options = {name: f"--{name}" for name in SIZES}
        print(f"\n{scene}: {meaning.format_map(options)}")
        for row in ROWS:
            if row.scene == scene:
                less = ", less is better" if row.less_is_better else ""
                print(f"  {row.name:24} {row.title} ({row.unit}{less})")
    print()
    for name, kind in KINDS.items():
        print(f"{name:24} {kind.missing() or kind.title}")


def main(words: list[str] | None = None) -> int:
    args = parse(words)
    if args.list:
        show_list()
        return 0
    end_on_signals()
    try:
        before = load(args.against) if args.against else None
        results = load(args.source) if args.source else _measured(args)
    except Failed as error:
        say(f"{error}")
        return 2
    except KeyboardInterrupt:
        return 130
    print(table.render(results, before))
    if args.plot:
        args.plot.write_text(plot.draw(results))
    return len(results.failures) > 0


def _measured(args: argparse.Namespace) -> Results:
    settings, rows = settings_of(args), select(args.rows)
    for target in (args.json, args.plot):
        if target is not None and not target.absolute().parent.is_dir():
            raise Failed(f"{target} cannot be written: its folder is not there")
    with run_folder(args.dir) as folder:
        check_room(folder, COPIES * MIB * max(settings.big, settings.busy, *settings.grow, 1))
        return measure(args, settings, rows, folder)


assert {field.name for field in fields(Settings)} == {*SIZES, "k", "n"}

if __name__ == "__main__":
    sys.exit(main())
