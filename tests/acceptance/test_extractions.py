"""`/v1/extractions` over HTTP: a text and a recipe in, records with their places out; again for nothing."""

import json
from typing import Any

import httpx
import openai
import pytest

from tests.acceptance.extracting import FIRST, MEDICINE, NOTE, RECIPE, Asked, Make, answer_to, chunk_of, events, words
from tests.acceptance.in_thread import MODEL

STRANGE = {**RECIPE, "classes": {"medicine": {"dose": {"pattern": "x"}}}}
FOUND = [(found[1], found[2], found.start()) for found in MEDICINE.finditer(NOTE)]


@pytest.fixture
def ask(gateway: Make) -> Asked:
    """A gateway of this test's own, and its model."""
    return Asked(gateway())


def test_records_say_where_they_stand_and_who_said_so(ask: Asked) -> None:
    """Class, words, attributes and place; and the answer, the chunk and the model that each came from."""
    run = ask.made()
    assert run["status"] == "completed"
    assert words(run) == FOUND
    for one in run["records"]:
        assert NOTE[one["start"] : one["end"]] == one["quote"] == one["text"]
        assert (one["class"], one["verbatim"], one["fits"], one["alignment"]) == ("medicine", True, True, "match_exact")
        said = one["provenance"]
        chunk = run["chunks"][said["chunk"]["index"]]
        assert chunk["start"] <= one["start"] < one["end"] <= chunk["end"]
        record = httpx.get(ask.gateway.url + said["record"]).json()
        assert record["key"] == said["key"]
        assert record["prompt_hash"] == said["prompt_hash"]
        assert (said["model"], said["engine"], said["pass"], said["attempt"]) == (MODEL, "scripted", 1, 1)
        assert (said["cache"], said["tier"], said["langextract"]) == ("miss", "backend", "1.7.1")
        assert said["parameters"] == {"temperature": 0, "seed": None, "max_tokens": 4096, "constrained": True}
    assert run["counts"]["records"] == run["counts"]["verbatim"] == 3


def test_a_second_run_asks_nobody_and_finds_the_same(ask: Asked) -> None:
    """Its rows are identical, and its records say that they come from memory."""
    first = ask.made()
    asked = len(ask.model.asked)
    again = ask.made()
    assert len(ask.model.asked) == asked
    assert words(again) == words(first)
    assert {one["provenance"]["tier"] for one in again["records"]} == {"memory"}
    assert [one["provenance"]["key"] for one in again["records"]] == [
        one["provenance"]["key"] for one in first["records"]
    ]
    assert again["usage"]["askonce"] == {"calls": 0, "saved_tokens": 10 * asked}
    assert again["id"] != first["id"]
    assert again["document"] == first["document"]


def test_it_is_found_again_as_it_was_given(ask: Asked) -> None:
    """Under its id, and among the others."""
    run = ask.made(metadata={"ward": "3"})
    assert ask.found(run["id"]).json() == run
    ask.made(text="Only Barprol 1 mg.")
    found = httpx.get(ask.url, params={"document_id": run["document"]["id"]}).json()
    assert [one["id"] for one in found["data"]] == [run["id"]]
    assert found["data"][0]["metadata"] == {"ward": "3"}
    assert [one["counts"]["records"] for one in httpx.get(ask.url).json()["data"]] == [1, 3]


def test_an_edited_paragraph_alone_is_asked_about(ask: Asked) -> None:
    """What was not touched is not computed again."""
    paragraphs = [f"Day {day}: Drug{day:03}prol {day} mg, and nothing else of note that day." for day in range(60)]
    ask.made(text="\n\n".join(paragraphs), chunk_chars=300)
    before = len(ask.model.asked)
    paragraphs[30] = "Day 30: Otherprol 7 mg instead, which was well tolerated by everybody who had it."
    run = ask.made(text="\n\n".join(paragraphs), chunk_chars=300)
    assert before > 10
    assert len(ask.model.asked) - before <= 2
    assert len(run["records"]) == 60


