"""How nodes talk: the boundary to one supplier, and the ways to it.

Here: `Supplier`, what a customer may ask (supplier), the wire protocol without I/O (wire), a
supplier across the network (peer) over TLS with pinned keys (tls), which addresses may be dialled
(addresses), one question to many (ask), the owner's side of the root register (register), the DHT
(dht), and how commands talk to a running process of this machine (control, listening).

Not here: what a supplier decides (supplier/), and what blocks and roots mean.
"""
