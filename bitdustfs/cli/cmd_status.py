"""`bitdust status`, `sync` and `unmount`: questions to a running mount."""

import argparse
import json
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bitdustfs.errors import BitdustError, LocalError, UsageError
from bitdustfs.net.control import ask, dead_mount
from bitdustfs.units import format_size


def add_commands(verbs: Any) -> None:
    """Adds the commands that talk to a mount."""
    for name, run, text in (
        ("status", run_status, "how safe a mount's content is, and who keeps it"),
        ("suppliers", run_suppliers, "who keeps a vault, and how well"),
        (
            "rebuild",
            run_rebuild,
            "make what suppliers lack again, now, and replace those to be replaced",
        ),
        ("sync", run_sync, "publish everything written so far; returns when that is done"),
        ("unmount", run_unmount, "publish, then unmount; returns when all is safe"),
    ):
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("mountpoint", type=Path)
        verb.set_defaults(run=run)
        if name in ("status", "suppliers"):
            verb.add_argument("--json", action="store_true", help="for programs")


def run_status(args: argparse.Namespace) -> int:
    [answer] = ask(args.mountpoint, "status")
    if args.json:
        print(json.dumps(answer))
        return 0
    print(f"vault {answer['vault'][:16]}, {answer['state']}")
    if answer["message"]:
        print(answer["message"])
    print(
        f"{answer['inodes']} files and folders, {format_size(answer['live'])}; "
        f"{format_size(answer['dirty'])} in memory, {answer['owed_blocks']} blocks still to upload"
    )
    if answer["local_blocks"]:
        print(f"{answer['local_blocks']} blocks are only on this machine as yet")
    lose = answer["may_lose"]
    print(
        f"you can lose {lose} more suppliers right now without losing anything"
        if lose >= 0
        else "too many suppliers are away: not everything can be read right now"
    )
    if answer["thinnest"]:
        print(f"the thinnest block is {answer['thinnest']}")
    done, total = answer["rebuilding"]
    if total:
        print(f"rebuilding: {done} of {total} blocks")
    for position, supplier in enumerate(answer["suppliers"]):
        print(
            f"  {position}  {supplier['node'][:16]}  {supplier['state']:9}  "
            f"damaged answers: {supplier['damaged']}  {supplier['address']}"
        )
    standing = [r for r in answer["bench"] if r["stands_in_for"] is not None]
    ready = sum(reserve["ready"] for reserve in answer["bench"])
    print(f"{ready} reserves stand by for a time when you are away")
    for reserve in standing:
        print(f"  {reserve['node'][:16]} has a copy of position {reserve['stands_in_for']}")
    for visit in answer["visits"]:
        print(
            f"  {visit['node'][:16]} read {format_size(visit['bytes'])} to stand in for position "
            f"{visit['position']}, last on {time.strftime('%F', time.localtime(visit['until']))}"
        )
    for line in answer["warnings"]:
        print(f"warning: {line}")
    return 0


def run_suppliers(args: argparse.Namespace) -> int:
    [answer] = ask(args.mountpoint, "suppliers")
    if args.json:
        print(json.dumps(answer["suppliers"]))
        return 0
    print("pos  supplier          state    uptime  latency    stored  audits (failed)  address")
    for row in answer["suppliers"]:
        uptime = "-" if row["uptime"] is None else f"{100 * row['uptime']:.0f} %"
        print(
            f"{row['position']:3}  {row['node'][:16]}  {row['state']:7}  {uptime:>6}  "
            f"{1000 * row['latency']:4.0f} ms  {format_size(row['stored']):>9}  "
            f"{row['audits']:6} ({row['audits_failed']})       {row['address']}"
        )
    return 0


def run_rebuild(args: argparse.Namespace) -> int:
    """Exit code 0: every supplier has what it should have; 3: something still waits."""
    answer: dict[str, Any] = {}
    with tqdm(unit="block", desc="rebuilding", leave=False, disable=None) as bar:
        for answer in ask(args.mountpoint, "rebuild"):
            if "progress" in answer:
                bar.total, bar.n = answer["total"], answer["progress"]
                bar.refresh()
    print(
        f"{answer['placed']} fragments were made again, {answer['replaced']} suppliers replaced; "
        f"you can lose {max(0, answer['margin'])} more suppliers right now"
    )
    if answer["waiting"]:
        print(f"{answer['waiting']} blocks wait until more of their suppliers are back")
    if answer["failure"]:
        print(answer["failure"])
    return 3 if answer["waiting"] or answer["failure"] else 0


def run_sync(args: argparse.Namespace) -> int:
    _sync(args.mountpoint)
    print("everything written so far is published")
    return 0


def _sync(mountpoint: Path, **how: float) -> None:
    with tqdm(unit="block", desc="publishing", leave=False, disable=None) as bar:
        for answer in ask(mountpoint, "sync", **how):
            if "progress" in answer:
                bar.total = max(bar.total or 0, answer["progress"])
                bar.n = bar.total - answer["progress"]
                bar.refresh()


def run_unmount(args: argparse.Namespace) -> int:
    """Unmounts in any case; exit code 1: not everything is published, and kept here."""
    if dead_mount(args.mountpoint):
        _fusermount(args.mountpoint, "-z")
        print(
            f"{args.mountpoint} was a dead mount: it is cleared away; mount it again to publish the rest"
        )
        return 0
    trouble = ""
    try:
        _sync(args.mountpoint, patience=5.0)  # the mount tries once more when it ends
    except UsageError:
        raise
    except BitdustError as error:
        trouble = str(error)
    end = iter(ask(args.mountpoint, "wait-end"))
    next(end)  # the mount knows that somebody waits
    _fusermount(args.mountpoint)
    with suppress(
        UsageError, OSError
    ):  # it has ended already, unless another mount namespace holds a copy
        list(ask(args.mountpoint, "unmounted"))
    for answer in end:
        if answer.get("ok") is False:
            trouble = answer["message"]
    if trouble:
        raise BitdustError(f"{args.mountpoint} is unmounted, but {trouble}")
    print(f"{args.mountpoint} is unmounted and published")
    return 0


def _fusermount(mountpoint: Path, *how: str) -> None:
    tool = shutil.which("fusermount3")
    command = [tool, "-u", *how] if tool else ["umount", *(["-l"] if how else [])]
    done = subprocess.run([*command, str(mountpoint)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalError(f"{mountpoint} cannot be unmounted: {done.stderr.strip()}")
