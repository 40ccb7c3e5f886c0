"""bitdustfs: a folder whose content lives, encrypted and in fragments, on other people's
machines.
"""

__version__ = "0.3.0.dev0"
