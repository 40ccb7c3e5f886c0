"""What a browser gets: files that ask nobody else, can be read, and say what commands say."""

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

import bitdustfs.web
from bitdustfs.units import format_size
from bitdustfs.vault.account import ago, within

STATIC = Path(str(files(bitdustfs.web) / "static"))
HTML, CSS = (STATIC / "page.html").read_text(), (STATIC / "page.css").read_text()
SCRIPTS = {path.name: path.read_text() for path in STATIC.glob("*.js")}
AA = 4.5  #: contrast of text with what is behind it, at the least (WCAG 2.2, 1.4.3)
AA_DRAWN = 3.0  #: the same of drawings that are needed to understand (1.4.11)


def test_the_files_ask_nobody_else_and_read_no_markup():
    for path in STATIC.iterdir():
        said = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert (
            "http:" not in said
            and "https:" not in said
            and "//" not in re.sub(r"(?m)^\s*//.*$", "", said)
        ), path
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in said, (path, word)


SIZES = [0, 1, 1023, 1024, 1536, 1 << 20, 60 * (1 << 20), 123456789, 1 << 30, 1 << 40, 1 << 52]
TIMES = [0.2, 1, 59, 89, 90, 600, 5399, 5400, 7199, 7200, 86400, 172800, 1e6]


def test_the_page_says_sizes_and_times_as_commands_do():
    node = shutil.which("node")
    if node is None:
        pytest.skip("this machine has no node, which runs a script without a browser")
    script = (
        f"import {{ size, within, ago }} from {json.dumps(str(STATIC / 'words.js'))};"
        f"console.log(JSON.stringify([{SIZES}.map(size), {TIMES}.map(within), {TIMES}.map(ago)]))"
    )
    done = subprocess.run(
        [node, "--experimental-default-type=module", "--input-type=module", "-e", script],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    sizes, soon, past = json.loads(done.stdout)
    assert sizes == [format_size(size) for size in SIZES]
    assert soon == [within(seconds) for seconds in TIMES]
    assert past == [ago(seconds) for seconds in TIMES]


def test_what_scripts_look_for_is_in_the_page():
    there = re.findall(r' id="([\w-]+)"', HTML)
    assert len(set(there)) == len(there)
    wanted = set(re.findall(r'by\("([\w-]+)"\)', "".join(SCRIPTS.values())))
    assert wanted and wanted <= set(there), wanted - set(there)
    named = re.findall(r'aria-(?:labelledby|describedby)="([\w-]+)"', HTML)
    assert set(named) <= set(there)


def test_scripts_import_what_is_there():
    exported = r"export (?:async )?(?:function|const) (\w+)"
    for name, script in SCRIPTS.items():
        for words, source in re.findall(r'import \{([^}]+)\} from "/([\w.]+)";', script):
            for word in filter(None, (part.strip() for part in words.split(","))):
                assert word in re.findall(exported, SCRIPTS[source]), (name, word)
                assert len(re.findall(rf"\b{word}\b", script)) > 1, f"{name} does not use {word}"


def colours():
    """The variables of both schemes."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part))
        for part in CSS.split("@media (prefers-color-scheme: dark)", 1)
    )
    assert light.keys() == dark.keys()
    return {"light": light, "dark": dark}


def luminance(colour):
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "behind", "least"),
    [
        *(
            (text, behind, AA)
            for text in ("ink", "soft", "wrong")
            for behind in ("paper", "raised")
        ),
        ("on-accent", "accent", AA),
        ("accent", "paper", AA_DRAWN),
        ("accent", "track", AA_DRAWN),
        ("caution", "paper", AA_DRAWN),
        ("accent", "raised", AA_DRAWN),
    ],
)
def test_text_and_drawings_stand_out(scheme, text, behind, least):
    named = colours()[scheme]
    one, two = sorted((luminance(named[text]), luminance(named[behind])), reverse=True)
    assert (one + 0.05) / (two + 0.05) >= least
