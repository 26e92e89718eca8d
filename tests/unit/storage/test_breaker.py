"""When the other side is left alone, and for how long."""

import pytest

from storage.breaker import Breaker


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


def test_it_opens_at_the_first_failure(clock: Clock) -> None:
    """And closes again after one success."""
    breaker = Breaker(1, 30, clock)
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()
    clock.now += 1
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()


def test_one_trial_at_a_time(clock: Clock) -> None:
    """While it is undecided everyone else is kept out; a trial that is never decided is followed by another."""
    breaker = Breaker(1, 30, clock)
    breaker.failed()
    clock.now += 1
    assert breaker.admits()
    assert not breaker.admits()
    clock.now += 5
    assert breaker.admits()


def test_each_failed_trial_doubles_the_wait(clock: Clock) -> None:
    """Up to the longest."""
    breaker = Breaker(1, 30, clock)
    breaker.failed()
    for wait in (1, 2, 4, 8, 16, 30, 30):
        clock.now += wait - 0.01
        assert not breaker.admits()
        clock.now += 0.01
        assert breaker.admits()
        breaker.failed()


def test_many_calls_that_fail_together_are_one_failure(clock: Clock) -> None:
    """A second's hiccup under load must not cost half a minute."""
    breaker = Breaker(1, 30, clock)
    assert all(breaker.admits() for _ in range(50))
    for _ in range(50):
        clock.now += 0.001
        breaker.failed()
    clock.now += 1
    assert breaker.admits()


def test_a_success_forgets_the_long_waits(clock: Clock) -> None:
    """The next failure starts at the beginning."""
    breaker = Breaker(1, 30, clock)
    for _ in range(5):
        breaker.failed()
        clock.now += 30
        assert breaker.admits()
    breaker.succeeded()
    breaker.failed()
    clock.now += 1
    assert breaker.admits()
