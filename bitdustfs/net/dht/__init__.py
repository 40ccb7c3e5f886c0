"""The DHT: where nodes and vaults are found when no address is known (docs/protocol.md, UDP).

It keeps small signed records under ids of 20 bytes: node records say where a node listens and what
it offers, vault records lead those who know the vault to its family. Nobody in it is believed: of
all records at a key the newest genuine one counts.

    datagram  the formats, without I/O: questions, responses, records
    kad       all that we use of the kademlia package: the contact table and the walk
    bounds    what strangers may make a node keep and do: records, requests a second, tokens
    node      one node: asks and answers over UDP, on trio
    discover  what the rest of the package calls: join, find suppliers, find a family, announce

What does not live here: TCP sessions with suppliers (net.peer) and the root register
(net.register). An address found here is only a hint, until the node there proves its id by TLS.
"""