def test_a_stream_tells_of_each_chunk(ask: Asked) -> None:
    """A set of records for every chunk, then how it ended; together what one reply would have said."""
    reply = ask(stream=True)
    said = events(reply.text)
    assert [one["type"] for one in said] == [
        "extraction.created",
        *["extraction.chunk"] * (len(said) - 2),
        "extraction.completed",
    ]
    streamed = [one for event in said[1:-1] for one in words(event)]
    assert sorted(streamed, key=lambda one: one[2]) == FOUND
    assert said[-1]["counts"]["records"] == 3
    assert ask.found(said[0]["id"]).json()["counts"] == said[-1]["counts"]
    assert reply.headers["x-askonce-extraction"] == said[0]["id"]


def test_in_the_background_it_goes_on_by_itself(ask: Asked) -> None:
    """Its progress can be asked for, its events be followed from the beginning at any time."""
    ask.model.holds = lambda _: True
    begun = ask.made(background=True)
    assert begun["status"] == "in_progress"
    assert ask.found(begun["id"]).json()["progress"]["done"] == 0
    ask.model.holds = lambda _: False
    run = ask.done(begun["id"])
    assert (run["status"], words(run)) == ("completed", FOUND)
    said = events(ask.found(begun["id"], "/events").text)
    assert said[-1]["type"] == "extraction.completed"
    assert sorted((one for event in said[1:-1] for one in words(event)), key=lambda one: one[2]) == FOUND


def test_what_was_cancelled_can_be_resumed(ask: Asked) -> None:
    """What was done stays done: only the rest is asked about."""
    ask.model.holds = lambda request: "Zanprol" not in chunk_of(request)
    begun = ask.made(background=True, parallel=1)
    _progressed(ask, begun["id"], 1)
    ended = httpx.post(f"{ask.url}/{begun['id']}/cancel").json()
    assert ended["status"] in ("cancelling", "cancelled")
    run = ask.done(begun["id"], "cancelled")
    assert words(run) == FOUND[:1]
    ask.model.holds, ask.model.asked = lambda _: False, []
    resumed = httpx.post(f"{ask.url}/{begun['id']}/resume")
    assert resumed.status_code == 202
    assert words(ask.done(begun["id"], "completed")) == FOUND
    assert FIRST not in ask.model.chunks
    again = httpx.post(f"{ask.url}/{begun['id']}/resume")
    assert (again.status_code, again.json()["error"]["code"]) == (400, "not_resumable")


def test_a_chunk_that_nobody_answers_costs_only_itself(ask: Asked) -> None:
    """The others are there, the reply says what is missing, and resuming asks about that alone."""
    ask.model.down_for = lambda request: "Zanprol" in chunk_of(request)
    run = ask.made()
    assert run["status"] == "incomplete"
    assert words(run) == FOUND[1:]
    failed = [chunk for chunk in run["chunks"] if chunk["status"] == "failed"]
    assert [call["error"]["code"] for chunk in failed for call in chunk["calls"]] == ["backend_unavailable"]
    ask.model.down_for, ask.model.asked = lambda _: False, []
    httpx.post(f"{ask.url}/{run['id']}/resume")
    told = events(ask.found(run["id"], "/events").text)[-1]
    resumed = ask.done(run["id"], "completed")
    assert words(resumed) == FOUND
    assert (told["type"], told["counts"]) == ("extraction.completed", resumed["counts"])
    assert ask.model.chunks == [FIRST]
    ask.made()
    assert ask.model.chunks == [FIRST], "it was asked otherwise than it would have been"


def test_when_nobody_answers_at_all_it_is_an_error(ask: Asked) -> None:
    """Of the backend's own kind, soon; the run is there, and can be resumed."""
    ask.model.down_for = lambda _: True
    reply = ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "backend_unavailable")
    assert ask.found(reply.headers["x-askonce-extraction"]).json()["status"] == "failed"
    (run,) = httpx.get(ask.url).json()["data"]
    assert (run["status"], run["error"]["code"]) == ("failed", "backend_unavailable")
    ask.model.down_for = lambda _: False
    httpx.post(f"{ask.url}/{run['id']}/resume")
    assert words(ask.done(run["id"], "completed")) == FOUND


