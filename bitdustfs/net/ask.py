"""One question to many, all at once: who answered what, and why others did not.

Every wait for several suppliers goes through here, so that the rules are the same everywhere: a
failure of one is no failure of the question; a total deadline bounds the whole; cancelling the
caller cancels every question.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from bitdustfs.errors import DeadlineExceeded, PeerError

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


@dataclass
class Answers(Generic[K, R]):
    """What came of it. Who is in neither had not answered when the time was over."""

    given: dict[K, R] = field(default_factory=dict)
    failed: dict[K, PeerError] = field(default_factory=dict)


async def ask_all(
    whom: Iterable[K],
    question: Callable[[K], Awaitable[R]],
    *,
    deadline: float = math.inf,
    each: float = math.inf,
    enough: Callable[[Collection[K]], bool] | None = None,
    grace: float = math.inf,
    unlikely: Collection[K] = (),
) -> Answers[K, R]:
    """Asks everybody at once; returns when all have answered, or the time is over.

    `deadline`: seconds for all together. `each`: seconds for one, after which it failed with
    DeadlineExceeded. `grace`: seconds that the others still have once those who answered are
    `enough`; none where only `unlikely` ones are left. An error other than PeerError is the
    question's own, and is raised.
    """
    answers: Answers[K, R] = Answers()
    everybody = dict.fromkeys(whom)
    with trio.move_on_after(deadline) as scope:
        async with trio.open_nursery() as nursery:

            async def ask(one: K) -> None:
                try:
                    with trio.fail_after(each):
                        answers.given[one] = await question(one)
                except PeerError as error:
                    answers.failed[one] = error
                except trio.TooSlowError:
                    answers.failed[one] = DeadlineExceeded(f"no answer within {each:g} s")
                if enough is not None and enough(answers.given):
                    settled = {*answers.given, *answers.failed, *unlikely}
                    wait = grace if everybody.keys() - settled else 0.0
                    scope.deadline = min(scope.deadline, trio.current_time() + wait)

            for one in everybody:
                nursery.start_soon(ask, one)
    return answers
