"""What the killing of a replica under load costs, and for how long."""

from tests.fleet import bar
from tests.fleet.crowd import wrong
from tests.fleet.site import running

RECOVERY_MAX_S = 2.0


async def test_only_streams_from_the_killed_replica_fail_and_it_is_soon_back() -> None:
    """200 in flight; everybody else is answered by the others."""
    replicas, settings = bar.site_of()
    with running(*replicas, **settings) as site:
        figures = await bar.measured(site)
    print("\n" + bar.told(figures))
    assert figures.in_flight == bar.IN_FLIGHT
    assert figures.streaming
    assert wrong(figures.failed) == []
    assert {(told.stream, told.backend, told.outcome) for told in figures.failed} <= {(True, "a", "error event")}
    assert figures.full_again_s <= RECOVERY_MAX_S