def test_what_a_client_leaves_behind_is_kept(ask: Asked) -> None:
    """Its calls end, and what had been found can be found again."""
    ask.model.holds = lambda request: "Zanprol" not in chunk_of(request)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(ask.url, json={"model": MODEL, "recipe": RECIPE, "text": NOTE, "chunk_chars": 100}, timeout=1.5)
    run = ask.done(httpx.get(ask.url).json()["data"][0]["id"], "cancelled")
    assert words(run) == FOUND[:1]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("I cannot help with that.", "refused"),
        ('{"extractions": [{"medicine": null}]}', "invalid"),
        ('{"extractions": [{"drug": "Zanprol", "drug_attributes": {}}]}', "invalid"),
        ('{"extractions": [{"medicine": "Zanprol", "medicine_attributes": {"dose": 10}}]}', "invalid"),
        ("", "invalid"),
    ],
)
def test_a_bad_answer_is_asked_for_again_with_what_is_wrong(ask: Asked, said: str, status: str) -> None:
    """Once, and the second answer counts; both are kept, so that a second run asks nobody."""
    ask.model.say = lambda request: said if len(request.prompt["messages"]) == 1 else answer_to(chunk_of(request))
    run = ask.made(text="Started Zanprol 10 mg.")
    assert words(run) == FOUND[:1]
    (chunk,) = run["chunks"]
    assert [(call["status"], call["chosen"]) for call in chunk["calls"]] == [(status, False), ("ok", True)]
    assert chunk["calls"][0]["problems"]
    messages = ask.model.asked[1].prompt["messages"]
    assert messages[1] == {"role": "assistant", "content": said}
    assert chunk["calls"][0]["problems"][0] in messages[2]["content"]
    ask.made(text="Started Zanprol 10 mg.")
    assert len(ask.model.asked) == 2


def test_a_model_that_never_says_it_well_is_not_asked_for_ever(ask: Asked) -> None:
    """As often as `attempts` says; what can be used of it is, and marked."""
    ask.model.say = lambda _: '{"extractions": [{"medicine": "Zanprol", "medicine_attributes": {"dose": 10}}]}'
    run = ask.made(text="Started Zanprol 10 mg.", attempts=3)
    assert len(ask.model.asked) == 3
    assert [call["status"] for call in run["chunks"][0]["calls"]] == ["invalid"] * 3
    (record,) = run["records"]
    assert (record["fits"], record["attributes"], record["start"]) == (False, {"dose": 10}, 8)
    assert run["counts"]["invalid"] == run["counts"]["unfit"] == 1


def test_an_answer_that_is_cut_short_is_asked_for_with_more_room(ask: Asked) -> None:
    """What was complete in it is there if that does not help."""
    cut = '{"extractions": [{"medicine": "Zanprol", "medicine_attributes": {"dose": "10 mg"}}, {"medicine": "Gl'
    ask.model.say, ask.model.finish = lambda _: cut, lambda _: "length"
    run = ask.made(text="Started Zanprol 10 mg.", max_tokens=50)
    assert [request.params["max_tokens"] for request in ask.model.asked] == [50, 100]
    assert run["records"][0]["provenance"]["parameters"]["max_tokens"] == 100
    assert run["counts"]["truncated"] == 1
    assert words(run) == FOUND[:1]


def test_words_that_are_not_in_the_text_have_no_place(ask: Asked) -> None:
    """They are there, they are counted, and no part of the text is said to be theirs."""
    said = [{"medicine": "Madeupprol", "medicine_attributes": {"dose": ""}}]
    ask.model.say = lambda _: json.dumps({"extractions": said})
    run = ask.made(text="Started Zanprol 10 mg.")
    (record,) = run["records"]
    assert (record["start"], record["end"], record["quote"], record["verbatim"]) == (None, None, None, False)
    assert (run["counts"]["unaligned"], run["counts"]["ok"]) == (1, 1)


