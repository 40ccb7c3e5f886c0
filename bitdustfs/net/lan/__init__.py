"""Nodes of one network that find each other there, with nobody else's help.

`beacon` is what is said, without I/O; `links` are the networks of this machine where it is said;
`multicast` sends and hears there; `nearby` is what is made of it. Nothing that is heard is taken
for true but that a node may be dialled somewhere.
"""
