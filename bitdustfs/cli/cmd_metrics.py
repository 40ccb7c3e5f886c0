"""`bitdust metrics`: figures of all mounts and suppliers of this home, for Prometheus.

Printed once, for the textfile collector of node_exporter, or served at a loopback address.
Needs prometheus_client: pip install 'bitdustfs[metrics]'.
"""

import argparse
import signal
import threading
from pathlib import Path

from bitdustfs.cache.folder import write_durably
from bitdustfs.net import notify
from bitdustfs.plain import complain, say
from bitdustfs.system.exporter import PATH, Exporter, check_loopback
from bitdustfs.system.metrics import look, text_of

READABLE = 0o644  #: a file for node_exporter, which runs as another user


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--serve", metavar="HOST:PORT", help="serve them there until stopped; loopback only"
    )
    where.add_argument(
        "--file", type=Path, help="write them there, whole or not at all (NAME.prom)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints, writes or serves."""
    if args.serve:
        return serve(args.serve)
    text = text_of(look())
    if args.file:
        write_durably(args.file.absolute(), text, READABLE)
    else:
        for line in text.decode().splitlines():
            say(line)
    return 0


def serve(listen: str) -> int:
    """Until SIGTERM or Ctrl-C."""
    check_loopback(listen)
    text_of(look())  # what is missing is said now, not at the first scrape
    with Exporter(listen, lambda: text_of(look())) as exporter:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=exporter.shutdown).start())
        complain(f"http://{exporter.named}{PATH}")
        notify.ready(f"serving at {exporter.named}")
        exporter.serve_forever()
    return 0
