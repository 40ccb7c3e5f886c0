"""A supplier's own key: a file in its folder, by which it is known to everybody."""

import os
from pathlib import Path

from nacl.signing import SigningKey

from bitdustfs.cache.folder import write_durably
from bitdustfs.errors import LocalError


def node_key(folder: Path) -> SigningKey:
    """The node's own key, made at first use. Raises LocalError when it is damaged."""
    path = folder / "node.key"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, os.urandom(32).hex().encode())
    try:
        return SigningKey(bytes.fromhex(path.read_text()))
    except ValueError:
        raise LocalError(f"{path} is damaged; a supplier without its key is another one") from None
