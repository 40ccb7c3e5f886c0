"""A QR code on a terminal, where the segno library is there (the extra `qr`)."""

import importlib

DARK, LIGHT = 1, 0
#: of two rows of modules, one above the other: light is painted, for terminals are dark
BLOCKS = {(LIGHT, LIGHT): "█", (LIGHT, DARK): "▀", (DARK, LIGHT): "▄", (DARK, DARK): " "}
BORDER = 2  #: light modules around it


def qr_lines(text: str) -> list[str]:
    """The code, as lines of block characters; none without the library."""
    try:
        segno = importlib.import_module("segno")
    except ImportError:
        return []
    code = segno.make(text, error="l", micro=False)
    rows = [[int(module) for module in row] for row in code.matrix_iter(border=BORDER)]
    if len(rows) % 2:
        rows.append([LIGHT] * len(rows[0]))
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return ["".join(BLOCKS[pair] for pair in zip(*both, strict=True)) for both in pairs]
