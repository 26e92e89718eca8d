"""What models say that nobody meant, what clients want that does not go together, and backends that know less."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.errors import BackendRefused
from tests.acceptance.extracting import FIRST, RECIPE, Asked, Make, answer_to, chunk_of, events, words
from tests.acceptance.in_thread import MODEL
from tests.acceptance.test_extractions_kept import rows

DEEP = '{"extractions": [{"medicine": "Zanprol", "medicine_attributes": {"dose": ' + "[" * 300 + "]" * 300 + "}}]}"
HALF = '{"extractions": [{"\\ud800": "a", "\\ud800": "b"}]}'
OWN = '{"extractions": [{"extraction_class": "_", "extraction_text": "a"}]}'
LINES = [
    f"Day {day:02}: Drug{day:02}prol {day} mg, and nothing else of note was written down on that long day."
    for day in range(30)
]


@pytest.fixture
def ask(gateway: Make, tmp_path: Path) -> Asked:
    """A gateway of this test's own, with a folder of recipes."""
    return Asked(gateway(recipes_dir=tmp_path, data_dir=tmp_path))


@pytest.mark.parametrize("said", [DEEP, HALF, OWN, "[" * 100_000, "[1]" * 50_000])
@pytest.mark.parametrize("attempts", [1, 2])
def test_whatever_a_model_says_costs_its_chunk_alone(ask: Asked, said: str, attempts: int) -> None:
    """The others are there, and so is an answer beside it."""
    ask.model.say = lambda request: said if FIRST in chunk_of(request) else answer_to(chunk_of(request))
    run = ask.made(attempts=attempts)
    assert run["status"] == "completed"
    assert [one[0] for one in words(run)] == ["Glyprol", "Glyprol"]
    assert run["chunks"][0]["status"] in ("invalid", "truncated", "refused")
    assert ask.found(run["id"]).json() == run


def test_what_is_kept_is_given_though_much_is_not(ask: Asked) -> None:
    """`only-if-cached` asks nobody, and goes on after what is not kept."""
    ask.made(text="\n\n".join(LINES[:3]))
    ask.made(text="\n\n".join(LINES[-3:]))
    ask.model.asked = []
    run = ask.made({"cache-control": "only-if-cached"}, text="\n\n".join(LINES))
    assert ask.model.asked == []
    assert run["status"] == "incomplete"
    assert {one[0] for one in words(run)} >= {"Drug00prol", "Drug29prol"}
    assert {call["error"]["code"] for chunk in run["chunks"] for call in chunk["calls"] if call["error"]} == {
        "not_cached"
    }


def test_chunks_that_were_never_asked_about_are_told(ask: Asked) -> None:
    """Where nobody answers any more the rest is not asked about; each is there, as pending, and can be resumed."""
    ask.model.down_for = lambda request: "Day 00" not in chunk_of(request)
    run = ask.made(text="\n\n".join(LINES), parallel=1, attempts=1)
    assert run["status"] == "incomplete"
    statuses = [chunk["status"] for chunk in run["chunks"]]
    assert len(statuses) == run["counts"]["chunks"]
    assert statuses.count("pending") == run["counts"]["pending"] > 0
    assert (
        run["progress"]["done"] == run["counts"]["chunks_done"] == ask.found(run["id"]).json()["progress"]["done"] == 1
    )
    ask.model.down_for = lambda _: False
    httpx.post(f"{ask.url}/{run['id']}/resume")
    assert len(words(ask.done(run["id"], "completed"))) == len(LINES)


def test_an_engine_that_knows_no_schemas_is_asked_without(ask: Asked) -> None:
    """And is remembered: a second run asks nobody."""

    def refuses(request: Any) -> bool:
        if "response_format" in request.prompt:
            message = "response_format is not supported"
            raise BackendRefused(message, status=400)
        return False

    ask.model.down_for = refuses
    run = ask.made(parallel=1)
    assert {one["provenance"]["parameters"]["constrained"] for one in run["records"]} == {False}
    asked = len(ask.model.asked)
    assert len(words(ask.made(parallel=1))) == 3
    assert len(ask.model.asked) == asked


def test_what_goes_on_without_its_client_has_to_be_kept(ask: Asked) -> None:
    """So nobody's text is kept who wanted nothing stored."""
    reply = ask({"cache-control": "no-store"}, background=True)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "background")
    assert httpx.get(ask.url).json()["data"] == []


def test_a_run_is_resumed_with_its_own_wishes(ask: Asked) -> None:
    """Who wanted only what is kept is not answered by the model later."""
    assert ask({"cache-control": "only-if-cached"}).json()["error"]["code"] == "not_cached"
    (run,) = httpx.get(ask.url).json()["data"]
    httpx.post(f"{ask.url}/{run['id']}/resume")
    ask.done(run["id"], "failed")
    assert ask.model.asked == []


def test_progress_is_told_from_the_first_reply_on(ask: Asked) -> None:
    """With how many chunks there are."""
    ask.model.holds = lambda _: True
    begun = ask.made(background=True)
    assert begun["progress"]["chunks"] == begun["counts"]["chunks"] == begun["counts"]["pending"] > 1
    ask.model.holds = lambda _: False
    assert ask.done(begun["id"], "completed")["counts"]["pending"] == 0
    assert events(ask(stream=True).text)[0]["progress"]["chunks"] > 1


def test_no_request_writes_into_the_view_of_a_saved_recipe(ask: Asked, database_url: str, tmp_path: Path) -> None:
    """Whatever it calls its own recipe."""
    (tmp_path / "pills.toml").write_text('description = "Extract."\n[classes.medicine]\ndose = { type = "string" }\n')
    ask.made(recipe="pills")
    before = rows(database_url, "select * from api.pills_medicine")
    ask.made(recipe={**RECIPE, "name": "pills"})
    assert rows(database_url, "select * from api.pills_medicine") == before != []


def test_a_run_that_is_deleted_meanwhile_is_not_said_to_be_kept(ask: Asked) -> None:
    """It ends, with what it had."""
    ask.model.holds = lambda request: FIRST not in chunk_of(request)
    with httpx.stream("POST", ask.url, json=_body(), timeout=30) as stream:
        lines = stream.iter_lines()
        name = stream.headers["x-askonce-extraction"]
        while "extraction.chunk" not in next(lines):
            pass
        while ask.found(name).status_code == 404:
            pass
        assert httpx.delete(f"{ask.url}/{name}").status_code == 200
        last = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")][-1]
    assert (last["status"], last["stored"]) == ("cancelled", False)


def _body() -> dict[str, Any]:
    from tests.acceptance.extracting import NOTE

    return {"model": MODEL, "recipe": RECIPE, "text": NOTE, "chunk_chars": 100, "stream": True}


def test_no_tenant_takes_all_the_room_there_is(ask: Asked) -> None:
    """Of runs that go on without their clients; who is one too many is told when to ask again."""
    ask.model.holds = lambda _: True
    begun = [ask(background=True, text=f"{FIRST} {number}") for number in range(33)]
    assert [reply.status_code for reply in begun] == [202] * 32 + [429]
    assert begun[-1].headers["retry-after"] == "5"
    ask.model.holds = lambda _: False
    for reply in begun[:-1]:
        ask.done(reply.json()["id"], "completed")
