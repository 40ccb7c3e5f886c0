"""`bitdust dashboard`: a page in your browser that shows mounts and suppliers of this home, live.

It is served on loopback, to programs of this user only, until Ctrl-C. The printed address has a
token: whoever has it, and is this user, may do what the page can. Needs starlette and hypercorn:
pip install 'bitdustfs[web]'.
"""

import argparse
import sys
import threading
import webbrowser
from importlib import import_module
from pathlib import Path

import trio

from bitdustfs.cli.pages import PAGES
from bitdustfs.errors import UsageError
from bitdustfs.mount.mountpoint import mountpoint_of
from bitdustfs.net import notify
from bitdustfs.plain import complain, say

MISSING = "starlette or hypercorn is missing: pip install 'bitdustfs[web]'"
ANYWHERE = "127.0.0.1:0"  #: a port that is free


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "mountpoint", nargs="?", type=Path, metavar="MOUNTPOINT",
        help="show this mount only (all of this home)",
    )  # fmt: skip
    parser.add_argument(
        "--no-open", action="store_true", help="only print the address, and open no browser"
    )
    parser.add_argument(
        "--listen", default=ANYWHERE, metavar="HOST:PORT",
        help="where it is served, loopback only (127.0.0.1 and a port that is free)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Until SIGTERM or Ctrl-C."""
    try:
        serving = import_module("bitdustfs.web.serving")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("bitdustfs"):
            raise
        raise UsageError(MISSING) from None
    only: Path | None = mountpoint_of(args.mountpoint) if args.mountpoint else None
    listening = serving.listen_at(args.listen)

    def ready(address: str) -> None:
        say(address)
        sys.stdout.flush()
        complain("whoever has this address may use the page; Ctrl-C ends it")
        notify.ready("serving the page")
        if not args.no_open:
            open_browser(address)

    trio.run(serving.serve_page, listening, only, ready)
    complain(PAGES["dashboard"].interrupted)
    return 0


def open_browser(address: str) -> None:
    """In a thread that is not waited for: some browsers return when they are closed."""

    def opened() -> None:
        if not webbrowser.open(address):
            complain("no browser was found here: open the address yourself")

    threading.Thread(target=opened, daemon=True).start()
