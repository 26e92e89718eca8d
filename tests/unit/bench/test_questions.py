"""The differential test's generator: its labels say truly what is the same question, and a seed says everything."""

import json
import random

import pytest

from gateway.bench.differential import answers, client, meaning, questions, writing
from gateway.bench.differential.answers import Wants
from gateway.bench.differential.plan import Options, Planner
from gateway.bench.differential.questions import CHANGES, Asked

KINDS = (meaning.CHAT, meaning.COMPLETION, meaning.EMBEDDING)


def digest(kind: str, body: dict[str, object]) -> bytes:
    """What a body means."""
    return meaning.digest(kind, "alpha", "w1", body)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(1, 13))
def test_every_change_makes_another_question(kind: str, number: int) -> None:
    """All values of all fields differ from each other, but for what models never see."""
    plain = Asked(kind, number)
    changed = [plain.changed(name, i) for name in CHANGES[kind] for i in range(len(CHANGES[kind][name]))]
    told = [one for one in changed if one.as_heard == one]
    assert len({digest(kind, one.body()) for one in (plain, *told)}) == 1 + len(told)
    assert {digest(kind, one.body()) for one in changed if one.as_heard == plain} <= {digest(kind, plain.body())}


@pytest.mark.parametrize("kind", KINDS)
def test_no_habit_changes_the_question(kind: str) -> None:
    """However a body is written, alone and together with any other habit."""
    chance = random.Random(1)
    for number in range(1, 200):
        asked = questions.drawn(kind, number, chance)
        habits = tuple(chance.sample(sorted(writing.HABITS[kind]), 3))
        written = json.loads(writing.written(kind, asked.body(), habits, chance))
        assert digest(kind, written) == digest(kind, asked.body()), habits


def test_changes_can_be_made_together() -> None:
    """Whatever is drawn is a body; two that are drawn with other labels ask for something else."""
    chance = random.Random(2)
    seen: dict[bytes, Asked] = {}
    for number in range(2000):
        asked = questions.drawn(chance.choice(KINDS), number % 50, chance)
        assert seen.setdefault(digest(asked.kind, asked.body()), asked.as_heard) == asked.as_heard


def test_a_seed_says_everything() -> None:
    """The same seed, the same rounds, down to the bytes; another seed, others."""

    def planned(seed: int) -> list[object]:
        options = Options(requests=600, seed=seed, round_size=100)
        rounds = list(Planner(options).rounds())
        keys = {tenant: ["a", "b"] for tenant in ("acme", "rival", "brief", "strict")}
        return [rounds, [client.request(shot, keys, seed) for one in rounds for shot in one.shots]]

    assert planned(1) == planned(1)
    assert planned(1) != planned(2)


def test_an_answer_has_every_form() -> None:
    """Over many questions: tool calls, refusals, reasoning, several choices, each with an end of its own."""
    wants = Wants(meaning.CHAT, choices=2, tools=True, alternatives=1)
    said = [answers.answer(bytes([i]) * 32, wants) for i in range(60)]
    steps = [step for one in said for step in one.steps]
    for name in ("content", "reasoning", "refusal", "tool_calls", "logprobs"):
        assert any(getattr(step, name) for step in steps), name
    for one in said:
        assert sorted(step.index for step in one.steps if step.finish_reason) == [0, 1]
        assert answers.answer(b"\x00" * 32, wants) == said[0]
