"""Checks: mounts and suppliers of this home, as they answer. Who is silent is not waited for."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from shlex import join, quote
from typing import TypeVar

import msgspec
import trio

import bitdustfs
from bitdustfs.cache.machine import own_supplier_folders
from bitdustfs.errors import BitdustError, UsageError
from bitdustfs.mount.client import ANSWERED_IN, ignore, status_of
from bitdustfs.mount.mountpoint import attached_unasked, is_dead
from bitdustfs.mount.statements import Status
from bitdustfs.net.addresses import split
from bitdustfs.net.control import S, ask
from bitdustfs.supplier.offering import command_words, last_offering
from bitdustfs.supplier.orders import AskSelf, SupplierCommand, SupplierSelf
from bitdustfs.system.diagnosis import OK, Observation, ok, warning, wrong
from bitdustfs.system.judging import judged
from bitdustfs.system.resources import check_disk

T = TypeVar("T")


def in_time(question: Callable[[], T]) -> T | None:
    """The answer; None where it does not come in ANSWERED_IN. Raises what the question raises."""

    async def asked() -> T | None:
        with trio.move_on_after(ANSWERED_IN):
            return await trio.to_thread.run_sync(question, abandon_on_cancel=True)
        return None

    return trio.run(asked)


def check_mounts() -> Iterator[Observation]:
    """Each mountpoint that a mount of this home left a mark for."""
    there = attached_unasked()
    if not there:
        yield ok("mounts", "no vault is mounted from this home")
    for mountpoint in there:
        yield from _check_mount(mountpoint)


def _check_mount(mountpoint: Path) -> Iterator[Observation]:
    typed = quote(str(mountpoint))
    dead = in_time(lambda: is_dead(mountpoint))
    if dead is None:
        yield wrong(
            "mounts", f"the mount at {mountpoint} hangs: nothing is heard for {ANSWERED_IN:.0f} s",
            f"look into logs/ of the home; fusermount3 -u -z {typed} takes it away",
        )  # fmt: skip
        return
    if dead:
        yield wrong(
            "mounts", f"the mount at {mountpoint} is dead: its process ended",
            f"bitdust unmount {typed}, then mount it again: what was fsynced is kept",
        )  # fmt: skip
        return
    try:
        status = status_of(mountpoint)
    except BitdustError as error:
        yield wrong("mounts", str(error), f"bitdust status {typed}")
        return
    yield from mount_findings(mountpoint, status)


def mount_findings(mountpoint: Path, status: Status) -> Iterator[Observation]:
    """What a mount says of itself."""
    typed = quote(str(mountpoint))
    said = f"{mountpoint}: {status.verdict}"
    plain = msgspec.structs.replace(status, warnings=[])  # they are findings of their own
    verdict = judged(plain)
    todo = "" if verdict == OK else f"bitdust status {typed}"
    yield Observation(check="mounts", verdict=verdict, said=said, todo=todo)
    if status.program not in ("", bitdustfs.__version__):
        yield warning(
            "versions", f"the mount at {mountpoint} runs bitdustfs {status.program}, "
            f"and {bitdustfs.__version__} is installed",
            f"bitdust unmount {typed}, then mount it again",
        )  # fmt: skip
    for sentence in status.warnings:
        yield warning("mounts", f"{mountpoint}: {sentence}", f"bitdust status {typed}")


def check_suppliers(folders: list[Path] | None = None) -> Iterator[Observation]:
    """Each supplier that ever ran here and is still there, and those in `folders`."""
    named = {folder.absolute() for folder in folders or []}
    there = sorted({*named, *own_supplier_folders()})
    if not there:
        yield ok("suppliers", "no supplier ever ran on this machine")
    for folder in there:
        yield from _check_supplier(folder)


def _check_supplier(folder: Path) -> Iterator[Observation]:
    key, typed = folder / "node.key", quote(str(folder))
    if not key.is_file():
        yield wrong(
            "suppliers", f"no supplier ever ran in {folder}", f"bitdust setup --shelf {typed}"
        )
        return
    if key.stat().st_mode & 0o077:
        yield wrong("suppliers", f"others may read {key}", f"chmod 600 {quote(str(key))}")
    yield from check_disk("suppliers", folder)
    try:
        told = supplier_status(folder)
    except UsageError:
        yield from _check_stopped(folder)
        return
    except BitdustError as error:
        todo = f"bitdust supplier status --dir {quote(str(folder))}; its log may say why"
        yield wrong("suppliers", f"the supplier in {folder}: {error}", todo)
        return
    yield from supplier_findings(folder, told)


def supplier_status(folder: Path) -> SupplierSelf:
    """The same of a supplier."""
    return supplier_answer(folder, AskSelf(), SupplierSelf)


def supplier_answer(folder: Path, command: SupplierCommand, expected: type[S]) -> S:
    """Its answer to what takes no time. Raises UsageError where none runs, and BitdustError."""
    nobody = f"no supplier runs in {folder}"
    return ask(folder / "control", nobody, command, expected, ignore, ANSWERED_IN)


def supplier_findings(folder: Path, told: SupplierSelf) -> Iterator[Observation]:
    """What a supplier says of itself."""
    status = f"bitdust supplier status --dir {quote(str(folder))}"
    way = f", {told.way}" if told.way else ""
    yield ok("suppliers", f"the supplier in {folder} is {told.state} at {told.address}{way}")
    if told.reachable is False:
        yield warning("suppliers", f"the supplier in {folder} is {told.reached}", status)
    elif told.reachable is None:
        yield ok("suppliers", f"the supplier in {folder}: {told.reached}")
    for sentence in told.warnings:
        yield warning("suppliers", f"the supplier in {folder}: {sentence}", status)
    if told.program not in ("", bitdustfs.__version__):
        yield warning(
            "versions", f"the supplier in {folder} runs bitdustfs {told.program}, "
            f"and {bitdustfs.__version__} is installed",
            "stop it and start it again",
        )  # fmt: skip


def _check_stopped(folder: Path) -> Iterator[Observation]:
    """One that does not run: does anything keep it from its port?"""
    offering = last_offering(folder)
    if offering is None:
        again = f"bitdust supplier run --dir {quote(str(folder))}"
        yield warning("suppliers", f"the supplier in {folder} does not run", again)
        return
    again = join(["bitdust", *command_words(offering)])
    yield warning("suppliers", f"the supplier in {folder} does not run", again)
    if why := port_taken(offering.listen):
        port = split(offering.listen)[1]
        yield wrong(
            "ports", f"the supplier in {folder} cannot listen at {offering.listen}: {why}",
            f"ss -lntup 'sport = {port}' says who has it; end that, or say another --listen",
        )  # fmt: skip


def port_taken(listen: str) -> str:
    """Why a supplier could not listen there, by TCP and UDP; "" where it could."""
    host, port = split(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind, name in ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")):
        with socket.socket(family, kind) as probe:
            if kind is socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OverflowError):
                try:
                    probe.bind((host, port))
                except OSError as error:
                    return f"{name}: {error.strerror}"
    return ""
