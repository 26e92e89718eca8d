"""The differential test's own judgement: what may be given, what must be, and what was said wrongly."""

import itertools
import math
from typing import Any

import msgspec
import pytest

from gateway.bench.differential import answers, calls, client, meaning
from gateway.bench.differential.answers import Wants
from gateway.bench.differential.calls import Item, Taken
from gateway.bench.differential.client import Reply
from gateway.bench.differential.ledger import Ledger
from gateway.bench.differential.plan import BRIEF_S, Place, Shot
from gateway.bench.differential.questions import Asked
from gateway.bench.differential.site import Kept

_numbers = itertools.count(1)
ASKED = Asked(meaning.CHAT, 1)


def shot(scope: str = "acme", asked: Asked = ASKED, **fields: Any) -> Shot:
    """A request."""
    given: dict[str, Any] = {"mutation": "text", "habits": (), "tenant": "acme"} | fields
    return Shot(number=next(_numbers), place=Place(scope, "alpha"), asked=(asked,), **given)


def answered(asked: Shot, began: float, cache: str = "miss", origin: str = "", **fields: Any) -> Reply:
    """A whole and right reply that took a tenth of a second."""
    headers = {"x-askonce-cache": cache, "x-askonce-key": key(asked), "x-askonce-origin-id": origin}
    given: dict[str, Any] = {"status": 200, "id": f"reply {next(_numbers)}", "headers": headers} | fields
    reply = Reply(shot=asked, weights="w1", began=began, ended=began + 0.1, **given)
    said = answers.answer(client.digests(asked, "w1")[0], Wants.of(asked.kind, client.body_of(asked)))
    reply.steps = reply.steps or (said.steps if asked.stream else (answers.folded(said.steps, 0),))
    reply.usage = reply.usage or (said.prompt_tokens, said.completion_tokens)
    return reply


def key(asked: Shot) -> str:
    """A key of the question's own."""
    return meaning.digest(asked.place.scope, "", "", {"asked": msgspec.to_builtins(asked.asked)}).hex()


def judged(*replies: Reply, before: Ledger | None = None) -> Ledger:
    """What a ledger makes of `replies`, all heard in one round."""
    found = before or Ledger()
    found.heard(replies, upset_until=0.0)
    found.judge(replies)
    return found


def test_an_equal_request_must_hit() -> None:
    """A miss after an answer is a missed hit; while the first is under way it is none."""
    first = answered(shot(), 10.0)
    assert judged(first, answered(shot(), 11.0, "hit", first.id)).missed == []
    found = judged(answered(shot(), 10.0), answered(shot(), 11.0), answered(shot(), 10.05))
    assert (found.possible, len(found.missed)) == (1, 1)


@pytest.mark.parametrize(
    "other", [shot("rival"), shot(asked=ASKED.changed("seed", 0)), shot(asked=ASKED.changed("words", 0))], ids=str
)
def test_another_questions_answer_is_wrong(other: Shot) -> None:
    """Another tenant's, too, although its words are the same."""
    first = answered(other, 10.0)
    (wrong,) = judged(first, answered(shot(), 11.0, "hit", first.id)).wrong
    assert (wrong.what, wrong.other) == ("the answer to another question", other)


def test_an_answer_of_nobody_is_wrong() -> None:
    """Unless somebody asked who did not hear the answer."""
    lost = answered(shot(), 10.0, status=0, fault="cut")
    assert judged(answered(shot(), 11.0, "hit", "elsewhere")).wrong[0].what == "an answer that nobody was given before"
    assert judged(lost, answered(shot(), 11.0, "hit", "elsewhere")).wrong == []


def test_what_was_not_to_be_kept_is_wrong() -> None:
    """`no-store` means it."""
    first = answered(shot(control="no-store"), 10.0)
    (wrong,) = judged(first, answered(shot(), 11.0, "hit", first.id)).wrong
    assert wrong.what == "an answer that was not to be kept"


