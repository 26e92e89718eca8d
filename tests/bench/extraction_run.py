"""A real askonce that is asked to extract, and what it is asked: long texts, edits of them, and short notes."""

import contextlib
import random
import re
import shutil
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final

import httpx
import msgspec

from extractors.grounded import Grounded
from gateway.config import BackendConfig
from gateway.models.training import notes, prompts
from gateway.models.training.notes import CLASSES, Domain
from tests.acceptance.serving import Served, short_folder
from tests.extraction.expected import found
from tests.extraction.gold import Note

PATIENCE_S: Final = 600.0
_FIELDS: Final = {
    "medication": ("dosage", "frequency"),
    "invoice": ("amount", "due_date"),
    "condition": (),
    "vendor": (),
}
_BUCKET: Final = re.compile(r'^askonce_loop_lag_seconds_bucket\{le="(.+?)"\} (\S+)$', re.MULTILINE)
_PARAGRAPH: Final = re.compile(r"(?:(?!(?:\r?\n){2}).)+", re.DOTALL)
_SENTENCE: Final = re.compile(r"\S.*?(?:。|\.(?=\s|\Z))\s*", re.DOTALL)
_EDITS: Final = ("replace", "insert", "delete")

Recipe = dict[str, Any]
Buckets = Mapping[float, float]
"""Of a histogram: by the end of each bucket how many are below it."""


class Run(msgspec.Struct, frozen=True):
    """A reply, and how long it took."""

    seconds: float
    said: dict[str, Any]

    @property
    def records(self) -> list[Grounded]:
        """What was found."""
        return [
            Grounded(
                name=one["class"], text=one["text"], attributes=one["attributes"], start=one["start"], end=one["end"]
            )
            for one in self.said["records"]
        ]

    @property
    def told(self) -> list[dict[str, Any]]:
        """All that is said of the records, but for when and from where they were served."""
        return [one | {"provenance": one["provenance"]["key"]} for one in self.said["records"]]

    @property
    def keys(self) -> list[str]:
        """Of the answers, in the order of the text."""
        return [call["key"] for chunk in self.said["chunks"] for call in chunk["calls"]]

    def expect(self, note: Note) -> None:
        """End the program unless everything came out that is in the note, and nothing else."""
        if self.said["status"] != "completed" or found(self.records) != found(note.records):
            sys.exit(f"What came out is not what was put in: {self.said['status']}, {self.said['counts']}")


class Site:
    """An askonce before one backend, and its only client."""

    def __init__(self, server: Served, model: str) -> None:
        self._server = server
        self._model = model
        self._client = httpx.Client(timeout=PATIENCE_S, trust_env=False)

    def extract(self, text: str, recipe: Recipe, **fields: Any) -> Run:
        """What is extracted."""
        content = msgspec.json.encode({"model": self._model, "text": text, "recipe": recipe, **fields})
        began = time.perf_counter()
        reply = self._client.post(f"{self._server.url}/v1/extractions", content=content, headers=_JSON)
        seconds = time.perf_counter() - began
        if reply.status_code != 200:
            sys.exit(f"askonce said {reply.status_code}: {reply.text}")
        return Run(seconds, reply.json())

    def record(self, key: str) -> dict[str, Any]:
        """What is kept of an answer."""
        return self._client.get(f"{self._server.url}/v1/cache/{key}").raise_for_status().json()

    def lag(self) -> dict[float, float]:
        """How late its loop was, since it began."""
        said = self._client.get(f"{self._server.url}/metrics").text
        return {float(end): float(count) for end, count in _BUCKET.findall(said)}

    def restart(self) -> None:
        """As who operates it does."""
        self._server.stop()
        self._server.start()


_JSON: Final = {"content-type": "application/json"}


@contextmanager
def site(backend: BackendConfig) -> Generator[Site]:
    """One on a folder of its own, until the block ends."""
    folder = short_folder()
    server = Served(folder, env={"ASKONCE_BACKENDS": msgspec.json.encode([backend]).decode()})
    try:
        yield Site(server.start(), backend.served_name)
    finally:
        with contextlib.suppress(AssertionError):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def since(before: Buckets, after: Buckets) -> dict[float, float]:
    """What has come to a histogram."""
    return {end: after[end] - before[end] for end in after}


