"""Watching suppliers, auditing them, and making lost fragments again.

Here: who is there (watch), who lists what (census), random chunks checked (audit), what to do about
it, a pure decision (plan), doing it (rebuilder, remake, fill), and its bandwidth (pace).

Not here: who joins or leaves the family (family), and a supplier's part without the owner
(supplier). It works on ciphertext: nothing here needs the vault's key.
"""