def test_what_is_too_old_is_wrong() -> None:
    """By the tenant's policy and by the client's wish; a missed hit is only what was surely young enough."""
    first = answered(shot("brief"), 10.0)
    assert judged(first, answered(shot("brief"), 10.2 + BRIEF_S, "hit", first.id)).wrong
    first = answered(shot("brief"), 10.0)
    assert judged(first, answered(shot("brief"), 9.95 + BRIEF_S)).missed == []
    first = answered(shot(), 10.0)
    assert judged(first, answered(shot(control="max-age=2"), 12.2, "hit", first.id)).wrong


def test_what_was_taken_back_is_wrong_from_then_on() -> None:
    """Until every worker knows it may be given, and need not."""
    found, first = Ledger(), answered(shot(), 10.0)
    judged(first, before=found)
    found.take(Taken(covers=lambda _: True, sent=11.0), settled=12.0)
    judged(answered(shot(), 11.5, "hit", first.id), before=found)
    assert found.wrong == []
    judged(answered(shot(), 12.5), before=found)
    assert found.missed == []
    judged(answered(shot(), 13.0, "hit", first.id), before=found)
    assert [wrong.what for wrong in found.wrong] == ["an answer that had been taken back"]


def test_what_is_taken_back_is_what_was_named() -> None:
    """By key, model, tag, prompt or everything, and always in one scope."""
    asked = ASKED.changed("seed", 0)
    item = Item(Place("acme", "alpha"), "w1", asked)

    def covers(selector: Any, other: Shot) -> bool:
        found = Ledger()
        judged(answered(other, 1.0), before=found)
        return bool(found.covered(Taken(covers=calls.covering(selector, item, "web"), sent=math.inf)))

    same, cousin, tagged = shot(asked=asked), shot(asked=asked.changed("seed", 1)), shot(tags=("web",))
    words = shot(asked=asked.changed("words", 1))
    assert [covers("key", other) for other in (same, cousin, words)] == [True, False, False]
    assert [covers("prompt_hash", other) for other in (same, cousin, words)] == [True, True, False]
    assert [covers("tag", other) for other in (same, tagged)] == [False, True]
    assert [covers("model", other) for other in (same, words)] == [True, True]
    assert not any(covers(selector, shot("rival", asked)) for selector in ("key", "model", "prompt_hash", "all"))


def test_a_shared_key_is_wrong() -> None:
    """Even before it has made a wrong answer; and so is a second key of one question."""
    one, other = answered(shot(), 10.0), answered(shot("rival"), 11.0)
    other.headers["x-askonce-key"] = one.headers["x-askonce-key"]
    assert judged(one, other).wrong[0].other is one.shot
    again = answered(shot(), 12.0)
    again.headers["x-askonce-key"] = "another"
    assert judged(one, again).wrong[0].what == "the same question has two keys"


def test_what_an_upset_may_have_cost_is_no_missed_hit() -> None:
    """An answer that was not written when a worker was killed; one that is in a tier must be found."""
    found, first = Ledger(), answered(shot(), 10.0)
    found.heard([first], upset_until=10.5)
    judged(answered(shot(), 11.0), before=found)
    assert found.missed == []
    kept = Kept(first.id, 0)
    found = judged(first)
    ((_, (item, new)),) = found.unsettled(()).items()
    assert new
    assert found.settle(item, kept, kept, 10.8)
    found.lost(redis=True)
    judged(answered(shot(), 11.0), before=found)
    assert len(found.missed) == 1
    found.lost(postgres=True)
    judged(answered(shot(), 12.0), before=found)
    assert len(found.missed) == 1


def test_every_part_of_an_answer_is_compared() -> None:
    """Its words, where they were cut, its end, its choices and its usage."""
    streamed = answered(shot(stream=True), 1.0)
    assert client.mistake(streamed) == client.mistake(answered(shot(), 1.0)) == ""
    first, second, *rest = streamed.steps
    joined = msgspec.structs.replace(first, content=first.content + second.content)
    for steps in ((joined, *rest), streamed.steps[:-1], streamed.steps[::-1], (*streamed.steps, first)):
        assert client.mistake(answered(shot(stream=True), 1.0, steps=steps)) == "other steps"
    assert client.mistake(answered(shot(), 1.0, usage=(1, 10_000))) == "another usage"
    assert client.mistake(answered(shot(asked=ASKED.changed("n", 0)), 1.0)) != ""
