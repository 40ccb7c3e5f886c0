"""A file system that never heard of pyfuse3: names, attributes and content over the tree.

Here: folders and names (names, volume), attributes (attributes), content through dirty windows
(window, content, flush, extents), extended attributes (xattrs), inodes without a name (orphans,
purge), what the kernel knows (lookups).

Not here: requests and errno (fuse), where extents lie (blocks), when anything is published (vault).

Data goes: write -> window -> flush -> extent and items; read -> items -> extents -> bytes.
"""
