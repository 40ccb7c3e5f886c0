"""How long somebody is away, as whoever looks now and then may reckon it.

Time counts from look to look, and only between looks that both found nobody. One step counts for a
fifth of the patience at most (or a minute, where that is more). So no single step, whatever made it
long, uses up the patience: a clock that is set, a machine that slept or was stopped, a pause
between two mounts. Time never counts backwards.
"""

STEPS_MIN = 5  #: steps that use up a patience at least; guards take six looks in it
STEP_MIN = 60.0  #: seconds that a step may count for in any case
NO_TIME = 1e-9  #: seconds: of somebody who was missed once, and is away since just now


def step(elapsed: float, patience: float) -> float:
    """Seconds that count of `elapsed` seconds between two looks."""
    return min(max(elapsed, NO_TIME), max(patience / STEPS_MIN, STEP_MIN))
