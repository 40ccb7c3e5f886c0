"""Layers run in folder order, fast first; hypothesis is seeded so that CI fails only for a reason.

With `--long` (`scripts/test --long`) tests of real mounts repeat more often what they repeat.

Every async test ends in time: after DEADLINE seconds, or what `pytest.mark.deadline(seconds)` says.
"""

import inspect

import pytest
import trio
from hypothesis import settings

DEADLINE = 60  #: seconds for all of a test: its fixtures, its body, what its fixtures put away

settings.register_profile("suite", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("suite")


def runner(seconds):
    """A trio.run that raises TooSlowError after `seconds` of the test's clock.

    Its cause shows where the test hung. A test's own fail_after would not end fixtures that hang.
    """

    def run(main, **options):
        async def in_time():
            with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
                try:
                    await main()
                except BaseException as error:
                    if scope.cancel_called:  # fixtures turn the cancellation into other errors
                        raise trio.TooSlowError(f"not done after {seconds} s") from error
                    raise

        return trio.run(in_time, **options)

    return run


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="repeat more often what is repeated")


@pytest.fixture
def long(request):
    """Whether there is time for the long form of a test."""
    return request.config.getoption("--long")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: begins before the others of its layer")
    config.addinivalue_line("markers", f"deadline(seconds={DEADLINE}): ends a hanging async test")


def pytest_collection_modifyitems(items):
    """Slow tests begin first in their layers, so that no layer ends with one of them alone.

    Async tests get their deadline; pytest-trio takes the `run` of the first mark. It takes none
    under @given: an async test there would need a fail_after of its own.
    """
    items.sort(key=lambda item: (item.path.parent, item.get_closest_marker("slow") is None))
    for item in items:
        if inspect.iscoroutinefunction(item.obj):
            mark = item.get_closest_marker("deadline")
            seconds = mark.args[0] if mark else DEADLINE
            item.add_marker(pytest.mark.trio(run=runner(seconds)), append=False)
