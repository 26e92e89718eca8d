"""The corpus: seeded, split without overlap, and with gold that its own text bears out."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.models.training import corpus, facts, names, notes, prompts

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", ["chat", "copy", "extraction"])
def test_same_seed_gives_same_examples(kind: corpus.Kind) -> None:
    """And another seed gives others."""
    assert corpus.held_out(kind, 20, seed=3) == corpus.held_out(kind, 20, seed=3)
    assert corpus.held_out(kind, 20, seed=3) != corpus.held_out(kind, 20, seed=4)


def test_examples_do_not_depend_on_the_interpreters_hash_seed() -> None:
    """Two interpreters that hash strings differently make the same examples."""
    code = (
        "from gateway.models.training import corpus\n"
        "print([corpus.held_out(kind, 10, seed=3) for kind in ('chat', 'copy', 'extraction')])"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(said[0]) > 1000
    assert said[0] == said[1]


def test_coined_names_of_the_splits_are_disjoint() -> None:
    """A name that is asked for when measuring was never seen in training."""
    rng = random.Random(1)
    trained = {names.coined(rng, "train") for _ in range(3000)}
    held_out = {names.coined(rng, "held_out") for _ in range(3000)}
    assert not trained & held_out


def test_copied_texts_of_the_splits_are_disjoint() -> None:
    """Copying is measured on texts that were never trained on."""
    rng = random.Random(2)
    trained = {corpus.copy_example(rng, "train").answer for _ in range(2000)}
    held_out = {corpus.copy_example(rng, "held_out").answer for _ in range(2000)}
    assert not trained & held_out


def test_held_out_questions_are_never_worded_as_in_training() -> None:
    """Questions are measured in words of their own."""
    rng = random.Random(3)
    trained = {facts.fact(rng, "train")[0] for _ in range(20_000)}
    held_out = {facts.fact(rng, "held_out")[0] for _ in range(2000)}
    assert not trained & held_out


def test_held_out_task_descriptions_are_never_trained_on() -> None:
    """Neither are the descriptions of a task."""
    rng = random.Random(4)
    asks: tuple[tuple[notes.Domain, str | None], ...] = (("clinical", None), ("invoices", "vendor"))
    for domain, ask in asks:
        trained = {prompts.description(rng, "train", domain, ask) for _ in range(5000)}
        assert not trained & {prompts.description(rng, "held_out", domain, ask) for _ in range(500)}


def test_gold_spans_stand_in_the_note_in_order() -> None:
    """Each record's text follows that of the one before, and every attribute is there too."""
    for example in corpus.held_out("extraction", 300):
        end = 0
        for record in example.records:
            start = example.note.index(record.text, end)
            assert all(value in example.note for _, value in record.attributes)
            end = start + len(record.text)


def test_answer_is_the_compact_json_of_the_records() -> None:
    """In their order, without a space."""
    for example in corpus.held_out("extraction", 100):
        items = json.loads(example.answer)["extractions"]
        assert [item[record.kind] for item, record in zip(items, example.records, strict=True)] == [
            record.text for record in example.records
        ]
        assert json.dumps({"extractions": items}, ensure_ascii=False, separators=(",", ":")) == example.answer


def test_some_notes_hold_nothing() -> None:
    """Saying so is learnt as well, but is not the usual answer."""
    answers = [example.answer for example in corpus.held_out("extraction", 200)]
    assert 5 < answers.count('{"extractions":[]}') < 80


def test_prompt_is_laid_out_as_langextract_does() -> None:
    """The description, the examples as questions and answers, then the question."""
    text = prompts.layout("Find it.", [("a", "{}"), ("b", "[]")], "c")
    assert text == "Find it.\n\nExamples\nQ: a\nA: {}\n\nQ: b\nA: []\n\nQ: c\nA: "


def test_chat_text_folds_the_system_prompt_into_the_first_turn() -> None:
    """As Gemma's chat template does."""
    messages = (corpus.Message("system", "Be kind."), corpus.Message("user", " Hi "))
    expected = "<bos><start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\n"
    assert corpus.chat_text(messages) == expected


def test_counting_counts() -> None:
    """Up to the number that was asked for."""
    question, answer = facts.counting(random.Random(5), "train")
    last = int(re.findall(r"\d+", question)[-1])
    assert answer.split(", ") == [str(number) for number in range(1, last + 1)]
