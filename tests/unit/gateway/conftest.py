"""What several tests here stand on."""

from typing import Any

import pytest

from tests.unit.gateway.fleet import Fleet


@pytest.fixture
async def fleet() -> Any:
    """None yet; nothing of it is left running."""
    fleet = Fleet()
    yield fleet
    await fleet.router.aclose()
    assert all(server.closed for server in fleet.servers.values())
