"""One open vault on this machine: which root, whether to write, publishing, space, the last resort.

Here: opening and wiring (opening, assemble), the two types of an open vault (vaults), moving the
root (publish), the lease (lease), space that comes back (uses, reclaim, compact, directories), how
safe a file is (safety), looking at everything (verify), a vault from blocks alone (recover).

Not here: files and folders (fs), requests of the kernel (fuse), who keeps the vault (family).
"""
