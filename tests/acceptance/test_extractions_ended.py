"""How a run ended is told as it is kept, whenever somebody wants it to end; and nobody ends what he may not see."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.acceptance.extracting import NOTE, RECIPE, Asked, Make, chunk_of
from tests.acceptance.in_thread import MODEL


@pytest.fixture
def ask(gateway: Make) -> Asked:
    """A gateway of this test's own."""
    return Asked(gateway())


@contextmanager
def streamed(ask: Asked, **fields: Any) -> Iterator[Iterator[Any]]:
    """The events of a run, as they come."""
    body = {"model": MODEL, "recipe": RECIPE, "text": NOTE, "chunk_chars": 100, "stream": True, **fields}
    with httpx.stream("POST", ask.url, json=body, timeout=60) as reply:
        yield (json.loads(line.removeprefix("data: ")) for line in reply.iter_lines() if line.startswith("data: "))


def test_a_run_that_was_told_of_can_be_cancelled(ask: Asked) -> None:
    """From its first event on; its last one says what is found later."""
    ask.model.holds = lambda _: True
    with streamed(ask, parallel=1) as events:
        created = next(events)
        assert created["type"] == "extraction.created"
        assert httpx.post(f"{ask.url}/{created['id']}/cancel").json()["status"] == "cancelling"
        *_, last = events
    kept = ask.found(created["id"]).json()
    assert (last["type"], last["status"], kept["status"]) == ("extraction.cancelled", "cancelled", "cancelled")


def test_who_cancels_too_late_has_all_of_it(ask: Asked) -> None:
    """A run whose chunks are all answered is complete, and is so in the stream, in its rows and in the list."""
    ask.model.holds = lambda request: chunk_of(request).startswith("Glyprol")
    with streamed(ask, parallel=1) as events:
        created = next(events)
        while next(events)["type"] != "extraction.chunk":
            pass
        assert httpx.post(f"{ask.url}/{created['id']}/cancel").status_code == 200
        ask.model.holds = lambda _: False
        *_, last = events
    kept = ask.found(created["id"]).json()
    assert last["status"] == kept["status"]
    assert kept["status"] == ("cancelled" if kept["counts"]["pending"] else "completed")
    [listed] = httpx.get(ask.url).json()["data"]
    assert (listed["status"], listed["counts"]) == (kept["status"], kept["counts"])


def test_the_counts_of_a_run_under_way_are_its_calls(ask: Asked) -> None:
    """Until it ends only who counts them knows: a list says so, and not that there are none."""
    ask.model.holds = lambda _: True
    run = ask.made(background=True)
    [listed] = httpx.get(ask.url).json()["data"]
    assert listed["counts"] is None
    assert ask.found(run["id"]).json()["counts"]["records"] == 0
    ask.model.holds = lambda _: False
    ask.done(run["id"])


def test_answers_have_one_time(ask: Asked) -> None:
    """When the model was asked: the same for whoever is given the answer later."""
    first, again = ask.made(), ask.made()
    moments = [[one["provenance"]["answered_at"] for one in run["records"]] for run in (first, again)]
    assert moments[0] == moments[1]


def test_a_model_that_is_cut_off_is_told_of_that(ask: Asked) -> None:
    """Not that it wrote no JSON."""
    ask.model.say = lambda _: '{"extractions'
    ask.model.finish = lambda _: "length"
    [problem] = ask.made(attempts=1)["chunks"][0]["calls"][0]["problems"]
    assert problem == "The answer ends before it is complete; say less about each record."


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/api/chat", "/api/generate", "/v1/embeddings"])
def test_extract_is_refused_where_nobody_would_do_it(ask: Asked, path: str) -> None:
    """It is not passed over."""
    body = {"model": MODEL, "prompt": "a", "messages": [{"role": "user", "content": "a"}], "input": "a"}
    wanted = {"/v1/completions": ("model", "prompt"), "/api/generate": ("model", "prompt")}.get(path)
    names = wanted or (("model", "messages") if path == "/api/chat" else ("model", "input"))
    reply = httpx.post(ask.gateway.url + path, json={name: body[name] for name in names} | {"extract": "clinic-notes"})
    assert reply.status_code == 400
    assert "extract" in reply.text


def test_null_is_the_same_as_left_out_in_a_recipe(ask: Asked) -> None:
    """As Pydantic writes what was not set."""
    said = {**RECIPE, "title": None, "version": None, "schema": None}
    assert ask.made(recipe=said)["recipe"] == ask.made()["recipe"]


def test_what_refers_to_itself_is_told_so(ask: Asked) -> None:
    """As a model in Pydantic may."""
    node = {"type": "object", "properties": {"name": {"type": "string"}, "inner": {"$ref": "#/$defs/Node"}}}
    refused = ask(recipe={"description": "Find.", "schema": {"$defs": {"Node": node}, "$ref": "#/$defs/Node"}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "recipe.schema")
    assert "refers back" in refused.json()["error"]["message"]
