"""pyfuse3 requests <-> calls of the file system. Translates; decides nothing.

Here: the handlers (operations), what they tell of inodes (entries), and the one table of errors to
errno (errno_table).

Not here: what a call does (fs), and the life of a mount (mount).
"""
