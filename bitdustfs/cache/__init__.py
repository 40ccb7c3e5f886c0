"""What this machine keeps of its vaults, durably: the journal, block rows, block files, key files.

Here: the LMDB database and its records (database, rows, state, blocktable), plain files of blocks
(blockfiles), folders that one process owns (folder), key files (keyfile), small files of the
machine (machine). Nobody else in the owner's program touches LMDB.

Not here: what is in a batch or a block (tree, blocks), and anything about the network.

Data goes both ways: a method returns once it is as durable as its docstring says.
"""
