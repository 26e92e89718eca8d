"""Options in, an outcome out: every round asked of a real gateway at once, judged, and followed by what befalls it."""

import asyncio
import contextlib
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from gateway.bench import processes
from gateway.bench.differential import befalling, client, ledger, meaning
from gateway.bench.differential.befalling import Befalling
from gateway.bench.differential.client import Reply
from gateway.bench.differential.ledger import Ledger, Wrong
from gateway.bench.differential.oracle import Orders
from gateway.bench.differential.plan import MODELS, Options, Planner, Round, Shot
from gateway.bench.differential.site import Site
from gateway.bench.processes import BenchError

LANES: Final = 16
_GATEWAY: Final = ("-m", "gateway.cli")

Progress = Callable[[str], None]


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a run."""

    options: Options
    requests: int = 0
    seconds: float = 0.0
    wrong: list[Wrong] = []
    errors: list[Reply] = []
    """Replies that were no answer, where nothing had been made to fail."""
    missed: list[Reply] = []
    possible: int = 0
    unwritten: int = 0
    counts: dict[str, Counter[str]] = {}
    """By table: what the requests were made by, how they were answered, and what befell the gateway."""

    @property
    def hit_rate(self) -> float:
        """Of the hits that there could have been, in percent."""
        return 100 * (1 - len(self.missed) / self.possible) if self.possible else 100.0

    @property
    def sound(self) -> bool:
        """Whether no answer was wrong, and none failed without cause."""
        return not self.wrong and not self.errors


class _Run:
    """One run's state."""

    def __init__(self, options: Options, site: Site, oracle: str, session: aiohttp.ClientSession) -> None:
        self.outcome = Outcome(options=options)
        self.ledger = Ledger()
        self._site = site
        self._session = session
        self._befalling = Befalling(site, self.ledger, self._order, options.seed)
        self._oracle = oracle
        self._labels: dict[tuple[str, str, bytes], Shot] = {}

    async def round(self, planned: Round) -> None:
        """Ask everything in `planned`, judge the replies, and let happen what is to."""
        befalling = self._befalling
        await self._order(self._faults(planned))
        replies = await self._asked(planned)
        self._note(planned, replies)
        taken = self.ledger.heard(replies, befalling.upset_until)
        await befalling.taken_back(taken)
        for reply in replies:
            if reply.complete and (said := client.mistake(reply)):
                self.ledger.wrong.append(Wrong(said, reply, self.ledger.whose(reply)))
        self.ledger.judge(replies)
        touched = {item for reply in replies for item in ledger.items(reply.shot, reply.weights)}
        await befalling.after(planned, touched)

    async def _asked(self, planned: Round) -> list[Reply]:
        """Everybody's replies; in the middle of it the round's upset."""
        befalling, seed = self._befalling, self.outcome.options.seed
        waiting, replies = list(reversed(planned.shots)), list[Reply]()
        half = len(waiting) // 2
        befalling.begin()

        async def lane() -> None:
            while waiting:
                if len(waiting) <= half and not befalling.begun:
                    await befalling.upset(planned)
                    continue
                shot = waiting.pop()
                await befalling.up.wait()
                content = client.request(shot, self._site.keys, seed)
                weights = befalling.weights[shot.place.model]
                url = f"http://{self._site.address}"
                replies.append(await client.sent(self._session, url, content, shot, weights))

        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(lane())
        return replies

    def _faults(self, planned: Round) -> Orders:
        faults: dict[str, list[Any]] = {}
        for index, kinds in planned.faults:
            shot = planned.shots[index]
            (digest, *_) = client.digests(shot, self._befalling.weights[shot.place.model])
            if shot.kind != meaning.EMBEDDING:
                faults[digest.hex()] = list(kinds)
        return Orders(weights=self._befalling.weights, faults=faults)

    async def _order(self, orders: Orders) -> None:
        url = f"http://{self._oracle}/orders"
        async with self._session.post(url, data=msgspec.json.encode(orders)) as response:
            await response.read()

    def _note(self, planned: Round, replies: Sequence[Reply]) -> None:
        """Count, check the generator's own labels, and tell faults that were ordered from those that were not."""
        counts = self.outcome.counts
        failing = {planned.shots[index].asked for index, _ in planned.faults}
        self.outcome.requests += len(replies)
        for reply in replies:
            shot = reply.shot
            self._check_labels(reply)
            for table, name in _told(reply):
                counts.setdefault(table, Counter())[name] += 1
            if reply.complete or shot.leaves or reply.fault == "":
                continue
            refused = "not_cached" in reply.fault and shot.control == "only-if-cached"
            if refused or shot.asked in failing or self._befalling.excuses(reply):
                continue
            self.outcome.errors.append(reply)
        counts.setdefault("befallen", Counter()).update(self._befalling.count())

    def _check_labels(self, reply: Reply) -> None:
        """Two questions that the generator takes for different must ask for different things."""
        for asked, digest in zip(reply.shot.asked, client.digests(reply.shot, reply.weights), strict=True):
            seen = self._labels.setdefault((reply.shot.place.model, reply.weights, digest), reply.shot)
            if asked not in seen.asked and not _told_apart_by_the_gateway_alone(asked.changes):
                same = {tuple(c for c in other.changes if c[0] != "held back") for other in seen.asked}
                if asked.changes not in same:
                    message = f"The generator took two bodies for different that are equal: {seen} and {reply.shot}."
                    raise BenchError(message)


