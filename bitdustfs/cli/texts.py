"""What several verbs say alike. It imports nothing: no verb needs another one for a word."""

NODE_DIGITS = 16  #: hexadecimal digits of a node or vault that people are shown
INVITATION_HELP = "what bitdust supplier invite printed, or @FILE with that (repeatable)"
SUPPLIER_DIR_HELP = "your supplier's folder (the only one that ran here)"
OWN_HELP = "one position may go to a supplier on this machine; it does not count as kept elsewhere"
