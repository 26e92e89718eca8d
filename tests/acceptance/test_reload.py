"""Settings read again while askonce serves: by a signal or over HTTP, in all workers, and nobody who asks is harmed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.serving import ROOT
from tests.fleet.crowd import Crowd
from tests.fleet.site import Replica, Site, running
from tests.kills import counting


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Two workers, two replicas that take their time, and a third that is not in the settings yet."""
    third = Replica("c", first_s=0.01, step_s=0.01)
    third.start()
    try:
        slow = [Replica(name, first_s=0.05, step_s=0.05) for name in "ab"]
        with running(*slow, options=("--workers", "2")) as site:
            site.replicas.append(third)
            yield site
    finally:
        third.close()


def names(site: Site) -> set[str]:
    """The replicas that a worker has."""
    shown = httpx.get(f"{site.served.url}/admin/backends").json()["data"]
    return {replica["name"] for replica in shown}


def reloaded(site: Site) -> httpx.Response:
    """Have the settings read again."""
    return httpx.post(f"{site.served.url}/admin/reload", timeout=30)


def until(is_so: Any) -> None:
    """Wait for it."""
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_bad_file_is_refused_whole_with_its_line(site: Site) -> None:
    """By HTTP to who asks, by a signal in the log; nothing changes."""
    good, bad = site.settings(*site.replicas[:2]), site.settings(site.replicas[2]) + 'weight = "heavy"\n'
    site.write(bad)
    said = reloaded(site)
    assert (said.status_code, said.json()["error"]["code"]) == (400, "invalid_settings")
    assert f"{site.file}, line 7: " in said.json()["error"]["message"]
    os.kill(site.served.pid, signal.SIGHUP)
    until(lambda: "refused" in site.served.text)
    assert "line 7" in site.served.text
    assert names(site) == {"a", "b"}
    site.write(f"port = 1\n{good}")
    # The port of the command line holds, so that this changes nothing; another data folder would.
    assert reloaded(site).json()["changed"] == []
    site.write(f"slots = 9\n{good}")
    assert "`slots` cannot be changed" in reloaded(site).json()["error"]["message"]
    site.file.rename(away := site.file.with_suffix(".away"))
    assert "No such file" in reloaded(site).json()["error"]["message"]
    away.rename(site.file)
    site.write(good)


async def test_replicas_come_and_go_while_requests_run(site: Site) -> None:
    """What has begun on one that goes is finished there; new requests go to those that are."""
    async with Crowd(site.served.url, 50_000) as crowd:
        asking = asyncio.create_task(crowd.many(40))
        while sum(told.backend != "" for told in crowd.told) < 10:  # noqa: ASYNC110 -- the clients write it down
            await asyncio.sleep(0.01)
        site.write(site.settings(site.replicas[1], site.replicas[2]))
        said = await asyncio.to_thread(reloaded, site)
        assert (said.status_code, said.json()["changed"]) == (200, ["backends"])
        told = await asking
        assert {one.outcome for one in told} == {"whole"}
        assert "a" in {one.backend for one in told}
        before = site.replicas[0].calls
        assert {one.backend for one in await crowd.many(40)} == {"b", "c"}
        assert site.replicas[0].calls == before
    assert names(site) == {"b", "c"}


def test_a_signal_does_the_same(site: Site) -> None:
    """And the log says what has changed."""
    site.write(site.settings(*site.replicas[:2]))
    os.kill(site.served.pid, signal.SIGHUP)
    until(lambda: "changed: backends" in site.served.text)
    assert names(site) == {"a", "b"}


def test_models_shows_every_replica(site: Site) -> None:
    """A table for people."""
    words = [sys.executable, "-m", "gateway.cli", "models", "--url", site.served.url]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert all(word in shown for word in ("REPLICA", "a", "b", "vllm", "ready", "w1"))


def test_a_worker_that_starts_later_has_the_new_settings(site: Site) -> None:
    """Its parent tells it the last ones."""
    site.write(site.settings(site.replicas[2]))
    assert reloaded(site).status_code == 200
    for worker in psutil.Process(site.served.pid).children():
        if "gateway.worker" in worker.cmdline():
            worker.kill()
    until(lambda: _names_or_none(site) == {"c"})
    body = counting.question("m", 60_000, stream=False)
    said = httpx.post(f"{site.served.url}/v1/chat/completions", json=body, timeout=30)
    assert counting.answer(60_000) in said.text
    assert said.headers["x-askonce-backend"] == "c"


def _names_or_none(site: Site) -> set[str] | None:
    try:
        return names(site)
    except httpx.HTTPError:
        return None
