"""What several verbs say alike. It imports nothing: no verb needs another one for a word."""

NODE_DIGITS = 16  #: hexadecimal digits of a node or vault that people are shown
INVITATION_HELP = "what bitdust supplier invite printed, or @FILE with that (repeatable)"
SUPPLIER_DIR_HELP = "your supplier's folder (the only one that ran here)"
OWN_HELP = "one position may go to a supplier on this machine; it does not count as kept elsewhere"
BANDWIDTH_HELP = (
    "bytes a second that all its traffic may take, each way, for example 1M; up:1M/down:8M, each "
    "its own; up:200K@8-23, only from 8 to 23 h (no bound)"
)
