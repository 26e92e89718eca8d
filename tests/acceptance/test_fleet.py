"""Three replicas behind one name, each a process: whatever becomes of one, clients get the answer or a clear error."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from storage.embedded import clients
from tests.fleet.crowd import Crowd, wrong
from tests.fleet.site import Replica, Site, running
from tests.kills import counting

TIMEOUTS = {"connect_timeout_s": 5, "first_token_timeout_s": 2, "between_tokens_timeout_s": 2, "total_timeout_s": 20}
BEFORE_THE_FIRST_STEP = (
    *("html", "garbage", "half json", "error with 200", "error event", "nothing", "empty stream", "half"),
    *("500", "503", "401", "404", "storm", "hang", "loris", "slow head", "deaf"),
)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A gateway and its replicas."""
    with running(*(Replica(name, first_s=0.01) for name in "abc"), **TIMEOUTS) as site:
        yield site


@pytest.fixture
async def crowd(site: Site, request: pytest.FixtureRequest) -> AsyncIterator[Crowd]:
    """Clients with questions of their own; afterwards all replicas are well, and nothing partial was kept."""
    # Far apart: a fixture that waits for all replicas asks thousands, and what was asked once would be kept
    first = 100_000 * (1 + [item.nodeid for item in request.session.items].index(request.node.nodeid))
    async with Crowd(site.served.url, first) as crowd:
        yield crowd
        for replica in site.replicas:
            replica.close()
            replica.start()
        await all_back(site, crowd)
    assert wrong(crowd.told) == []
    await only_whole_answers(site)


async def all_back(site: Site, crowd: Crowd) -> None:
    """Wait until every replica is asked again."""
    async with asyncio.timeout(30):
        while {told.backend for told in await crowd.many(12)} != {replica.name for replica in site.replicas}:
            pass


async def only_whole_answers(site: Site) -> None:
    """Every row is the whole answer to its question."""
    data = site.served.data_dir
    async with clients.opened("", data.resolve()) as url:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch("select prompt_text, text, finish_reason from askonce.completions")
        finally:
            await connection.close()
    for row in rows:
        assert row["text"] == counting.answer(counting.number_in(row["prompt_text"]))
        assert row["finish_reason"] == "stop"


@pytest.mark.parametrize("mode", BEFORE_THE_FIRST_STEP)
async def test_one_that_gives_no_answer_costs_no_request(site: Site, crowd: Crowd, mode: str) -> None:
    """Others answer what it was asked; once it has been outdone often enough, it is left alone."""
    bad = site.replicas[0]
    bad.be(mode)
    told = await crowd.many(30)
    assert {one.outcome for one in told} == {"whole"}
    assert {one.backend for one in told} == {"b", "c"}


async def test_one_that_falls_silent_midway_ends_its_streams_with_an_error(site: Site, crowd: Crowd) -> None:
    """Those who were to be answered in one piece are answered by another."""
    site.replicas[0].be("stuck")
    told = await crowd.many(30)
    failed = [one for one in told if one.outcome != "whole"]
    assert {(one.outcome, one.code, one.backend, one.stream) for one in failed} == {
        ("error event", "between_tokens_timeout", "a", True)
    }


@pytest.mark.parametrize("mode", ["html", "hang", "storm", "deaf"])
async def test_when_all_fail_every_client_is_told_in_time(site: Site, crowd: Crowd, mode: str) -> None:
    """With a status of its own, and nothing is kept."""
    for replica in site.replicas:
        replica.be(mode)
    started = time.monotonic()
    told = await crowd.many(30)
    assert time.monotonic() - started < TIMEOUTS["total_timeout_s"]
    assert {one.outcome for one in told} == {"refused"}
    statuses = {"html": {502}, "hang": {504}, "storm": {429}, "deaf": {503, 504}}
    assert {one.status for one in told} <= statuses[mode]


async def test_a_mistake_of_the_client_is_asked_once(site: Site, crowd: Crowd) -> None:
    """400 as the server says it, from the first that is asked."""
    for replica in site.replicas:
        replica.be("400")
    before = sum(replica.calls for replica in site.replicas)
    told = await crowd.ask()
    assert (told.status, told.code) == (400, "backend_refused")
    assert sum(replica.calls for replica in site.replicas) == before + 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_one_that_is_killed_between_requests_is_not_missed(site: Site, crowd: Crowd, how: signal.Signals) -> None:
    """The others answer; when it is back, it does too."""
    site.replicas[0].kill(how)
    told = await crowd.many(30)
    assert {one.outcome for one in told} == {"whole"}
    assert {one.backend for one in told} == {"b", "c"}
    site.replicas[0].start()
    await all_back(site, crowd)


async def test_new_weights_never_give_old_answers(site: Site, crowd: Crowd) -> None:
    """All replicas are replaced while nobody asks: what was kept of the old ones is not given any more."""
    (old,) = await crowd.many(1)
    assert (await crowd.ask(old.number)).outcome == "whole"
    for replica in site.replicas:
        replica.kill()
    for replica in site.replicas:
        replica.start("w2")
    await all_back(site, crowd)
    before = sum(replica.calls for replica in site.replicas)
    assert (await crowd.ask(old.number)).outcome == "whole"
    assert sum(replica.calls for replica in site.replicas) == before + 1