def test_each_pass_is_a_question_of_its_own(ask: Asked) -> None:
    """With a seed and a temperature; what it finds beside the first pass's records is added, and told apart."""
    first = {"extractions": [{"medicine": "Zanprol", "medicine_attributes": {"dose": "10 mg"}}]}
    ask.model.say = lambda request: json.dumps(first) if request.params["temperature"] == 0 else answer_to(NOTE)
    run = ask.made(text=NOTE, chunk_chars=1000, passes=3)
    assert [(one["text"], one["provenance"]["pass"]) for one in run["records"]] == [
        ("Zanprol", 1),
        ("Glyprol", 2),
        ("Glyprol", 2),
    ]
    assert [(request.params["temperature"], request.params.get("seed")) for request in ask.model.asked] == [
        (0, None),
        (0.7, 1),
        (0.7, 2),
    ]
    assert len({one["key"] for chunk in run["chunks"] for one in chunk["calls"]}) == 3
    ask.made(text=NOTE, chunk_chars=1000, passes=3)
    assert len(ask.model.asked) == 3


def test_the_text_before_a_chunk_can_be_shown_with_it(ask: Asked) -> None:
    """As LangExtract shows it."""
    ask.made(context_chars=10)
    shown = {chunk_of(request): request.prompt["messages"][0]["content"] for request in ask.model.asked}
    (second,) = (prompt for chunk, prompt in shown.items() if chunk.startswith("Nothing"))
    assert "[Previous text]" not in shown[FIRST]
    assert f"\n[Previous text]: ...{FIRST[-10:]}\n\nExamples\n" in second


def test_a_conversation_and_a_kept_document_can_be_read_too(ask: Asked) -> None:
    """A document is named by its id; of a conversation it is the words."""
    kept = httpx.post(f"{ask.gateway.url}/v1/documents", json={"text": NOTE, "metadata": {"of": "me"}}).json()
    assert (kept["characters"], kept["metadata"]) == (len(NOTE), {"of": "me"})
    assert words(ask.made(text=None, document_id=kept["id"])) == FOUND
    messages = [
        {"role": "user", "content": "Took Zanprol 10 mg."},
        {"role": "assistant", "content": [{"type": "text", "text": "Fine."}]},
    ]
    run = ask.made(text=None, messages=messages)
    assert [one[:2] for one in words(run)] == [("Zanprol", "10 mg")]
    text = httpx.get(f"{ask.gateway.url}/v1/documents/{run['document']['id']}").json()["text"]
    assert text == "Took Zanprol 10 mg.\n\nFine."


def test_what_is_deleted_is_gone(ask: Asked) -> None:
    """A run with its records; a document with its runs."""
    one, other = ask.made(), ask.made()
    assert httpx.delete(f"{ask.url}/{one['id']}").json()["deleted"]
    assert ask.found(one["id"]).status_code == 404
    assert ask.found(other["id"]).status_code == 200
    document = f"{ask.gateway.url}/v1/documents/{one['document']['id']}"
    assert httpx.delete(document).status_code == 200
    assert (httpx.get(document).status_code, ask.found(other["id"]).status_code) == (404, 404)
    assert words(ask.made()) == FOUND


def test_who_wants_nothing_stored_has_nothing_stored(ask: Asked) -> None:
    """Neither the text nor a record nor an answer."""
    run = ask.made({"cache-control": "no-store"})
    assert (words(run), run["stored"]) == (FOUND, False)
    assert ask.found(run["id"]).status_code == 404
    assert httpx.get(f"{ask.gateway.url}/v1/documents/{run['document']['id']}").status_code == 404
    asked = len(ask.model.asked)
    ask.made()
    assert len(ask.model.asked) == 2 * asked


