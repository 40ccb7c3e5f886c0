"""Pure code: bytes in, values out. No trio, no socket, no file, no clock.

Here: keys and sealing; erasure coding and fragments; blocks' directories; items, leaves and
journals; signed records; roots; the policy; the voter's state machine (acceptor); placement and
spread; warrants; range arithmetic (spans).

Not here: anything that waits, reads a clock or a disk. What parses bytes of strangers is named
`..._untrusted` and raises Malformed only.
"""
