"""What the suites of flights share."""

from collections.abc import AsyncIterator

import pytest

from tests.suites.replicas import Replicas, replicas


@pytest.fixture
async def shared(redis_url: str) -> AsyncIterator[Replicas]:
    """Gateways on one Redis, as many as are asked for."""
    async with replicas(redis_url) as found:
        yield found
