"""The gold is gold: its places are right, and what is done to it without a model loses nothing."""

import unicodedata

import msgspec
import pytest

from extractors.reading import read
from extractors.recipe import shipped
from extractors.scoring import scores
from extractors.splitting import split
from tests.extraction.gold import Note, note, notes

NOTES = notes(50)
LARGE = note(7, 200_000)


@pytest.mark.parametrize("made", [*NOTES, LARGE])
def test_every_record_is_where_it_is_said_to_be(made: Note) -> None:
    """Letter for letter, in the order of the text."""
    assert all(record.verbatim(made.text) for record in made.records)
    places = [record.place or (0, 0) for record in made.records]
    assert places == sorted(places)


def test_it_has_what_readers_stumble_over() -> None:
    """All of it, in fifty notes."""
    text = "".join(made.text for made in NOTES)
    for part in ("\r\n", "阿司匹林", "👩‍⚕️", "| Drug |", "## Visit"):
        assert part in text
    assert unicodedata.normalize("NFC", text) != text
    assert any(made.text.count(record.text) > 1 for made in NOTES for record in made.records), "nothing is named twice"
    assert note(3) == note(3) != note(4)


@pytest.mark.parametrize("made", [*NOTES, LARGE])
def test_no_record_is_divided(made: Note) -> None:
    """Each is whole within one part, whatever the parts' size."""
    for most in (200, 1000, 4000):
        starts = {span.start for span in split(made.text, most)}
        for record in made.records:
            assert not any(at in starts for at in range((record.start or 0) + 1, record.end or 0))


def test_what_a_perfect_model_says_of_every_part_is_all_there_is() -> None:
    """Said in the form of the shipped recipe, read, and put back to its place: strict, overlap and attributes are 1."""
    recipe = shipped()["clinic-notes"]
    assert recipe.classes.keys() >= {record.name for record in LARGE.records}
    found = []
    for span in split(LARGE.text, 1000):
        inside = [one for one in LARGE.records if span.start <= (one.start or 0) and (one.end or 0) <= span.end]
        items = [{one.name: one.text, f"{one.name}_attributes": one.attributes} for one in inside]
        reading = read(msgspec.json.encode({"extractions": items}).decode(), "stop")
        assert reading.status == ("ok" if inside else "empty")
        found += [
            msgspec.structs.replace(one, text=said.text, attributes=said.attributes)
            for one, said in zip(inside, reading.said, strict=True)
        ]
    made = scores(LARGE.records, found)
    assert (made.strict.f1, made.overlap.f1, made.attributes.f1) == (1.0, 1.0, 1.0)
    assert made.strict.wanted > 1000
