"""The process behind a mount: from a key and options to files in a folder, and to a good end.

Here live: forking into the background, the order in which a mount begins and ends, the FUSE
session, what fsync waits for, and the commands that a running mount answers, with the client that
asks them.

Not here: what a FUSE request does (fuse/, fs/), what an open vault does by itself (vault/), who
keeps it (family/), the words of a command line and what is printed (cli/).

Data goes: cli -> client -> socket -> answers -> the vault, and back as the structs of
statements.py.
"""
