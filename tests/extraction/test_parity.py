"""What comes of completions here is what LangExtract makes of the very same ones."""

import json
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

import langextract as lx
import pytest
from langextract.core.base_model import BaseLanguageModel
from langextract.core.data import Document
from langextract.core.tokenizer import UnicodeTokenizer
from langextract.core.types import ScoredOutput

from extractors import framing
from extractors.recipe import from_data
from gateway.canonical import Request
from storage.entry import Chunk, Usage
from tests.acceptance.extracting import Asked, chunk_of
from tests.acceptance.in_thread import Gateway
from tests.extraction.gold import Note, notes

MOST = 300
SAID = {
    "description": "Extract medications and conditions.",
    "examples": [
        {
            "text": "Takes aspirin 10 mg.",
            "records": [
                {
                    "class": "medication",
                    "text": "aspirin",
                    "attributes": {"dosage": "10 mg", "frequency": "", "status": "taken"},
                }
            ],
        }
    ],
    "classes": {
        "medication": {name: {"type": "string"} for name in ("dosage", "frequency", "status")},
        "condition": {name: {"type": "string"} for name in ("status", "since")},
    },
}
RECIPE = from_data(SAID)


def completion(note: Note, chunk: str, chance: random.Random) -> str:
    """What a model may say of a chunk: mostly right, sometimes in other letters, out of order, twice, or made up."""
    items: list[dict[str, Any]] = []
    start = note.text.index(chunk)
    end = start + len(chunk)
    for record in note.records:
        if record.start is None or record.end is None or not (start <= record.start and record.end <= end):
            continue
        said = chance.choice([record.text] * 6 + [record.text.upper(), record.text + " tablets", record.text[1:]])
        items += [{record.name: said, f"{record.name}_attributes": record.attributes}] * chance.choice([1, 1, 1, 1, 2])
    if chance.random() < 0.2:
        items.insert(chance.randrange(len(items) + 1), {"condition": "nowhere to be found", "condition_attributes": {}})
    if chance.random() < 0.1:
        chance.shuffle(items)
    return json.dumps({"extractions": items}, ensure_ascii=False)


class Replay(BaseLanguageModel):
    """Says of each prompt what was said of it, first in the first pass, then in the next."""

    def __init__(self, said: dict[str, list[str]]) -> None:
        super().__init__()
        self._said = said
        self._count = Counter[str]()

    def infer(self, batch_prompts: Sequence[str], **kwargs: Any) -> Iterator[Sequence[ScoredOutput]]:
        """A prompt that is another than askonce's raises `KeyError`."""
        del kwargs
        for prompt in batch_prompts:
            yield [ScoredOutput(1.0, self._said[prompt][self._count[prompt]])]
            self._count[prompt] += 1


@pytest.fixture
def ask(gateway: Callable[..., Gateway]) -> Asked:
    """A gateway of this test's own."""
    return Asked(gateway())


@pytest.mark.parametrize("passes", [1, 2])
def test_records_are_langextracts_own(ask: Asked, passes: int) -> None:
    """Class, words, attributes, place and how that was found, for thirty notes that a model made mistakes with."""
    unaligned = inexact = 0
    for number, note in enumerate(notes(30, least=800)):
        said = said_of(ask, note, passes)
        run = ask.made(text=note.text, recipe=SAID, chunk_chars=MOST, passes=passes, attempts=1)
        ours = Counter(_ours(one) for one in run["records"])
        assert ours == Counter(_theirs(run, note, said, passes)), f"note {number}"
        unaligned += run["counts"]["unaligned"]
        inexact += sum(one["alignment"] not in (None, "match_exact") for one in run["records"])
    assert unaligned > 10, "no note had what is not there"
    assert inexact > 10, "no note had what is only nearly there"


def said_of(ask: Asked, note: Note, passes: int) -> dict[str, list[str]]:
    """What the model will have said of each prompt, pass by pass."""
    said: dict[str, list[str]] = {}

    async def complete(request: Request) -> AsyncGenerator[Chunk]:
        assert request.extraction is not None
        prompt = request.prompt["messages"][0]["content"]
        known = said.setdefault(prompt, [])
        while len(known) < passes:
            chance = random.Random(f"{prompt}:{len(known)}")
            known.append(completion(note, chunk_of(request), chance))
        yield Chunk(content=known[request.extraction.number - 1])
        yield Chunk(finish_reason="stop")
        yield Chunk(usage=Usage(1, 1, 0))

    ask.gateway.backend.complete = complete
    return said


def _theirs(run: Any, note: Note, said: dict[str, list[str]], passes: int) -> Iterator[tuple[Any, ...]]:
    """What `lx.extract` makes of the same chunks and the same completions."""
    places = [(chunk["start"], note.text[chunk["start"] : chunk["end"]]) for chunk in run["chunks"]]
    model = Replay(said)
    for start, chunk in places:
        (found,) = lx.extract(
            [Document(text=chunk)],
            prompt_description=framing.description(RECIPE),
            examples=framing.examples(RECIPE),
            model=model,
            max_char_buffer=MOST,
            extraction_passes=passes,
            resolver_params={"format_handler": framing.CompactFormat()},
            tokenizer=UnicodeTokenizer(),
            fence_output=False,
            use_schema_constraints=False,
            show_progress=False,
        )
        for one in found.extractions:
            place = one.char_interval
            yield (
                one.extraction_class,
                one.extraction_text,
                json.dumps(one.attributes),
                start + place.start_pos if place else None,
                start + place.end_pos if place else None,
                one.alignment_status.value if place else None,
            )


def _ours(record: Any) -> tuple[Any, ...]:
    attributes = json.dumps(record["attributes"])
    return (record["class"], record["text"], attributes, record["start"], record["end"], record["alignment"])
