"""Options in, an outcome out: every round asked of a real gateway at once, judged, and followed by what befalls it."""

import asyncio
import contextlib
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
from gateway.bench.differential import calls, client, meaning
from gateway.bench.differential.befalling import Befalling
from gateway.bench.differential.client import Reply
from gateway.bench.differential.ledger import Ledger, Wrong
from gateway.bench.differential.oracle import Orders
from gateway.bench.differential.plan import EVENTS, UPSETS, Options, Planner, Round
from gateway.bench.differential.questions import Asked
from gateway.bench.differential.site import Site
from gateway.bench.processes import BenchError

LANES: Final = 16
REPLY_TIMEOUT_S: Final = 120.0
_ROUND_MAX: Final = 500
_LIVE_WEIGHTS_EVERY: Final = 50_000
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
    questions: int = 0
    """Different ones: each of a place, a model and its weights."""
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

    def __init__(self, options: Options, site: Site, oracle: str) -> None:
        self.outcome = Outcome(options=options)
        self.ledger = Ledger()
        self._site = site
        self._befalling = Befalling(site, self.ledger, self.order, options.seed)
        self._oracle = oracle
        self._labels: dict[tuple[str, str, bytes], Asked] = {}

    async def round(self, planned: Round) -> None:
        """Ask everything in `planned`, judge the replies, and let happen what is to."""
        befalling = self._befalling
        await self.order(self._faults(planned))
        replies = await self._asked(planned)
        self._note(planned, replies)
        taken = self.ledger.heard(replies, befalling.upset_until)
        await befalling.taken_back(taken)
        for reply in replies:
            if reply.complete and (said := client.mistake(reply)):
                self.ledger.wrong.append(Wrong(said, reply, self.ledger.whose(reply)))
        self.ledger.judge(replies)
        self._count(replies)
        touched = {item for reply in replies for item in calls.items(reply.shot, reply.weights)}
        await befalling.after(planned, touched)
        self.outcome.counts.setdefault("befallen", Counter()).update(befalling.count())

    async def _asked(self, planned: Round) -> list[Reply]:
        """Everybody's replies; in the middle of it the round's upset."""
        befalling, seed = self._befalling, self.outcome.options.seed
        waiting, replies = list(reversed(planned.shots)), list[Reply]()
        half = len(waiting) // 2
        befalling.begin()

        async def lane(session: aiohttp.ClientSession) -> None:
            while waiting:
                if len(waiting) <= half and not befalling.begun:
                    await befalling.upset(planned)
                    continue
                shot = waiting.pop()
                await befalling.up.wait()
                content = client.request(shot, self._site.keys, seed)
                weights = befalling.weights[shot.place.model]
                url = f"http://{self._site.address}"
                replies.append(await client.sent(session, url, content, shot, weights))

        # Connections of a round's own: those of the last one may lead to a worker that was killed since.
        async with _session() as session, asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(lane(session))
        return replies

    def _faults(self, planned: Round) -> Orders:
        faults: dict[str, list[Any]] = {}
        for index, kinds in planned.faults:
            shot = planned.shots[index]
            (digest, *_) = client.digests(shot, self._befalling.weights[shot.place.model])
            if shot.kind != meaning.EMBEDDING:
                faults[digest.hex()] = list(kinds)
        return Orders(weights=self._befalling.weights, faults=faults)

    @property
    def weights(self) -> dict[str, str]:
        """Those of every model now."""
        return self._befalling.weights

    async def order(self, orders: Orders) -> None:
        """Tell the oracle."""
        url = f"http://{self._oracle}/orders"
        async with _session() as session, session.post(url, data=msgspec.json.encode(orders)) as response:
            await response.read()

    def _note(self, planned: Round, replies: Sequence[Reply]) -> None:
        """Check the generator's own labels, and tell faults that were ordered from those that were not."""
        failing = {bytes.fromhex(digest) for digest in self._faults(planned).faults}
        self.outcome.requests += len(replies)
        for reply in replies:
            shot = reply.shot
            self._check_labels(reply)
            if reply.complete or shot.leaves or reply.fault == "":
                continue
            refused = "not_cached" in reply.fault and shot.control == "only-if-cached"
            if refused or self._befalling.excuses(reply) or not failing.isdisjoint(client.digests(shot, reply.weights)):
                continue
            self.outcome.errors.append(reply)

    def _count(self, replies: Sequence[Reply]) -> None:
        counts = self.outcome.counts
        for reply in replies:
            again = self.ledger.asked_again(reply)
            for table, name in _told(reply, "coalesced, then asked again" if again else reply.cache):
                counts.setdefault(table, Counter())[name] += 1

    def _check_labels(self, reply: Reply) -> None:
        """Raise `BenchError` when questions that the generator takes for different ask for the same."""
        shot = reply.shot
        for asked, digest in zip(shot.asked, client.digests(shot, reply.weights), strict=True):
            seen = self._labels.setdefault((shot.place.model, reply.weights, digest), asked.as_heard)
            if asked.as_heard != seen:
                raise BenchError(f"The generator takes two equal bodies for different: {asked} and {seen}.")


def _told(reply: Reply, answered: str) -> list[tuple[str, str]]:
    shot = reply.shot
    how = answered if reply.complete else "left by the client" if shot.leaves else f"status {reply.status}"
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


def sized(requests: int, seed: int) -> Options:
    """As many requests in rounds of a size that lets everything happen, but not too often."""
    rounds = max(len(EVENTS), requests // _ROUND_MAX)
    options = Options(
        requests=requests,
        seed=seed,
        round_size=-(-requests // rounds),
        live_weights=requests // _LIVE_WEIGHTS_EVERY,
    )
    if rounds > len(EVENTS):
        return options
    # Starting takes long: where everything happens once, a restart with new weights and a kill are enough of it.
    events, upsets = EVENTS.copy(), UPSETS.copy()
    del events["restart"], upsets["restart"], upsets["kill everything"]
    return msgspec.structs.replace(options, events=events, upsets=upsets)


async def outcome(options: Options, progress: Progress, command: Sequence[str] = _GATEWAY) -> Outcome:
    """Run everything; `command` starts the gateway. Ends at the first wrong answer. Raises `BenchError`."""
    async with _prepared(options, command) as run:
        started = said_at = time.monotonic()
        for planned in Planner(options).rounds():
            await run.round(planned)
            found = run.outcome
            found.wrong, found.missed = run.ledger.wrong, run.ledger.missed
            found.possible, found.unwritten = run.ledger.possible, run.ledger.unwritten
            found.questions = run.ledger.questions
            found.seconds = time.monotonic() - started
            if time.monotonic() - said_at > 2 or not found.sound:
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
        run = _Run(options, site, oracle)
        await run.order(Orders(weights=run.weights))
        try:
            await site.start()
            yield run
        finally:
            await site.stop()


def _session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=REPLY_TIMEOUT_S)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
