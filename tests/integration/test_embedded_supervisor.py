"""The parent of `askonce serve`, with real servers and a small stand-in for the gateway's worker."""

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import httpx
import pytest

from gateway.supervisor import workers

ROOT = Path(__file__).parents[2]

SERVE = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from gateway.config import Config
    from gateway.supervisor import ServePlan, serve
    from storage.errors import AskonceError

    async def prepare(url):
        assert "host=" in url
        return True

    data_dir, worker, port, count = sys.argv[1:]
    config = Config(data_dir=Path(data_dir), port=int(port), workers=int(count), model="none", drain_s=3)
    plan = ServePlan(config=config, worker_argv=(sys.executable, "-P", worker))
    try:
        sys.exit(asyncio.run(serve(plan, prepare=prepare)))
    except AskonceError as error:
        sys.exit(f"Error: {error}")
""")

WORKER = textwrap.dedent("""
    import asyncio, json, os, signal, socket, sys

    async def answer(reader, writer):
        path = (await reader.readuntil(b"\\r\\n\\r\\n")).split()[1]
        if path == b"/crash":
            os._exit(3)
        told = {}
        if path == b"/standby":
            print("standby 1", flush=True)
            told = json.loads(await asyncio.to_thread(sys.stdin.readline))
        else:
            await asyncio.sleep(float(path[1:] or 0))
        body = json.dumps({"pid": os.getpid(), **settings, **told}).encode()
        writer.write(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
        await writer.drain()
        writer.close()
        open_requests.discard(asyncio.current_task())

    def accept(reader, writer):
        open_requests.add(asyncio.create_task(answer(reader, writer)))

    async def main():
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        server = await asyncio.start_server(accept, sock=socket.socket(fileno=int(sys.argv[2])))
        print("ready", flush=True)
        await stop.wait()
        server.close()
        await asyncio.gather(*open_requests)

    open_requests = set()
    if "broken" in sys.argv[0]:
        sys.exit("cannot import")
    line = sys.stdin.readline()
    if line:
        settings = json.loads(line)
        asyncio.run(main())
""")


SLOW_TO_END = textwrap.dedent("""
    import os, signal, sys, time

    def end(*_):
        time.sleep(float(sys.argv[1]))
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    sys.stdin.readline()
    print("ready", flush=True)
    time.sleep(60)
""")


@pytest.fixture
def data() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ao-", dir="/tmp"))
    (path / "worker.py").write_text(WORKER)
    (path / "broken.py").write_text(WORKER)
    yield path / "data"
    shutil.rmtree(path)


class Served:
    """One running parent and what it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""
        self.url = ""

    async def ready(self) -> None:
        """Read until the summary names the URL."""
        await self.until(r"askonce is ready after .*: (\S+)\n")
        self.url = re.findall(r"ready after .*: (\S+)\n", self.said)[-1]

    async def until(self, pattern: str) -> None:
        """Read until something was said, or the end."""
        assert self.process.stderr is not None
        async with asyncio.timeout(60):
            while not re.search(pattern, self.said) and (line := await self.process.stderr.readline()):
                self.said += line.decode()
        assert re.search(pattern, self.said), self.said

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait for its end."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """The exit status; what was said is complete then."""
        assert self.process.stderr is not None
        async with asyncio.timeout(60):
            self.said += (await self.process.stderr.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def serving(data: Path, *, port: int = 0, workers: int = 1, worker: str = "worker.py") -> AsyncIterator[Served]:
    argv = (sys.executable, "-c", SERVE, str(data), str(data.parent / worker), str(port), str(workers))
    served = Served(await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stderr=asyncio.subprocess.PIPE))
    try:
        yield served
    finally:
        if served.process.returncode is None:
            with suppress(ProcessLookupError):
                served.process.kill()
            await served.ended()
            await nothing_left(data)


async def nothing_left(data: Path) -> None:
    """Wait for the children of a killed parent."""
    for _ in range(200):
        if not processes_of(data):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(processes_of(data))


def processes_of(data: Path) -> set[int]:
    """The pids of all processes, but the parent, that name something under `data.parent` in their command line."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if os.fsencode(data.parent) in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
    return found


async def test_start_serve_stop(data: Path) -> None:
    """Workers are told where the servers are; SIGTERM ends everything with status 0 and leaves no socket."""
    async with serving(data, workers=2) as served:
        await served.ready()
        async with httpx.AsyncClient() as client:
            answer = (await client.get(served.url)).json()
        assert answer["database_url"].startswith("postgresql://askonce@/askonce?host=")
        assert answer["redis_url"] == f"unix://{data}/run/redis.sock"
        assert (answer["backends"], answer["drain_s"]) == ([], 3)
        assert await served.stop() == 0
        assert processes_of(data) == set()
        assert [path for path in (data / "run").rglob("*") if path.is_socket()] == []
    for step in ("folder", "port", "postgres", "schema", "redis", "workers"):
        assert re.search(rf"^ +\d+\.\d\d s  {step} ", served.said, re.MULTILINE), served.said


async def test_a_standby_is_there_when_a_worker_wants_it(data: Path) -> None:
    """Not before; once for all workers; it ends with everything else, and follows again after the next start."""
    for turn in (1, 2):
        async with serving(data, workers=2) as served:
            await served.ready()
            assert (data / "postgres" / "standby").exists() == (turn == 2)
            async with httpx.AsyncClient(timeout=60) as client:
                told = [(await client.get(served.url + "/standby")).json() for _ in range(4)]
            [address] = {one["address"] for one in told}
            assert address != told[0]["database_url"]
            connection = await asyncpg.connect(address)
            assert await connection.fetchval("select pg_is_in_recovery()")
            await connection.close()
            assert await served.stop() == 0
            assert processes_of(data) == set()


async def test_a_second_serve_is_refused(data: Path) -> None:
    """The first goes on; the second says who it is and what to do."""
    async with serving(data) as first:
        await first.ready()
        async with serving(data) as second:
            assert await second.ended() == 1
            assert f"Error: {data} is already served by pid {first.process.pid}" in second.said
        assert len(processes_of(data)) >= 4
        assert await first.stop() == 0


async def test_a_taken_port_is_named(data: Path) -> None:
    """Nothing is started for it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with serving(data, port=port) as served:
            assert await served.ended() == 1
    assert f"Error: Port {port} on 127.0.0.1 is already in use: choose another --port." in served.said


async def test_open_requests_finish(data: Path) -> None:
    """A request that is being answered when SIGTERM comes gets its answer."""
    async with serving(data) as served, httpx.AsyncClient() as client:
        await served.ready()
        request = asyncio.create_task(client.get(f"{served.url}/1"))
        await asyncio.sleep(0.3)
        status = await served.stop()
        assert (status, (await request).status_code) == (0, 200)


async def test_a_second_interrupt_does_not_wait(data: Path) -> None:
    """Ctrl-C twice ends a server whose requests are never done; the databases still stop cleanly."""
    async with serving(data) as served, httpx.AsyncClient() as client:
        await served.ready()
        request = asyncio.create_task(client.get(f"{served.url}/60"))
        await asyncio.sleep(0.3)
        start_s = time.monotonic()
        served.process.send_signal(signal.SIGINT)
        await served.until("stopping")
        assert await served.stop(signal.SIGINT) == 0
        assert time.monotonic() - start_s < 2.5
        with pytest.raises(httpx.TransportError):
            await request
    assert "database system is shut down" in (data / "logs" / "postgres.log").read_text()


async def test_a_crashed_worker_is_replaced(data: Path) -> None:
    """Its successor serves on the same port."""
    async with serving(data) as served, httpx.AsyncClient() as client:
        await served.ready()
        before = (await client.get(served.url)).json()["pid"]
        with pytest.raises(httpx.TransportError):
            await client.get(f"{served.url}/crash")
        await served.until("Worker 1 ended with status 3; starting it again")
        assert (await client.get(served.url)).json()["pid"] != before
        assert await served.stop() == 0


async def test_a_worker_that_never_serves_ends_the_start(data: Path) -> None:
    """The servers that had started are stopped."""
    async with serving(data, worker="broken.py") as served:
        assert await served.ended() == 1
        assert processes_of(data) == set()
    assert "cannot import" in served.said
    assert "Error: Worker 1 ended with status 1 before it was ready." in served.said


async def test_a_signal_while_starting(data: Path) -> None:
    """Stopping is clean at any point."""
    async with serving(data) as served:
        await served.until("port")
        await asyncio.sleep(0.2)
        assert await served.stop(signal.SIGINT) == 0
        assert processes_of(data) == set()
    async with serving(data) as served:
        await served.ready()
        assert await served.stop() == 0


async def test_everything_ends_with_a_killed_parent(data: Path) -> None:
    """Workers and servers go within seconds, and a new serve on the same folder and port starts at once."""
    async with serving(data, workers=2) as served:
        await served.ready()
        port = int(served.url.rpartition(":")[2])
        assert await served.stop(signal.SIGKILL) == -signal.SIGKILL
        async with serving(data, port=port) as again:
            await again.ready()
            assert await again.stop() == 0


@pytest.mark.parametrize(("takes_s", "flush_s", "status"), [(0.5, 60.0, 0), (60.0, 0.1, -signal.SIGKILL)])
async def test_a_worker_may_write_out_after_its_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_s: float, flush_s: float, status: int
) -> None:
    """It is not killed when the time for requests is over, but some seconds later."""
    monkeypatch.setattr(workers, "_FLUSH_S", flush_s)
    with socket.socket() as listener:
        argv = (sys.executable, "-c", SLOW_TO_END, str(takes_s))
        command = workers.WorkerCommand(argv=argv, listener_fd=listener.fileno(), run_dir=tmp_path, drain_s=0.1)
        worker = workers.Worker(command, 1, print, lambda *_: None)
        worker.line = b"{}"
        process = await worker.start()
        serving = asyncio.create_task(worker.serve(process))
        await worker.ready.wait()
        serving.cancel()
        await worker.stop(asyncio.Event())
    assert process.returncode == status
