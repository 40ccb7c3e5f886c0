"""How fast a vault is, and what it costs, beside other file systems on the same work.

A *row* is one figure (rows.py). A *scene* measures the rows that belong together: it sets a world
up, does some work in it and takes the figures (scenes.py, vault_scenes.py). A *system* is a file
system that scenes can work on (systems.py; ours is in vault.py, the floor in floor.py).

Whatever touches a mount is a process of its own with a time limit: `work` (programs' work on a
folder) and `populate` (a vault of many files, made without FUSE). So a mount that hangs costs a
failed row, never a hanging benchmark. What is left over, after Ctrl-C and kill -9 as well, is
cleared away by a process that only waits for the end (janitor.py).

Nothing here is imported by the program that is measured.
"""