def _told_apart_by_the_gateway_alone(changes: tuple[tuple[str, int], ...]) -> bool:
    return any(name == "held back" for name, _ in changes)


def _told(reply: Reply) -> list[tuple[str, str]]:
    shot = reply.shot
    how = reply.cache if reply.complete else "left by the client" if shot.leaves else f"status {reply.status}"
    told = [
        ("mutation", shot.mutation),
        ("kind", shot.kind),
        ("answered", how or "no answer"),
        ("cache-control", shot.control or "none"),
        *(("habit", habit) for habit in shot.habits),
        ("form", "stream" if shot.stream else "whole"),
        ("scope", shot.place.scope),
        ("model", shot.place.model),
    ]
    if reply.complete and reply.reused:
        told += [("tier", reply.headers.get("x-askonce-tier", "")), ("reused", shot.mutation)]
    return told


async def outcome(options: Options, progress: Progress, command: Sequence[str] = _GATEWAY) -> Outcome:
    """Run everything; `command` starts the gateway. Ends at the first wrong answer. Raises `BenchError`."""
    async with _prepared(options, command) as run:
        started = said_at = time.monotonic()
        for planned in Planner(options).rounds():
            await run.round(planned)
            found = run.outcome
            found.wrong, found.missed = run.ledger.wrong, run.ledger.missed
            found.possible, found.unwritten = run.ledger.possible, run.ledger.unwritten
            found.seconds = time.monotonic() - started
            if time.monotonic() - said_at > 2 or not found.sound:  # noqa: PLR2004 -- seconds between two lines
                said_at = time.monotonic()
                progress(_line(found))
            if not found.sound:
                break
        return run.outcome


def _line(found: Outcome) -> str:
    rate = f"{len(found.missed)} of {found.possible} possible hits missed"
    return (
        f"{found.requests} of {found.options.requests} requests in {found.seconds:.0f} s:"
        f" {len(found.wrong)} wrong answers, {len(found.errors)} errors, {rate}"
    )


@asynccontextmanager
async def _prepared(options: Options, command: Sequence[str]) -> AsyncGenerator[_Run]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ao-", ignore_cleanup_errors=True)))
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        words = ("-m", "gateway.bench.differential.oracle", str(listening.fileno()))
        stack.enter_context(processes.running(words, fds=(listening.fileno(),)))
        oracle = f"127.0.0.1:{listening.getsockname()[1]}"
        site = Site(folder, oracle, options.workers, command)
        connector = aiohttp.TCPConnector(limit=0)
        session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120))
        async with session:
            run = _Run(options, site, oracle, session)
            await run._order(Orders(weights=run._befalling.weights))
            try:
                await site.start()
                yield run
            finally:
                await site.stop()
