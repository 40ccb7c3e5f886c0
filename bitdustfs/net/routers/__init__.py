"""Home routers that are asked to let others in: ports are mapped to this machine, for a while.

`packets` is what is said by PCP (RFC 6887) and NAT-PMP (RFC 6886), and `igd` by UPnP, without I/O;
`pcp` and `upnp` say it; `gateway` knows who the router is, and `mapper` which of the ways it
understands. What is mapped is decided by supplier/mapping.py, whether that is announced by
supplier/outside.py.
"""
