"""`--json`: what a command found as one line of JSON, for programs. docs/json.md has the fields."""

import argparse
import json

import msgspec

from bitdustfs.plain import say


def add_json(parser: argparse.ArgumentParser) -> None:
    """An option of every command that has a table or a figure."""
    parser.add_argument("--json", action="store_true", help="for programs: docs/json.md")


def say_json(found: object) -> None:
    """A statement, or a list of its lines. Pure ASCII, whatever the terminal is."""
    say(json.dumps(msgspec.to_builtins(found)))
