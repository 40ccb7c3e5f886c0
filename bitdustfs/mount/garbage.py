"""What the garbage collector of a mount's process need not look at.

A full collection stops the loop for as long as it takes to look at every container in the process:
with 75,000 blocks for half a second. What is there once a vault is open stays until it is closed:
rows, leaves, code. So the collector leaves it out from then on. Whatever of it is replaced is freed
all the same, since that does not take the collector.
"""

import gc


def leave_out_what_stays() -> None:
    """What is in memory now is not looked at by the garbage collector any more."""
    gc.collect()  # what is garbage already would stay, too
    gc.freeze()
