"""Sealed extents <-> blocks <-> suppliers.

Here: sealing into open blocks (writer, open_block) and opening again (reader, fetch); who
acknowledged what (ledger) and bringing it to them (courier, throttle); who can be asked and how
well it goes (circle, health); what was found wrong there (damage); the right to write (pen); room
here and there (evict, space); deleting (deletion); what a crash left (crash).

Not here: what the bytes mean (tree, fs), which root names them (vault), and making lost fragments
again (rebuild).

Data goes down: plaintext -> extent -> block file -> fragments -> `net.Supplier`; and up the same
way.
"""
