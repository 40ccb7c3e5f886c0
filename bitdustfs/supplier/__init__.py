"""Keeping other people's fragments: all that a supplier is, and nothing of what an owner does.

Here live the shelf (`shelf`, `diskshelf`, with `shelfrows` and `trash`), the decisions (`service`
and its parts `housekeeping`, `voter`, `keeper`, `standing`, `kinship`), the guard that stands in
while the owner is away (`guard`, `standin`, `gather`), the TCP side (`server`), the process
(`daemon`), and a supplier in memory for tests (`memory`). Not here: the wire format (net/wire),
what an owner asks of its suppliers (net/supplier and family/), and every key: a supplier sees
ciphertext.

A request comes in by `server` or `memory`, `SupplierService.handle` decides by one of its parts,
and that part reads or changes the shelf. The guard goes the other way: it asks other suppliers by
net/, and puts what it gathers into the own shelf.
"""
