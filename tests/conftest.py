"""What every test may rely on."""

import gc
import multiprocessing
import signal
from collections.abc import Iterator

import pytest

import onecopy as oc
from workloads import METHODS

FIGURES = ("blocks", "used_bytes", "handles_in_flight")


@pytest.fixture(scope="module", params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[oc.Pool]:
    """Two workers, under each start method."""
    with oc.Pool(2, context=multiprocessing.get_context(request.param)) as made:
        yield made
    made.join()


@pytest.fixture(scope="module", params=METHODS)
def executor(request: pytest.FixtureRequest) -> Iterator[oc.ProcessPoolExecutor]:
    """The same behind futures."""
    with oc.ProcessPoolExecutor(2, multiprocessing.get_context(request.param)) as made:
        yield made


def held() -> list[int]:
    """Return what of the arena is in use."""
    stats = oc.stats()
    return [stats[figure] for figure in FIGURES]


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves blocks or handles in flight behind. What an earlier one still had may go meanwhile."""
    before = held()
    yield
    if held() != before:
        gc.collect()
        oc.reap()
    more = {figure: (was, now) for figure, was, now in zip(FIGURES, before, held(), strict=True) if now > was}
    assert not more, f"left behind (before, after): {more}"


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Fail a test that hangs."""

    def too_long(signum: int, frame: object) -> None:
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
