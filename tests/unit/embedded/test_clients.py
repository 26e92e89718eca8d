"""The clients of a folder's servers are opened only where their own server is."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.embedded import clients
from storage.errors import EmbeddedError

POSTGRES, REDIS = "run/pg/.s.PGSQL.5432", "run/redis.sock"


@pytest.mark.parametrize(
    ("open_client", "its_own", "other", "name"),
    [(clients.psql, POSTGRES, REDIS, "Postgres"), (clients.redis_cli, REDIS, POSTGRES, "Redis")],
)
def test_each_looks_for_its_own_socket(
    tmp_path: Path, open_client: Callable[..., list[str]], its_own: str, other: str, name: str
) -> None:
    """With one server configured elsewhere, the other is still here."""
    (tmp_path / "run" / "pg").mkdir(parents=True)
    (tmp_path / other).touch()
    with pytest.raises(EmbeddedError, match=f"No {name} is being served from {tmp_path}"):
        open_client(tmp_path, ())
    (tmp_path / its_own).touch()
    assert open_client(tmp_path, ("word",))[-1] == "word"


def test_a_database_is_looked_for_without_making_one(tmp_path: Path) -> None:
    """Only a cluster that was made whole is one."""
    assert not clients.has_database(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []
    cluster = tmp_path / "data" / "postgres" / "data"
    cluster.mkdir(parents=True)
    assert not clients.has_database(tmp_path / "data")
    (cluster / "PG_VERSION").write_text("18\n")
    assert clients.has_database(tmp_path / "data")


def test_the_standby_is_found_at_whatever_port(tmp_path: Path) -> None:
    """While there is none, nothing is said of it."""
    assert clients.served_standby(tmp_path) == ""
    (tmp_path / "run" / "sb").mkdir(parents=True)
    (tmp_path / "run" / "sb" / ".s.PGSQL.6001.lock").touch()
    assert clients.served_standby(tmp_path) == ""
    path = tmp_path / "run" / "sb" / ".s.PGSQL.6001"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert clients.served_standby(tmp_path).endswith("port=6001")
    assert path.exists()
    assert clients.served_standby(tmp_path) == ""
