"""The local page: an HTTP server of its own process, which speaks to the control sockets.

What lives here: what the page is told (views), who may ask (gate, callers), what can be asked
(endpoints, openapi), long work that was begun there (errands), what was seen to change (news),
and the files that a browser gets (static/). What does not: any decision about a vault, and anything
that a mount or a supplier would have to import.

Commands go down through the same clients that the command line uses; statements come up unchanged
and are put beside the names that this machine's owner gave. Starlette and hypercorn are imported in
application.py and serving.py only.
"""
