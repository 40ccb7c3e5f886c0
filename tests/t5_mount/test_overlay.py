"""A vault under an overlay, as containers stack folders: lower and upper folder lie in it."""

import os
import shutil
import subprocess

import pytest

LIMIT = 120  #: seconds until the overlay was written and taken away


def in_overlay(mountpoint, script):
    """Runs a script where `merged` is an overlay over `lower`, in a mount namespace of its own."""
    begin = (
        "set -e; mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged\n"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", begin + script],
        cwd=mountpoint, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_overlay_keeps_what_changes_in_a_vault(world):
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("a mount namespace of its own needs root and unshare")
    with open("/proc/filesystems") as known:
        if "overlay" not in known.read().split():
            pytest.skip("this kernel has no overlayfs")
    world.mount()
    for name in ("lower/folder", "upper", "work", "merged"):
        (world.mountpoint / name).mkdir(parents=True)
    for name in ("stays", "goes", "moves", "changes"):
        (world.mountpoint / "lower" / name).write_text(name)
    said = in_overlay(
        world.mountpoint,
        "cd merged; rm goes; mv moves moved; echo more >>changes; rmdir folder; cat changes moved; "
        "ls; cd ..; umount merged",
    )
    assert said == "changesmore\nmoveschanges\nmoved\nstays\n"
    assert sorted(os.listdir(world.mountpoint / "lower")) == [
        "changes", "folder", "goes", "moves", "stays",
    ]  # fmt: skip
    world.run("unmount", world.mountpoint)
    world.mount(world.move_to("two"))
    assert in_overlay(world.mountpoint, "ls merged; umount merged") == "changes\nmoved\nstays\n"
