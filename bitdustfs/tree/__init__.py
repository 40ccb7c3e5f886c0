"""Metadata: sorted items in an overlay over immutable leaves, and their way to disk and into roots.

Here: a call's view and its changes (transaction), look-ups through the layers (tree), rewriting
leaves (checkpoint), batches into this machine's journal (commit), how much of each block is in use
(usage).

Not here: what items mean as files and folders (fs), and roots (vault).

Data goes down: transaction -> overlay and batch -> journal, and at a checkpoint -> leaves ->
blocks.
"""
