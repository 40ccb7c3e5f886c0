"""How commands take a token: as it stands, or from a file."""

from pathlib import Path

from bitdustfs.errors import UsageError


def read_token(word: str) -> str:
    """The token that a word of the command line means. Raises UsageError."""
    if not word.startswith("@"):
        return word
    try:
        return Path(word[1:]).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the token in {word[1:]} cannot be read: {error}") from None