def test_without_the_database_records_are_found_all_the_same(ask: Asked) -> None:
    """And the reply says that they are not kept. What would have to be found again is refused."""
    pool = ask.gateway.parts.extraction.extractor._store._pool

    async def cut() -> None:
        pool.terminate()

    ask.gateway.run(cut())
    run = ask.made()
    assert (words(run), run["stored"], run["status"]) == (FOUND, False, "completed")
    refused = ask(background=True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable")
    assert ask.found(run["id"]).status_code == 503


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"text": None}, "text", "invalid_value"),
        ({"text": " \n"}, "text", "invalid_value"),
        ({"document_id": "doc_1"}, "document_id", "invalid_value"),
        ({"recipe": None}, "recipe", "missing_field"),
        ({"recipe": "clinic-nots"}, "recipe", "unknown_recipe"),
        ({"recipe": {"description": "x"}}, "recipe.examples", "invalid_recipe"),
        ({"recipe": STRANGE}, "recipe.classes.medicine.dose", "invalid_recipe"),
        ({"chunk_chars": 0}, "chunk_chars", "invalid_value"),
        ({"passes": 99}, "passes", "invalid_value"),
        ({"chunk_size": 500}, "chunk_size", "unknown_parameter"),
        ({"model": "nobody"}, "model", "model_not_found"),
        ({"stream": True, "background": True}, "stream", "invalid_value"),
        ({"text": None, "document_id": "doc_" + "0" * 32}, "document_id", "not_found"),
        ({"text": None, "messages": []}, "messages", "invalid_value"),
        ({"metadata": {"a": "x" * 70_000}}, "metadata", "invalid_value"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(ask: Asked, fields: dict[str, Any], param: str | None, code: str) -> None:
    """By name, before anybody is asked."""
    reply = ask(**fields)
    assert 400 <= reply.status_code < 500
    error = reply.json()["error"]
    assert (error["param"], error["code"]) == (param, code), error
    assert ask.model.asked == []


@pytest.mark.parametrize("rest", ["", "/events", "/view", "/jsonl"])
def test_what_is_not_there_is_not_found(ask: Asked, rest: str) -> None:
    """Whatever is asked of it."""
    reply = ask.found("ext_" + "0" * 32, rest)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
    assert ask.found("x'--", rest).status_code == 404


def test_a_completion_and_records_in_one_reply(ask: Asked) -> None:
    """From OpenAI's client: the answer as ever, what was extracted beside it, and both for nothing the second time."""
    ask.model.say = lambda request: "Take Zanprol 10 mg." if _is_chat(request) else answer_to(chunk_of(request))
    asking: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What now? I had Barprol 5 mg."}],
        "temperature": 0,
    }
    client = ask.gateway.client()
    reply = client.chat.completions.create(**asking, extra_body={"extract": {"recipe": RECIPE}})
    assert reply.choices[0].message.content == "Take Zanprol 10 mg."
    assert words(reply.model_extra["extraction"]) == [("Zanprol", "10 mg", 5)]
    asked = len(ask.model.asked)
    again = client.chat.completions.create(**asking, extra_body={"extract": {"recipe": RECIPE}})
    assert words(again.model_extra["extraction"]) == [("Zanprol", "10 mg", 5)]
    other = client.chat.completions.create(**asking)
    assert (other.choices[0].message.content, len(ask.model.asked)) == ("Take Zanprol 10 mg.", asked)
    chunks = list(client.chat.completions.create(**asking, stream=True, extra_body={"extract": {"recipe": RECIPE}}))
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == "Take Zanprol 10 mg."
    assert words(chunks[-1].model_extra["extraction"]) == [("Zanprol", "10 mg", 5)]
    said = client.chat.completions.create(**asking, extra_body={"extract": {"recipe": RECIPE, "source": "messages"}})
    assert [one[0] for one in words(said.model_extra["extraction"])] == ["Barprol"]


def _is_chat(request: Any) -> bool:
    return "\nA: " not in request.prompt["messages"][0]["content"]


def test_an_answer_is_given_though_nothing_can_be_extracted(ask: Asked) -> None:
    """And the reply says why; what is wrong with the request is said before anybody is asked."""
    ask.model.say = lambda request: "Take Zanprol 10 mg."
    ask.model.down_for = lambda request: not _is_chat(request)
    client = ask.gateway.client()
    asking: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
    reply = client.chat.completions.create(**asking, extra_body={"extract": {"recipe": RECIPE}})
    assert reply.choices[0].message.content == "Take Zanprol 10 mg."
    assert reply.model_extra["extraction"]["status"] == "failed"
    assert reply.model_extra["extraction"]["error"]["code"] == "backend_unavailable"
    ask.model.asked = []
    for extract, param in (
        ({"recipe": "nothing"}, "extract.recipe"),
        (7, "extract"),
        ({"recipe": RECIPE, "of": 1}, "extract.of"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**asking, extra_body={"extract": extract})
        assert refused.value.param == param
    assert ask.model.asked == []


def _progressed(ask: Asked, name: str, done: int) -> None:
    for _ in range(200):
        if ask.found(name).json()["progress"]["done"] >= done:
            return
