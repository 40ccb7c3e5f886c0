"""`bitdust supplier run`: a daemon that keeps other people's fragments."""

import argparse
import logging
import os
import signal
from pathlib import Path

import trio
from nacl.signing import SigningKey

from bitdustfs.cache.folder import OwnedFolder, write_durably
from bitdustfs.cli.connect import check_address
from bitdustfs.errors import LocalError
from bitdustfs.net.server import SupplierServer
from bitdustfs.net.service import SupplierService
from bitdustfs.net.shelf import DiskShelf
from bitdustfs.net.tls import make_context
from bitdustfs.units import format_size, parse_size

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="keep fragments for others until stopped (SIGTERM)")
    run.add_argument("--dir", type=Path, required=True, help="folder for shelf, index and key")
    run.add_argument("--space", required=True, help="bytes to donate, for example 10G")
    run.add_argument("--listen", required=True, metavar="HOST:PORT", help="address to serve at")
    run.set_defaults(run=run_supplier)


def node_key(folder: Path) -> SigningKey:
    """The node's own key, made at first use."""
    path = folder / "node.key"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, os.urandom(32).hex().encode())
    try:
        return SigningKey(bytes.fromhex(path.read_text()))
    except ValueError:
        raise LocalError(f"{path} is damaged; a supplier without its key is another one") from None


def run_supplier(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT."""
    space = parse_size(args.space)
    address = check_address(args.listen)
    key = node_key(args.dir)
    folder = OwnedFolder(args.dir / "store", "shelf", {"id": key.verify_key.encode().hex()})
    try:
        shelf = DiskShelf(folder)
        try:
            trio.run(_serve, SupplierService(key, shelf, space), address)
        finally:
            shelf.close()
    finally:
        folder.close()
    return 0


async def _serve(service: SupplierService, address: str) -> None:
    host, _, port = address.rpartition(":")
    context = make_context(service.node.encode(), server_side=True)
    try:
        listeners = await trio.open_tcp_listeners(int(port), host=host.strip("[]"))
    except OSError as error:
        raise LocalError(f"cannot listen at {address}: {error.strerror}") from error
    log.info("supplier at %s offers %s", address, format_size(service.offer()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(SupplierServer(service, context).serve, listeners)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("stopped by signal %d", number)
                nursery.cancel_scope.cancel()
                break
