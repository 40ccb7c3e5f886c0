"""Man pages, made of the same parsers, examples and table of exit codes as `--help`.

One page for `bitdust`, one for each command, and `mount.bitdust` in section 8 (man-pages(7)).
"""

import argparse
import textwrap
from collections.abc import Iterator

import bitdustfs
from bitdustfs.cli.exit_codes import MEANINGS
from bitdustfs.cli.pages import PAGES


def man_pages(parser: argparse.ArgumentParser, mount: argparse.ArgumentParser) -> dict[str, str]:
    """Text by file name. `parser`: of `bitdust`, with all its verbs; `mount`: of mount.bitdust."""
    made = {"bitdust.1": _page("bitdust", 1, "a folder on other people's disks", parser)}
    made["mount.bitdust.8"] = _page("mount.bitdust", 8, "mounts a vault", mount, "mount")
    for name, text, command in _commands(parser):
        title = f"bitdust-{name.replace(' ', '-')}"
        made[f"{title}.1"] = _page(title, 1, text, command, name)
    return made


def _commands(
    parser: argparse.ArgumentParser, before: str = ""
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """(name, what it does, its parser) of each command."""
    for verbs in _verbs(parser):
        for choice in verbs._choices_actions:
            name, made = f"{before}{choice.dest}", verbs.choices[choice.dest]
            if _verbs(made):
                yield from _commands(made, f"{name} ")
            else:
                yield name, choice.help or "", made


def _verbs(
    parser: argparse.ArgumentParser,
) -> list["argparse._SubParsersAction[argparse.ArgumentParser]"]:
    return [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]


def _page(
    title: str, section: int, text: str, parser: argparse.ArgumentParser, name: str = ""
) -> str:
    parts = [
        f'.TH {title.upper()} {section} "" "bitdustfs {bitdustfs.__version__}"',
        f".SH NAME\n{_plain(title)} \\- {_plain(text)}",
        f".SH SYNOPSIS\n.nf\n{_plain(parser.format_usage().removeprefix('usage: ').rstrip())}\n.fi",
    ]
    if parser.description:
        parts.append(f".SH DESCRIPTION\n{_paragraphs(parser.description)}")
    options = [_option(a) for a in parser._actions if a.help != argparse.SUPPRESS]
    listed = [f".TP\n.B {_plain(each)}\n{_plain(what)}" for each, what, _ in _commands(parser)]
    if listed:
        parts.append("\n".join([".SH COMMANDS", *listed]))
    elif options:
        parts.append("\n".join([".SH OPTIONS", *filter(None, options)]))
    if name and (epilog := (parser.epilog or "").partition("examples:")[0].strip()):
        parts.append(f".SH MORE\n.nf\n{_plain(epilog)}\n.fi")
    if name:
        shown = "\n".join(PAGES[name].examples)
        parts.append(f".SH EXAMPLES\n.nf\n{_plain(shown)}\n.fi")
        parts.append(f".SH INTERRUPTION\nAfter Ctrl\\-C: {_plain(PAGES[name].interrupted)}.")
    codes = (f".TP\n.B {code.value}\n{_plain(text)}" for code, text in MEANINGS.items())
    parts.append("\n".join([".SH EXIT STATUS", *codes]))
    return "\n".join(parts) + "\n"


def _option(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return ""
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    takes = "" if action.nargs == 0 else f" {metavar}"
    words = ", ".join(f"{option}{takes}" for option in action.option_strings) or metavar
    text = (action.help or "").replace("%%", "%")
    return f".TP\n.B {_plain(words)}\n{_plain(text)}"


def _paragraphs(text: str) -> str:
    return "\n.PP\n".join(_plain(part) for part in textwrap.dedent(text).strip().split("\n\n"))


def _plain(text: str) -> str:
    """Text in which nothing is a request or an escape of roff."""
    lines = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").split("\n")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)
