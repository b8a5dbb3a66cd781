"""What every test may rely on."""

import gc
import multiprocessing
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import onecopy as oc
from workloads import METHODS

# How long it takes to make up an example says something of the machine, and not of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

FIGURES = ("blocks", "used_bytes", "handles_in_flight")
SETTLED = pytest.StashKey[list[int]]()


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


def settled(known: list[int] | None = None) -> list[int]:
    """Return what is held when all has gone that nobody has any more; `known` needs no second look."""
    oc.reap()
    if held() != known:
        gc.collect()
        oc.reap()
    return held()


@pytest.fixture
def nothing_left(pytestconfig: pytest.Config) -> Iterator[None]:
    """Fail a test that leaves blocks or handles in flight behind; what earlier ones still had goes before it begins."""
    before = pytestconfig.stash[SETTLED] = settled(pytestconfig.stash.get(SETTLED, None))
    yield
    settled(before)
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
