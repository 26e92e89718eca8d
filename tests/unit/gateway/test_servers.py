"""What the embedded servers are told of the plan."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config
from gateway.supervisor import servers
from gateway.supervisor.progress import Progress
from storage.embedded.folder import claimed
from storage.embedded.postgres import EmbeddedPostgres


async def test_postgres_takes_the_connections_of_all_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker has its own pool, and a connection that is refused would look like a tier that is down."""
    asked: list[int] = []

    @asynccontextmanager
    async def postgres(_: Any, *, connections: int, notify: Any) -> AsyncGenerator[EmbeddedPostgres]:
        del notify
        asked.append(connections)
        yield EmbeddedPostgres(dsn="postgresql://", socket_dir=tmp_path, pid=1)

    async def prepare(url: str) -> bool:
        return url == "postgresql://"

    monkeypatch.setattr(servers, "postgres", postgres)
    config = Config(data_dir=tmp_path, workers=13, database_connections=20, redis_url="redis://", model="none")
    with claimed(tmp_path / "data") as folder:
        async with AsyncExitStack() as stack:
            await servers.Servers(config, folder, prepare, Progress()).start(stack)
    assert asked == [13 * (20 + config.sql_connections)]  # and one for each statement of a tenant