def quantile(buckets: Buckets, share: float) -> tuple[float, tuple[float, float]]:
    """The value that a share of all do not exceed, as if they lay evenly in its bucket; where that begins and ends."""
    wanted = share * max(buckets.values())
    for (start, below), (end, count) in pairwise([(0.0, 0.0), *sorted(buckets.items())]):
        if count >= wanted and count > below:
            within = (wanted - below) / (count - below)
            return (start if end == float("inf") else start + within * (end - start)), (start, end)
    return 0.0, (0.0, 0.0)


def edited(note: Note, chance: random.Random) -> Note:
    """The note with a sentence of one paragraph replaced, left out, or put in; its records move along."""
    paragraphs = [list(_SENTENCE.finditer(note.text, *part.span())) for part in _PARAGRAPH.finditer(note.text)]
    sentence = chance.choice(chance.choice([some for some in paragraphs if len(some) > 1]))
    manner = chance.choice(_EDITS)
    start, end = sentence.start(), sentence.start() if manner == "insert" else sentence.end()
    words = "" if manner == "delete" else f"Seen again in room {chance.randrange(1000)}, all well. "
    return replaced(note, start, end, words)


def replaced(note: Note, start: int, end: int, words: str) -> Note:
    """The note with other words at a place. What stood there is no record any more."""
    shift = len(words) - (end - start)
    return Note(
        note.text[:start] + words + note.text[end:],
        tuple(
            record if stop <= start else msgspec.structs.replace(record, start=begin + shift, end=stop + shift)
            for record in note.records
            if record.place
            for begin, stop in [record.place]
            if stop <= start or begin >= end
        ),
    )


def held_out(number: int) -> tuple[Recipe, Note]:
    """A recipe and a short note of whose names and words the bundled model has seen nothing."""
    chance = random.Random(f"end to end:{number}")
    domain: Domain = chance.choice(("clinical", "invoices"))
    written = notes.note(chance, "held_out", domain, findings=chance.choices((0, 1, 2, 3), (10, 30, 35, 25))[0])
    shots = [
        notes.note(chance, "held_out", domain, findings=chance.choice((1, 1, 1, 2)))
        for _ in range(chance.choices((1, 2), (70, 30))[0])
    ]
    description = prompts.description(chance, "held_out", domain, None)
    return recipe(domain, description, shots), Note(written.text, records(written))


def joined(number: int, count: int) -> tuple[Recipe, str]:
    """So many such notes as one text, and a recipe with one example for them."""
    chance = random.Random(f"joined:{number}")
    written = [notes.note(chance, "held_out", "clinical", findings=chance.choice((1, 2, 3))) for _ in range(count + 1)]
    description = prompts.description(chance, "held_out", "clinical", None)
    return recipe("clinical", description, written[:1]), "\n\n".join(one.text for one in written[1:])


def recipe(domain: Domain, description: str, shots: Sequence[notes.Note]) -> Recipe:
    """The records of a domain, with examples."""
    return {
        "description": description,
        "classes": {kind: {field: {"type": "string"} for field in _FIELDS[kind]} for kind in CLASSES[domain]},
        "examples": [
            {
                "text": shot.text,
                "records": [
                    {"class": one.kind, "text": one.text, "attributes": dict(one.attributes)} for one in shot.records
                ],
            }
            for shot in shots
        ],
    }


def records(written: notes.Note) -> tuple[Grounded, ...]:
    """The records of a note, which are named in their order, with their places."""
    made: list[Grounded] = []
    for one in written.records:
        start = written.text.index(one.text, made[-1].end or 0 if made else 0)
        end = start + len(one.text)
        made.append(Grounded(name=one.kind, text=one.text, attributes=dict(one.attributes), start=start, end=end))
    return tuple(made)
